"""What agents reported to the gateway, on one line: ``recorded://main``."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from urllib.parse import unquote, urlsplit

from pydantic import ValidationError

from db import calls, lines, recorded
from db.recorded import Head
from db.session import transaction
from rl.errors import InvalidInput
from rl.records import Call, Quarantined, Trajectory, Turn
from rl.windows import WindowId, hour_of, parse
from sources.values import overlaps

BATCH = 200
ABANDONED = "abandoned"


class Recorded:
    """Episodes that are over. They belong to the window they named, or else to the UTC hour they ended in.

    One without an end is over a day after its last step, with the status ``abandoned``; ``metadata["finalStatus"]``
    says how each ended. What became known later of a step is in its ``outcome``.
    """

    def __init__(self, line: str, *, looks: bool = False) -> None:
        """With ``looks`` nothing is written: an episode without an end goes on until somebody else ends it."""
        self.line = line
        self.looks = looks

    def read(self, window: WindowId | None) -> Iterator[Trajectory | Quarantined]:
        """The window's trajectories, or all, in the order they ended; in their place those that cannot be used."""
        with transaction() as session:
            if not self.looks:
                recorded.abandon(session, self.line)
            ids = recorded.over(session, self.line, window)
        for first in range(0, len(ids), BATCH):
            yield from _batch(ids[first : first + BATCH])

    def holds(self, window: WindowId) -> bool:
        """Whether some episode of that window is over."""
        with transaction() as session:
            if not self.looks:
                recorded.abandon(session, self.line)
            return bool(recorded.over(session, self.line, window, most=1))

    def hours(self, since: datetime | None = None, until: datetime | None = None) -> dict[str, int]:
        """Episodes by hour window, of hours with some moment from ``since`` to before ``until``."""
        with transaction() as session:
            if not self.looks:
                recorded.abandon(session, self.line)
            found = recorded.by_window(session, self.line, since, until)
        named = {name: parse(name) for name in found}
        return {name: found[name] for name, one in named.items() if one.hour and overlaps(one, since, until)}


def connect(url: str) -> Recorded:
    """The line that ``recorded://<line>`` names; with ``?look`` nothing is written.

    Raises:
        InvalidInput: there is no such line, or the URL names none.
    """
    line = unquote(urlsplit(url).netloc)
    if not line or urlsplit(url).path not in ("", "/"):
        raise InvalidInput("line.source", url, "write recorded:// and the name of a line, such as recorded://main")
    with transaction() as session:
        lines.named(session, line)
    return Recorded(line, looks=urlsplit(url).query == "look")


def _batch(ids: list[str]) -> Iterator[Trajectory | Quarantined]:
    with transaction() as session:
        heads, turns = recorded.heads(session, ids), recorded.turns(session, ids)
        spoken = calls.of_trajectories(session, ids)
    for key in ids:
        if key in heads:
            yield _trajectory(heads[key], turns[key], spoken[key])


def _trajectory(head: Head, turns: list[Turn], spoken: list[Call]) -> Trajectory | Quarantined:
    if head.agent_id is None:
        return _unusable(head, "agent_id", "startTrajectory was never reported, so nobody knows whose it is")
    if not any(call.response.content or call.response.tool_calls for call in spoken):
        return _unusable(head, "calls", "no call in which a model spoke was reported or captured")
    started = min([head.ended_at, *filter(None, [head.started_at]), *(turn.at for turn in turns if turn.at)])
    try:
        return Trajectory(
            trajectory_id=head.trajectory_id,
            scenario_id=head.scenario_id or hour_of(head.started_at or started).text,
            agent_id=head.agent_id,
            started_at=started,
            ended_at=head.ended_at,
            reward=sum(turn.reward for turn in turns) if head.reward is None else head.reward,
            calls=spoken,
            turns=turns,
            archetype=head.archetype,
            consent=head.consent,
            metadata=head.details | {"finalStatus": head.status or ABANDONED},
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        return _unusable(head, ".".join(str(part) for part in first["loc"]), str(first["msg"]))


def _unusable(head: Head, field: str, reason: str) -> Quarantined:
    return Quarantined(source="recorded", row=head.trajectory_id, field=field, reason=reason)
