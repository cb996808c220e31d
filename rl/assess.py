"""What of some logs can be trained on, and how: one pass over their rows, in bounded memory.

Counters are exact. A group, the trajectories of one scenario in one hour window, is held in a few numbers
(``rl/assess_groups.py``), so that many millions of rows can be assessed. Trajectories whose owner refused are counted
and take part in nothing else.

A source whose rows have no reward writes ``reward = 0`` and ``"reward": None`` into a trajectory's metadata; one that
has no scenario ids writes ``"scenario_id": None`` there. Both mean that nobody said, which is another thing than 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from datetime import datetime

from rl.assess_counts import Reasons, Tally
from rl.assess_groups import key_of
from rl.assess_objectives import Evidence, unlocks, verdicts
from rl.assess_prefix import CHARACTERS_A_TOKEN, Sizes
from rl.assess_report import Day, Report, Rows, Time, Tokens
from rl.assess_seen import Earned, Heard
from rl.records import Quarantined, Trajectory, utc
from rl.windows import hour_of


class Assessment:
    """Takes rows of a source one by one with ``add``; ``report`` may be asked for at any time.

    ``own`` names the models that are versions of ours; None goes by how their names look.
    """

    def __init__(self, own: Collection[str] | None = None) -> None:
        self._trajectories = 0
        self._reasons = Reasons()
        self._consent: Counter[str] = Counter(yes=0, no=0, unknown=0)
        self._archetypes: Tally[str] = Tally()
        self._first: datetime | None = None
        self._last: datetime | None = None
        self._heard = Heard(own)
        self._earned = Earned()
        self._sizes = Sizes()

    def add(self, row: Trajectory | Quarantined) -> None:
        """Take one row of a source."""
        if isinstance(row, Quarantined):
            self._reasons.add(row)
            return
        self._trajectories += 1
        self._consent["unknown" if row.consent is None else "yes" if row.consent else "no"] += 1
        if row.consent is not False:
            self._learn_from(row)

    def report(self, tokens_per_second: float | None = None) -> Report:
        """What is known so far. ``tokens_per_second`` is what the trainer computes on the device that will be used."""
        seen = self._evidence()
        judged = verdicts(seen)
        tokens = _tokens(self._sizes)
        time = self._time()
        return Report(
            trainable=any(one.allowed for one in judged),
            rows=seen.rows,
            time=time,
            calls=seen.calls,
            consent=dict(self._consent),
            archetypes=self._archetypes.shown(),
            groups=seen.groups,
            rewards=seen.rewards,
            tokens=tokens,
            day=_day(tokens, time.days, tokens_per_second),
            objectives=judged,
            unlock=unlocks(seen),
        )

    def _learn_from(self, row: Trajectory) -> None:
        hour = hour_of(row.ended_at).text
        group = key_of(hour, row.scenario_id)
        self._first = row.started_at if self._first is None else min(self._first, row.started_at)
        self._last = row.ended_at if self._last is None else max(self._last, row.ended_at)
        if row.archetype:
            self._archetypes.add(row.archetype)
        on_policy = self._heard.take(row, hour)
        self._earned.take(row, group, on_policy=on_policy)
        self._sizes.take(row, group)

    def _evidence(self) -> Evidence:
        own = self._earned.own.moments()
        bad = self._reasons
        return Evidence(
            rows=Rows(
                read=self._trajectories + bad.total,
                trajectories=self._trajectories,
                usable=self._trajectories - self._consent["no"],
                quarantined=bad.total,
                reasons=bad.list(),
            ),
            calls=self._heard.seen(),
            groups=self._earned.groups(),
            rewards=self._earned.rewards(),
            consent=self._consent,
            own_differing=int(own.differing.sum()),
            own_lone=int((own.count == 1).sum()),
            own_distinct=len(self._earned.own_values),
        )

    def _time(self) -> Time:
        hours = {name: hour.rows for name, hour in sorted(self._heard.hours.items())}
        return Time(
            first=utc(self._first) if self._first else None,
            last=utc(self._last) if self._last else None,
            hours=hours,
            days=len({name[:10] for name in hours}),
        )


def _tokens(sizes: Sizes) -> Tokens:
    total, group = sizes.total, sizes.starts.shared()
    return Tokens(
        read=round(sizes.read),
        spoken=round(sizes.spoken),
        exact_share=sizes.exact / total if total else None,
        characters_a_token=CHARACTERS_A_TOKEN,
        repeated_share=sizes.repeated / total if total else None,
        group_share=group / total if total else None,
        prefix_share=(sizes.repeated + group) / total if total else None,
        computed=round(total - sizes.repeated - group),
    )


def _day(tokens: Tokens, days: int, rate: float | None) -> Day:
    total, computed = (round(count / max(days, 1)) for count in (tokens.read + tokens.spoken, tokens.computed))
    return Day(
        tokens=total,
        computed=computed,
        tokens_per_second=rate,
        seconds=computed / rate if rate else None,
        seconds_unshared=total / rate if rate else None,
    )
