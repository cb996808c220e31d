"""An episode and its turns, as context managers around what an agent does.

Nothing here raises into the agent: what cannot be recorded is counted and logged once. The agent's own exceptions pass
through, and end the episode with the status ``error``.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from contextvars import Token
from datetime import datetime
from types import TracebackType
from typing import Any, Protocol

from recorder.chat import Caller, begin, call_through, current
from recorder.counts import Counts, quiet
from recorder.values import compose, encode, encode_object, joined, moment, number

LAST_TURN = 2**31 - 1
BAD_REWARD = b'{"badValues":["reward"]'


class Sink(Protocol):
    """Where events go."""

    counts: Counts

    def emit(self, event: bytes) -> None: ...


class Trajectory:
    """One episode. ``end`` is called when the block ends, with what became of it."""

    def __init__(self, sink: Sink, trajectory_id: str, agent_id: str) -> None:
        self.trajectory_id, self.agent_id = trajectory_id, agent_id
        self.counts = sink.counts
        self._sink = sink
        self._numbers = itertools.count()
        self._is_ended = False

    def turn(self, state: Mapping[str, Any] | None = None, *, number: int | None = None) -> Turn:
        """The next agent step, or the step of that number. ``state`` is what the agent sees, before it acts."""
        return Turn(self, self._sink, next(self._numbers) if number is None else number, state)

    @quiet
    def end(
        self,
        status: str = "completed",
        *,
        reward: float | None = None,
        metadata: Mapping[str, Any] | None = None,
        ended_at: datetime | float | None = None,
    ) -> None:
        """End the episode; the first call counts. ``reward`` is the sum of the turns' unless it is given."""
        if self._is_ended:
            return
        self._is_ended = True
        self._sink.emit(end_event(self.counts, self.trajectory_id, status, reward, metadata, ended_at))

    def __enter__(self) -> Trajectory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.end()
        else:
            self.end(ending(kind), metadata={"error": kind.__name__})


class Turn:
    """One agent step: what it saw, what its models said, what it did, and what that earned.

    What is handed over is encoded at once, so that an agent may go on changing its lists and dicts.
    """

    def __init__(self, trajectory: Trajectory, sink: Sink, number: int, state: Mapping[str, Any] | None) -> None:
        self.trajectory, self.number = trajectory, number
        self.counts = sink.counts
        self._sink = sink
        self._at = moment()
        self._fields: dict[str, bytes] = {}
        self._calls: dict[int, bytes] = {}
        self._indices = itertools.count()
        self._reward = 0.0
        self._is_reward_bad = False
        self._is_ended = False
        self._token: Token[Caller | None] | None = None
        if state is not None:
            self._see(state)

    def chat(self, client: Any, /, **request: Any) -> Any:
        """``client.chat.completions.create(**request)``, recorded; something to await for an async client.

        What the client raises passes through.
        """
        return call_through(self, client.chat.completions.create, (), request)

    def headers(self, call_id: str | None = None) -> dict[str, str]:
        """Headers for a call of one's own through the gateway, which then stores it under the same id.

        Hand ``headers["X-Call-Id"]`` to ``record_call``. Empty when an id has characters that headers cannot carry.
        """
        found = {
            "X-Agent-Id": self.trajectory.agent_id,
            "X-Trajectory-Id": self.trajectory.trajectory_id,
            "X-Turn": str(self.number),
            "X-Call-Id": call_id or self.call_id(self.next_index()),
        }
        if all(value.isascii() and value.isprintable() and len(value) <= 256 for value in found.values()):
            return found
        self.counts.bad("trajectoryId", "or the agent's or call's id cannot be a header, so the gateway is not told")
        return {}

    def next_index(self) -> int:
        """The index of the turn's next call."""
        return next(self._indices)

    def call_id(self, index: int) -> str:
        """The id of the turn's call of that index."""
        return f"{self.trajectory.trajectory_id}-call-{self.number}-{index}"

    @quiet
    def record_call(self, request: Mapping[str, Any], response: object, *, call_id: str | None = None) -> None:
        """One call of a language model: the request as it was sent, and a text, a message or a completion."""
        call = begin(self, request, call_id)
        self.add_call(call.index, call.finish(response, self.counts))

    @quiet
    def act(
        self,
        action_type: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        success: bool | None = None,
        result: object = None,
        error: object = None,
    ) -> None:
        """What the agent did; the last call in a turn counts. Of an ``error`` the text is kept."""
        given = {"actionType": str(action_type), "success": success, "result": result}
        given["error"] = None if error is None else str(error)
        fields = {
            name: encode(value, f"action.{name}", self.counts) for name, value in given.items() if value is not None
        }
        if parameters is not None:
            fields["parameters"] = encode_object(parameters, "action.parameters", self.counts)
        self._put("action", joined(fields))

    @quiet
    def reward(self, value: float) -> None:
        """Add to what the turn earned. A value that is no finite number is left out, and the step's outcome says so."""
        found = number(value, "reward", self.counts)
        self._is_reward_bad |= found is None
        self._reward += found or 0.0

    @quiet
    def outcome(self, /, **values: Any) -> None:
        """What came of the action, if that is known already; the last call in a turn counts."""
        self._put("outcome", encode_object(values, "outcome", self.counts))

    @quiet
    def end(self) -> None:
        """Record the turn; the first call counts."""
        if self._is_ended:
            return
        self._is_ended = True
        calls = b"[%b]" % b",".join(self._calls[index] for index in sorted(self._calls)) if self._calls else None
        fields = marked(self._fields) if self._is_reward_bad else self._fields
        episode, reward = self.trajectory.trajectory_id, self._reward
        event = step_event(self.counts, episode, self.number, self._at, reward, fields, calls)
        if event is not None:
            self._sink.emit(event)

    def add_call(self, index: int, call: bytes) -> None:
        """Take a finished call; one that ends after its turn is counted and lost."""
        if self._is_ended:
            self.counts.bad("llmCalls", "got a call that ended after its turn")
        else:
            self._calls[index] = call

    @quiet
    def _see(self, state: Mapping[str, Any]) -> None:
        self._put("environmentState", encode_object(state, "environmentState", self.counts))

    def _put(self, field: str, value: bytes) -> None:
        if self._is_ended:
            self.counts.bad(field, "was set after its turn ended")
        else:
            self._fields[field] = value

    def __enter__(self) -> Turn:
        self._token = current.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            try:
                current.reset(self._token)
            except ValueError:  # entered in one task and left in another
                current.set(None)
        if kind is not None and "outcome" not in self._fields:
            self.outcome(error=kind.__name__)
        self.end()


