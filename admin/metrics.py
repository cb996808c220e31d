"""The fleet's metrics for Prometheus: names, labels and meanings of what ``db.metrics`` reads."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily

from db.metrics import Row, Snapshot
from rl.protocol import QUEUES


@dataclass(frozen=True)
class Gauge:
    """One gauge: a value for each row of a query of ``db.metrics``, by ``labels``."""

    name: str
    meaning: str
    rows: str
    column: str
    labels: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    """Where labels have other names than their columns."""
    scale: float = 1.0

    def family(self, rows: list[Row]) -> Metric:
        """The gauge with the values of ``rows``; where there is none, nothing."""
        made = GaugeMetricFamily(self.name, self.meaning, labels=self.labels)
        for row in (one for one in rows if one[self.column] is not None):
            made.add_metric(
                [str(row[one]) for one in self.columns or self.labels], float(row[self.column]) * self.scale
            )
        return made


LINE_VERSION: Final = ("line", "version")
GAUGES: Final = (
    Gauge("rlfleet_jobs", "Jobs by state.", "jobs", "jobs", ("kind", "queue", "state")),
    Gauge("rlfleet_queue_due_jobs", "Jobs that could be claimed now.", "due", "jobs", ("queue", "kind")),
    Gauge(
        "rlfleet_queue_oldest_due_seconds",
        "How long the oldest due job waits.",
        "due",
        "oldest_seconds",
        ("queue", "kind"),
    ),
    Gauge("rlfleet_queue_capacity", "Tasks at once of the workers that are there.", "capacity", "tasks", ("queue",)),
    Gauge(
        "rlfleet_job_heartbeat_lag_seconds",
        "Longest time since a running job's last heartbeat.",
        "running",
        "lag_seconds",
        ("kind", "queue"),
    ),
    Gauge(
        "rlfleet_jobs_lease_expired",
        "Running jobs whose lease ran out and that nobody took back yet.",
        "running",
        "expired",
        ("kind", "queue"),
    ),
    Gauge(
        "rlfleet_gpu_idle_queued_seconds",
        "How long a gpu job has been due while none runs.",
        "idle",
        "seconds",
    ),
    Gauge(
        "rlfleet_worker_seen_seconds",
        "Time since the worker said that it is there.",
        "workers",
        "seconds",
        ("worker", "device"),
        ("name", "device"),
    ),
    Gauge(
        "rlfleet_engine_seen_seconds",
        "Time since the engine was announced or seen.",
        "engines",
        "seconds",
        ("engine", "device"),
        ("name", "device"),
    ),
    Gauge("rlfleet_windows", "Windows by state.", "windows", "windows", ("line", "state")),
    Gauge(
        "rlfleet_release_share_ratio",
        "Share of the line's agents that a live release or a pinned version gets.",
        "shares",
        "share",
        ("line", "stage", "version"),
        scale=0.01,
    ),
    Gauge(
        "rlfleet_canary_unwatched_seconds",
        "Time since the live canary's traffic was last looked at.",
        "canaries",
        "unwatched_seconds",
        LINE_VERSION,
    ),
    Gauge(
        "rlfleet_version_calls_last_hour",
        "Calls of agents that the version answered in the last hour.",
        "traffic",
        "calls",
        LINE_VERSION,
    ),
    Gauge(
        "rlfleet_version_call_failures_last_hour",
        "Calls of the last hour that the version failed.",
        "traffic",
        "failures",
        LINE_VERSION,
    ),
    Gauge(
        "rlfleet_training_tokens_per_second",
        "Trained tokens per second in the last step of the newest training.",
        "trainings",
        "tokens_per_second",
        LINE_VERSION,
    ),
    Gauge(
        "rlfleet_reward_mean_last_hour",
        "Mean reward of the trajectories collected in the last hour, of windows that ended in the last day.",
        "rewards",
        "reward",
        LINE_VERSION,
    ),
    Gauge(
        "rlfleet_rewarded_trajectories_last_hour",
        "How many trajectories with a reward that mean is of.",
        "rewards",
        "trajectories",
        LINE_VERSION,
    ),
    Gauge(
        "rlfleet_trajectories_last_day",
        "Trajectories of windows that ended in the last day.",
        "trajectories",
        "trajectories",
        ("line",),
    ),
    Gauge(
        "rlfleet_quarantined_rows",
        "Rows of sources that could not be used and are kept.",
        "quarantine",
        "quarantined",
        ("line",),
    ),
    Gauge(
        "rlfleet_alerts_waiting",
        "Alerts that not every receiver has taken, also where none is configured.",
        "alerts",
        "waiting",
        ("alert",),
        ("name",),
    ),
    Gauge(
        "rlfleet_alert_oldest_waiting_seconds",
        "Age of the oldest alert that was sent to a receiver and not taken.",
        "alerts",
        "oldest_seconds",
        ("alert",),
        ("name",),
    ),
    Gauge(
        "rlfleet_alerts_last_day",
        "Alerts that were raised in the last day.",
        "alerts",
        "last_day",
        ("alert",),
        ("name",),
    ),
    Gauge(
        "rlfleet_mirror_waiting",
        "Copies that a target could not be brought, or that somebody asked for, and that wait.",
        "mirrors",
        "waiting",
        ("target",),
    ),
    Gauge(
        "rlfleet_mirror_last_error_seconds",
        "Time since the last copy to a target failed that has not caught up.",
        "mirrors",
        "error_seconds",
        ("target",),
    ),
    Gauge("rlfleet_kind_paused", "1 while the kind of job is paused.", "pauses", "one", ("kind",)),
    Gauge("rlfleet_schema_info", "The revision of the database's tables.", "revision", "one", ("revision",)),
    Gauge("rlfleet_build_info", "The release of the admin server.", "build", "one", ("version",)),
)
ENDED: Final = ("succeeded", "failed", "dead", "cancelled")
OUTCOMES: Final = ("claimed", "skipped", "requested")
NAMES: Final = {
    *(gauge.name for gauge in GAUGES),
    "rlfleet_messages_total",
    "rlfleet_jobs_ended_total",
    "rlfleet_leases_lost_total",
    "rlfleet_job_recovery_seconds_count",
    "rlfleet_job_recovery_seconds_sum",
}
"""Every name that a scrape can show."""


class Collector:
    """Prometheus' custom collector over one snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._rows = dict(snapshot.rows) | _derived(snapshot.rows)
        self._counters = snapshot.counters

    def collect(self) -> Iterator[Metric]:
        """Every metric of the fleet."""
        for gauge in GAUGES:
            yield gauge.family(self._rows[gauge.rows])
        yield self._by_kind("rlfleet_messages", "Messages that reached a worker.", "messages", OUTCOMES)
        yield self._by_kind("rlfleet_jobs_ended", "Jobs that ended.", "jobs", ENDED)
        lost = CounterMetricFamily(
            "rlfleet_leases_lost", "Leases that ran out before their job ended.", labels=["kind"]
        )
        recovery = SummaryMetricFamily(
            "rlfleet_job_recovery_seconds", "From a lost lease that was noticed to the next claim.", labels=["kind"]
        )
        for kind in self._kinds():
            lost.add_metric([kind], self._count("leases_lost", kind))
            seconds = self._count("recovery_seconds", kind)
            recovery.add_metric([kind], int(self._count("recoveries", kind)), seconds)
        yield lost
        yield recovery

    def _by_kind(self, name: str, meaning: str, prefix: str, outcomes: tuple[str, ...]) -> Metric:
        made = CounterMetricFamily(name, meaning, labels=["kind", "outcome"])
        for kind in self._kinds():
            for outcome in outcomes:
                made.add_metric([kind, outcome], self._count(f"{prefix}_{outcome}", kind))
        return made

    def _kinds(self) -> list[str]:
        """A counter is shown from the first job of its kind on, so that its first increase is one."""
        return sorted({kind for _, kind in self._counters} | {str(row["kind"]) for row in self._rows["jobs"]})

    def _count(self, name: str, kind: str) -> float:
        return self._counters.get((name, kind), 0.0)


