"""What the running app is really set to, with the reason for each setting written down."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from rl.protocol import QUEUES, TASK_QUEUES

ROOT = Path(__file__).parents[2]
PROSE = {"broker_url", "task_queues", "task_routes", "beat_schedule"}
"""Settings whose value the page tells in words."""
NESTED = {"broker_transport_options", "task_publish_retry_policy"}


@pytest.fixture
def conf(broker: object) -> Any:
    from worker.app import app

    return app.conf


@pytest.fixture
def settings(broker: object) -> Mapping[str, object]:
    """What ``worker/config.py`` says, dictionaries of options one by one."""
    import worker.config

    return dict(flat(vars(worker.config)))


def flat(names: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    for name, value in names.items():
        if name in NESTED:
            assert isinstance(value, dict)
            yield from ((f"{name}.{key}", one) for key, one in value.items())
        elif re.fullmatch("[a-z][a-z_]+", name) and name != "annotations":
            yield name, value


def documented() -> dict[str, tuple[str, str]]:
    page = (ROOT / "docs/operations.md").read_text().split("## Celery settings")[1].split("Not set there")[0]
    rows = re.findall(r"^\| `([a-z_.]+)` \| (.+?) \| (.+?) \|$", page, re.MULTILINE)
    assert len(rows) == len({name for name, _, _ in rows}), "a setting is explained twice"
    return {name: (value, reason) for name, value, reason in rows}


def test_every_setting_is_explained_and_nothing_else_is(settings: Mapping[str, object]) -> None:
    assert set(documented()) == set(settings)


def test_the_page_says_the_values_that_hold(settings: Mapping[str, object]) -> None:
    shown = {name: value for name, (value, _) in documented().items() if name not in PROSE}
    assert shown == {name: f"`{value!r}`" for name, value in settings.items() if name not in PROSE}
    assert documented()["task_queues"][0] == ", ".join(f"`{queue}`" for queue in QUEUES)


def test_the_running_app_has_them(settings: Mapping[str, object], conf: Any) -> None:
    for name, value in settings.items():
        first, _, key = name.partition(".")
        if first != "broker_url":
            assert (conf[first][key] if key else conf[first]) == value, name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("task_acks_late", False),
        ("task_acks_on_failure", True),
        ("task_acks_on_timeout", True),
        ("task_reject_on_worker_lost", False),
        ("task_retry_on_worker_lost", False),
        ("worker_prefetch_multiplier", 1),
        ("worker_disable_prefetch", True),
        ("worker_cancel_long_running_tasks_on_connection_loss", False),
        ("worker_enable_soft_shutdown_on_idle", False),
        ("task_create_missing_queues", False),
        ("task_serializer", "json"),
        ("accept_content", ["json"]),
        ("result_accept_content", ["json"]),
        ("task_ignore_result", True),
        ("result_backend", None),
        ("worker_send_task_events", True),
        ("task_send_sent_event", True),
        ("broker_connection_retry_on_startup", True),
        ("broker_connection_max_retries", None),
        ("enable_utc", True),
        ("timezone", "UTC"),
    ],
)
def test_what_keeps_a_message_from_being_lost_or_doubled(conf: Any, name: str, value: object) -> None:
    assert conf[name] == value


def test_a_connection_that_is_half_open_is_noticed(conf: Any) -> None:
    options = conf.broker_transport_options
    assert (options["socket_timeout"], options["health_check_interval"], options["retry_on_timeout"]) == (10, 5, False)
    assert options["socket_keepalive"] is True
    assert options["global_keyprefix"] == "rlfleet:"
    assert options["unacked_restore_interval"] * options["unacked_restore_throttle"] == 10


def test_no_message_outlives_the_visibility_timeout(conf: Any) -> None:
    import tasks  # noqa: F401 - registers them
    from worker.app import app

    late = [task for task in (app.tasks[name] for name in TASK_QUEUES) if task.acks_late]
    assert [task.name for task in late] == ["rlfleet.train_window"]
    assert max(task.time_limit for task in late) * 5 <= conf.broker_transport_options["visibility_timeout"]


def test_a_caller_does_not_wait_long_for_a_broker_that_is_down(conf: Any) -> None:
    policy, options = conf.task_publish_retry_policy, conf.broker_transport_options
    tries = policy["max_retries"] + 1
    assert tries * options["socket_connect_timeout"] + policy["max_retries"] * policy["interval_max"] <= 3.5


def test_every_queue_exists_and_every_task_has_one(conf: Any) -> None:
    assert tuple(queue.name for queue in conf.task_queues) == QUEUES
    assert {queue.routing_key for queue in conf.task_queues} == set(QUEUES)
    assert conf.task_routes == {name: {"queue": queue} for name, queue in TASK_QUEUES.items()}
    assert conf.task_default_queue in QUEUES


def test_a_queue_that_does_not_exist_is_refused(broker: object) -> None:
    from celery.exceptions import QueueNotFound

    from worker.app import app

    with pytest.raises(QueueNotFound, match="gpus"):
        app.send_task("rlfleet.train", (1,), queue="gpus")