def ending(kind: type[BaseException]) -> str:
    """The status of an episode that this exception ends: an interruption is no error of the agent."""
    return "error" if issubclass(kind, Exception) else "terminated"


def step_event(
    counts: Counts,
    trajectory_id: str,
    step: int,
    at: bytes,
    reward: float,
    fields: Mapping[str, bytes],
    calls: bytes | None,
) -> bytes | None:
    """A ``recordStep`` event; None, counted, if the step's number cannot be used."""
    if isinstance(step, bool) or not isinstance(step, int) or not 0 <= step <= LAST_TURN:
        counts.bad("stepNumber", f"must be a whole number from 0 to {LAST_TURN}: the step is lost")
        return None
    head = {"trajectoryId": encode(trajectory_id, "trajectoryId", counts), "stepNumber": b"%d" % step, "timestamp": at}
    return compose("recordStep", {**head, **fields, "reward": encode(reward, "reward", counts), "llmCalls": calls})


def marked(fields: Mapping[str, bytes]) -> dict[str, bytes]:
    """The step's fields with an outcome that says that a reward could not be read: a 0 alone would be a lie."""
    outcome = fields.get("outcome", b"{}")
    return {**fields, "outcome": BAD_REWARD + (b"}" if outcome == b"{}" else b"," + outcome[1:])}


def end_event(
    counts: Counts,
    trajectory_id: str,
    status: str,
    reward: float | None,
    metadata: Mapping[str, Any] | None,
    ended_at: datetime | float | None,
) -> bytes:
    """An ``endTrajectory`` event."""
    total = None if reward is None else number(reward, "reward", counts)
    return compose(
        "endTrajectory",
        {
            "trajectoryId": encode(trajectory_id, "trajectoryId", counts),
            "endedAt": moment(ended_at),
            "status": encode(str(status), "status", counts),
            "reward": None if total is None else encode(total, "reward", counts),
            "metadata": encode_object(metadata, "metadata", counts) if metadata else None,
        },
    )
