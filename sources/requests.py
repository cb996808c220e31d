"""A log of chat completions, one a line, as ``requests:///path.jsonl`` or ``.jsonl.gz``.

Calls that name one session are one trajectory, in the order of their turns or times. A call without a session is a
trajectory of its own. The reward is the last that a call of the trajectory names; where none does, it is 0 and the
metadata say ``"reward": None``. Without a scenario's name, trajectories whose first call was sent the same words are
one scenario, and the metadata say ``"scenario_id": None``.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

from rl.errors import InvalidRow
from rl.records import Quarantined, Trajectory
from rl.windows import WindowId, hour_of
from sources.consent import unusable
from sources.exchanges import Exchange, parse, refusal
from sources.lines import file_of, opened
from sources.sessions import MOST_CALLS, Sessions
from sources.values import Reason, invalid, overlaps

NOBODY = "unknown"


class RequestLog:
    """Trajectories in a log of calls; the window of one is the UTC hour in which its last call ended.

    Memory holds one trajectory at a time: calls of sessions wait in a temporary file on disk, about as large as the
    log. A line that cannot be used is reported with every window.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, window: WindowId | None) -> Iterator[Trajectory | Quarantined]:
        """Lone calls and unusable lines in the order of the file, then sessions in that of their first lines."""
        with closing(Sessions()) as sessions:
            for number, line in self._lines():
                row = f"{self.path.name}:{number}"
                try:
                    one = parse(line)
                except InvalidRow as error:
                    consent, own = refusal(line)
                    yield unusable("requests", row, error, line, consent=consent, trajectory_id=own)
                    continue
                if one.session is not None:
                    sessions.add(one.session, number, one)
                elif _is_in(one.ended_at, window):
                    yield trajectory([one], one.call.call_id)
            yield from self._of_sessions(sessions, window)

    def holds(self, window: WindowId) -> bool:
        """Whether some trajectory ended in that hour."""
        return any(isinstance(row, Trajectory) for row in self.read(window))

    def hours(self, since: datetime | None = None, until: datetime | None = None) -> dict[str, int]:
        """Trajectories by the hour they ended in, of hours with some moment from ``since`` to before ``until``."""
        ended = (hour_of(row.ended_at) for row in self.read(None) if isinstance(row, Trajectory))
        return dict(sorted(Counter(one.text for one in ended if overlaps(one, since, until)).items()))

    def _of_sessions(self, sessions: Sessions, window: WindowId | None) -> Iterator[Trajectory | Quarantined]:
        for session, number, ended_at in sessions.ends():
            if not _is_in(ended_at, window):
                continue
            calls = sessions.calls(session)
            if len(calls) > MOST_CALLS:
                error, row = invalid("session", Reason.TOO_LARGE), f"{self.path.name}:{number}"
                yield unusable("requests", row, error, session, consent=_consent(calls), trajectory_id=session)
            else:
                yield trajectory(calls, session)

    def _lines(self) -> Iterator[tuple[int, str]]:
        """Lines that hold something, with their numbers from 1 on."""
        with opened(self.path) as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield number, line


def connect(url: str) -> RequestLog:
    """The log that ``requests:///path`` names.

    Raises:
        InvalidInput: there is no such file.
    """
    return RequestLog(file_of(url))


def trajectory(exchanges: Sequence[Exchange], trajectory_id: str) -> Trajectory:
    """The calls of one trajectory, in order."""
    calls = [one.call.model_copy(update={"turn": turn}) for turn, one in enumerate(exchanges)]
    numbered = [one.turn for one in exchanges if one.turn is not None]
    if len(numbered) == len(calls):
        calls = [call.model_copy(update={"turn": turn}) for call, turn in zip(calls, numbered, strict=True)]
    reward, scenario = _last(exchanges, "reward"), _last(exchanges, "scenario")
    unsaid = {"reward": reward, "scenario_id": scenario}
    return Trajectory(
        trajectory_id=trajectory_id,
        scenario_id=scenario or _scenario_of(exchanges[0]),
        agent_id=_last(exchanges, "agent") or NOBODY,
        started_at=min(one.started_at for one in exchanges),
        ended_at=max(one.ended_at for one in exchanges),
        reward=reward or 0.0,
        calls=calls,
        archetype=_last(exchanges, "archetype"),
        consent=_consent(exchanges),
        metadata={name: None for name, value in unsaid.items() if value is None} | _usage(exchanges),
    )


def _last(exchanges: Sequence[Exchange], name: str) -> Any:
    said = [value for one in exchanges if (value := getattr(one, name)) is not None]
    return said[-1] if said else None


def _consent(exchanges: Sequence[Exchange]) -> bool | None:
    """One call that was refused refuses the trajectory."""
    said = [one.consent for one in exchanges if one.consent is not None]
    return all(said) if said else None


def _scenario_of(first: Exchange) -> str:
    sent = json.dumps([message.model_dump(exclude_none=True) for message in first.call.messages], sort_keys=True)
    return f"prompt/{hashlib.sha256(sent.encode()).hexdigest()[:16]}"


def _usage(exchanges: Sequence[Exchange]) -> dict[str, Any]:
    total: Counter[str] = Counter()
    for one in exchanges:
        total.update(one.usage or {})
    return {"usage": dict(total)} if total else {}


def _is_in(moment: datetime, window: WindowId | None) -> bool:
    return window is None or hour_of(moment).text == window.text