def _derived(rows: Mapping[str, list[Row]]) -> dict[str, list[Row]]:
    served = {row["queue"]: row["tasks"] for row in rows["capacity"]}
    since = next((row["seconds_ago"] for row in rows["busy"] if row["seconds_ago"] is not None), math.inf)
    oldest = max((float(row["oldest_seconds"]) for row in rows["due"] if row["queue"] == "gpu"), default=0.0)
    return {
        "idle": [{"seconds": max(0.0, min(oldest, float(since)))}],
        "capacity": [{"queue": queue, "tasks": served.get(queue, 0)} for queue in sorted({*QUEUES, *served})],
        "pauses": _ones(rows["pauses"]),
        "revision": _ones(rows["revision"]),
        "build": [{"version": _release(), "one": 1}],
    }


def _ones(rows: list[Row]) -> list[Row]:
    return [{**row, "one": 1} for row in rows]


def _release() -> str:
    try:
        return version("rlfleet")
    except PackageNotFoundError:
        return "unknown"


def text_of(snapshot: Snapshot, accept: str) -> tuple[bytes, str]:
    """The snapshot as a scraper that accepts ``accept`` reads it, and the content type."""
    from prometheus_client import CollectorRegistry
    from prometheus_client.exposition import choose_encoder

    registry = CollectorRegistry(auto_describe=False)
    collector: Any = Collector(snapshot)
    registry.register(collector)
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type
