"""The recorder: what an agent makes one of, and hands its episodes to."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from recorder import chat
from recorder.buffer import Drop
from recorder.counts import Counts, Stats, quiet
from recorder.ingest import MAX_BYTES, endpoint, warm_up
from recorder.pipeline import Options, Pipeline
from recorder.trajectory import Trajectory, end_event, marked, step_event
from recorder.values import compose, encode, encode_object, identifier, moment, number

LARGEST_EVENT = MAX_BYTES - 1_024
Client = TypeVar("Client")


class Recorder:
    """Sends what agents do to the gateway at ``url``, without ever raising into them or holding them up.

    Args:
        url: The gateway, like ``http://127.0.0.1:8300``.
        key: One of the gateway's keys; none for a gateway on this machine that has none.
        spool: A folder for events that wait; several processes may share it, all for the same gateway. Without one
            events wait in memory alone, and those that wait are lost with the process.
        line: The line that trajectories belong to.
        budget_seconds: How long an event may wait for room in the buffer before one is dropped.
        buffer_bytes: Memory for events that are not on disk yet.
        spool_bytes: Disk for events that are not answered yet, over all processes that share the folder.
        drop: Which events are lost when buffer or spool are full: ``newest`` keeps what was taken, ``oldest`` makes
            room for the new, even at the cost of flushed events.
        gzip: Whether requests are compressed.
        linger_seconds: How long events wait for others to share a request.
        exit_seconds: How long the end of the program may wait for the last events to be sent.

    Raises:
        ValueError: an argument that cannot be used.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        spool: str | Path | None = None,
        line: str = "main",
        budget_seconds: float = 0.05,
        buffer_bytes: int = 8 << 20,
        spool_bytes: int = 256 << 20,
        drop: Drop = "newest",
        gzip: bool = True,
        linger_seconds: float = 0.2,
        exit_seconds: float = 2.0,
    ) -> None:
        _positive(budget_seconds=budget_seconds, linger_seconds=linger_seconds, exit_seconds=exit_seconds)
        _positive(buffer_bytes=buffer_bytes, spool_bytes=spool_bytes)
        if drop not in ("newest", "oldest"):
            raise ValueError(f"drop = {drop!r}: must be 'newest' or 'oldest'")
        if key is not None and not (key.isascii() and key.isprintable()):
            raise ValueError("key: must be printable ASCII; its value is not shown")
        warm_up()
        self.line = line
        self.counts = Counts()
        options = Options(
            endpoint=endpoint(url),
            key=key,
            spool=None if spool is None else Path(spool).absolute(),
            budget_seconds=budget_seconds,
            buffer_bytes=buffer_bytes,
            spool_bytes=spool_bytes,
            drop=drop,
            is_gzip=gzip,
            linger_seconds=linger_seconds,
            exit_seconds=exit_seconds,
        )
        self._pipeline = Pipeline(options, self.counts)

    @property
    def stats(self) -> Stats:
        """What became of the events so far."""
        return self._pipeline.stats()

    def trajectory(
        self,
        *,
        agent_id: str,
        trajectory_id: str | None = None,
        scenario_id: str | None = None,
        window_id: str | None = None,
        archetype: str | None = None,
        consent: bool | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Trajectory:
        """Start an episode, to be used as a context manager. An id that cannot be used is replaced by a new one."""
        chosen = _usable(trajectory_id, "trajectoryId", self.counts) or uuid.uuid4().hex
        agent = _usable(agent_id, "agentId", self.counts) or "unknown"
        self.start_trajectory(
            chosen,
            agent_id=agent,
            scenario_id=scenario_id,
            window_id=window_id,
            archetype=archetype,
            consent=consent,
            metadata=metadata,
        )
        return Trajectory(self, chosen, agent)

    @quiet
    def start_trajectory(
        self,
        trajectory_id: str,
        *,
        agent_id: str,
        scenario_id: str | None = None,
        window_id: str | None = None,
        archetype: str | None = None,
        consent: bool | None = None,
        metadata: Mapping[str, Any] | None = None,
        started_at: datetime | float | None = None,
    ) -> None:
        """``startTrajectory``. Times are datetimes, or seconds since the epoch; None is this moment."""
        values = {
            "trajectoryId": identifier(trajectory_id, "trajectoryId", self.counts),
            "agentId": identifier(agent_id, "agentId", self.counts),
            "scenarioId": scenario_id,
            "windowId": window_id,
            "line": self.line,
            "archetype": archetype,
            "consent": consent,
        }
        objects = self._objects({"metadata": metadata})
        if values["trajectoryId"] is not None and values["agentId"] is not None:
            fields = {**self._encoded(values), "startedAt": moment(started_at), **objects}
            self.emit(compose("startTrajectory", fields))

    @quiet
    def record_step(
        self,
        trajectory_id: str,
        step_number: int,
        *,
        state: Mapping[str, Any] | None = None,
        action: Mapping[str, Any] | None = None,
        reward: float = 0.0,
        outcome: Mapping[str, Any] | None = None,
        llm_calls: Sequence[Mapping[str, Any]] | None = None,
        timestamp: datetime | float | None = None,
    ) -> None:
        """``recordStep``. ``action`` and ``llm_calls`` have the fields of the HTTP API."""
        if identifier(trajectory_id, "trajectoryId", self.counts) is None:
            return
        fields = self._objects({"environmentState": state, "action": action, "outcome": outcome})
        calls = None if llm_calls is None else encode(list(llm_calls), "llmCalls", self.counts)
        earned = number(reward, "reward", self.counts)
        fields = marked(fields) if earned is None else fields
        event = step_event(self.counts, trajectory_id, step_number, moment(timestamp), earned or 0.0, fields, calls)
        if event is not None:
            self.emit(event)

    @quiet
    def end_trajectory(
        self,
        trajectory_id: str,
        *,
        status: str = "completed",
        reward: float | None = None,
        metadata: Mapping[str, Any] | None = None,
        ended_at: datetime | float | None = None,
    ) -> None:
        """``endTrajectory``. The reward is the sum of the steps' unless it is given."""
        if identifier(trajectory_id, "trajectoryId", self.counts) is not None:
            self.emit(end_event(self.counts, trajectory_id, status, reward, metadata, ended_at))

    @quiet
    def feedback(
        self,
        value: float,
        *,
        trajectory_id: str | None = None,
        call_id: str | None = None,
        name: str = "rating",
        comment: str | None = None,
        author: str | None = None,
        feedback_id: str | None = None,
        at: datetime | float | None = None,
    ) -> None:
        """What somebody thought of an episode or of one call, as a finite number. Each call is feedback of its own,
        unless ``feedback_id`` says that it is the same.
        """
        found = number(value, "value", self.counts)
        if found is None:
            return
        if (trajectory_id is None) == (call_id is None):
            self.counts.bad("feedback", "needs either trajectory_id or call_id")
            return
        fields = self._encoded(
            {
                "feedbackId": feedback_id or uuid.uuid4().hex,
                "trajectoryId": trajectory_id,
                "callId": call_id,
                "name": name,
                "value": found,
                "comment": comment,
                "author": author,
            }
        )
        self.emit(compose("feedback", {**fields, "at": moment(at)}))

    def wrap(self, client: Client) -> Client:
        """Record what the OpenAI client (sync or async) is asked and says inside turns; the same client.

        Raises:
            TypeError: it has no ``chat.completions.create``.
        """
        return chat.wrap(client)

    def flush(self, timeout: float = 5.0) -> bool:
        """Whether everything recorded before is answered by the server or synced to disk, within the time.

        False also when events were dropped since the last flush. Events that the server rejected count as answered.
        """
        return bool(self._flush(timeout))

    def close(self, timeout: float = 5.0) -> bool:
        """Flush, then send what can be sent within the time; the rest stays in the spool for the next process.

        Events that come after it are dropped. The answer is the flush's.
        """
        return bool(self._close(timeout))

    def emit(self, event: bytes) -> None:
        """Take one event as JSON."""
        if len(event) > LARGEST_EVENT:
            self.counts.add("recorded")
            self.counts.dropped(1, f"an event is larger than {LARGEST_EVENT} bytes")
        else:
            self._pipeline.put(event)

    @quiet
    def _flush(self, timeout: float) -> bool:
        return self._pipeline.flush(timeout)

    @quiet
    def _close(self, timeout: float) -> bool:
        return self._pipeline.close(timeout)

    def _encoded(self, values: Mapping[str, object]) -> dict[str, bytes]:
        return {name: encode(value, name, self.counts) for name, value in values.items() if value is not None}

    def _objects(self, values: Mapping[str, object]) -> dict[str, bytes]:
        return {name: encode_object(value, name, self.counts) for name, value in values.items() if value is not None}

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _usable(value: object, field: str, counts: Counts) -> str | None:
    return None if value is None else identifier(value, field, counts)


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name} = {value!r}: must be greater than 0")
