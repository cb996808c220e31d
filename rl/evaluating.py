"""Which evaluations are missing: shards of task sets that a checkpoint has no verdicts on, and results that are alike.

Results of different judges or prompts are not compared. The newest prompt among those that are to be compared counts,
and the others are asked for again under it; what was there before stays. A result may be ranked once all its shards are
there and at least 95 % of the verdicts; below that the shards that lack some are asked for again, as long as that
brings new ones. How many scenarios logs hold is known only once they were looked at, and may be more later: a shard of
them with under 95 % of the scenarios that another result has is asked for again too, and so are results that have too
few scenarios in common (``rl.in_common``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rl import in_common
from rl.config import TaskSet
from rl.held_out import LoggedSet
from rl.line_state import EVALUATE_LAST, AnySet, Part, Result, VersionState, Want
from rl.selection import MIN_COVERAGE


@dataclass(frozen=True)
class Shard:
    """What one evaluation job found. ``against`` is the hash of the checkpoint that answers were compared with,
    ``logged``, or nothing. Each verdict has the keys ``scenario_id``, ``sample``, ``right``, ``rival_right``,
    ``content_hash``, ``turns``, ``type`` and ``reason``; ``right`` is None where there is no verdict. ``sandbox_level``
    is what held the code of the answers, where the environment runs code.
    """

    judge: str
    prompt_hash: str
    against: str
    verdicts: list[dict[str, Any]] = field(default_factory=list)
    sandbox_level: str | None = None


@dataclass(frozen=True)
class Subject:
    """A checkpoint to evaluate: its version, and its step where that is not the last that its training wrote."""

    version: str
    step: int | None = None


def subject(version: VersionState, step: int | None = None) -> Subject:
    """The version's checkpoint at ``step``; None is the one that it stands for."""
    wanted = version.own if step is None else step
    last = version.checkpoints[-1] if version.checkpoints else None
    return Subject(version.name, None if wanted == last else wanted)


def evaluate(
    version: str | Subject, task_set: AnySet, part: Part | None = None, *, prompt: str | None = None, rank: int = 0
) -> Want:
    """Verdicts for the version on the task set, or on a part of it.

    With ``prompt`` they are to be judged under that hash, and with a part that has ``missing`` verdicts, or too few
    scenarios, these are asked for again. Inputs name only what says something, so that equal work is one job.
    """
    one = Subject(version) if isinstance(version, str) else version
    inputs: dict[str, Any] = {"version": one.version}
    whole = Part(0, 0, task_set.count)
    says = {
        "step": one.step,
        "sample": part.sample if part is not None and part.sample else None,
        "first": part.first if part is not None and part.first else None,
        "count": part.size if part is not None and part.size != whole.size else None,
        "prompt": prompt,
        "missing": part.missing if part is not None and part.missing else None,
        "held": part.held if part is not None else None,
    }
    inputs |= {name: value for name, value in says.items() if value is not None}
    return Want("evaluate", "gpu", inputs, task_set.model_dump(mode="json"), EVALUATE_LAST + rank)


def to_evaluate(
    task_set: AnySet, found: Result | None, shard: int | None, most: int = 0, *, lacks: bool = False
) -> list[Part]:
    """The parts that have no verdicts yet; once there are none, those with verdicts missing, if too many are.

    ``most`` is how many scenarios of the logs another result has in one part: parts with under 95 % of it come before,
    and where the result ``lacks`` scenarios that others have those with the fewest, as each sample is asked by itself.
    """
    parts = () if found is None else found.shards()
    absent = [part for sample in range(task_set.samples) for part in _absent(task_set, parts, sample, shard)]
    if absent or found is None:
        return absent
    fewest = min(part.size for part in parts)
    if few := [part for part in parts if (lacks and part.size == fewest) or part.size < MIN_COVERAGE * most]:
        return [Part(part.sample, 0, task_set.count, held=part.size) for part in few]
    return [] if coverage(task_set, found) >= MIN_COVERAGE else [part for part in parts if part.missing]


def coverage(task_set: AnySet, found: Result) -> float:
    """The share of the verdicts asked for that are there. Logs may hold fewer scenarios than were asked for."""
    asked = task_set.count * task_set.samples if isinstance(task_set, TaskSet) else found.n + found.missing
    return found.n / asked if asked else 0.0


def _absent(task_set: AnySet, parts: Sequence[Part], sample: int, shard: int | None) -> Iterator[Part]:
    """The places of one sample that no part covers, in pieces of at most ``shard``."""
    spans = sorted((part.first, part.first + part.size) for part in parts if part.sample == sample)
    if isinstance(task_set, LoggedSet):
        # How many scenarios the logs hold is known only to the job, so it takes them all.
        if not spans:
            yield Part(sample, 0, task_set.count)
        return
    place = 0
    for begin, end in [*spans, (task_set.count, task_set.count)]:
        while place < begin:
            size = min(shard or task_set.count, begin - place)
            yield Part(sample, place, size)
            place += size
        place = max(place, end)


@dataclass(frozen=True)
class Compared:
    """Results that may be compared, by place, and the evaluations that are missing before all may be."""

    results: Mapping[int, Result]
    wants: tuple[Want, ...]
    places: int

    @property
    def complete(self) -> bool:
        """Whether all may be ranked."""
        return len(self.results) == self.places


def compared(
    subjects: Mapping[int, tuple[Subject, Result | None]],
    task_set: AnySet,
    shard: int | None,
    ranks: Mapping[int, int] | None = None,
) -> Compared:
    """What is there of the subjects, by place, under the newest judge and prompt among them, and what is missing.

    ``ranks`` says which place is evaluated first.
    """
    known = [one for _, found in subjects.values() if found is not None for one in found.all()]
    newest = max(known, key=lambda one: one.newest, default=None)
    alike = {place: _alike(found, newest) for place, (_, found) in subjects.items()}
    most = _most(task_set, list(alike.values()))
    parts, whole = _missing(task_set, alike, shard, most)
    wants: list[Want] = []
    for place, (one, found) in subjects.items():
        prompt = (
            newest.prompt_hash if newest is not None and found is not None and _was_judged_else(found, newest) else None
        )
        rank = (ranks or {}).get(place, 0)
        wants += [evaluate(one, task_set, part, prompt=prompt, rank=rank) for part in parts[place]]
    return Compared(whole, tuple(sorted(wants, key=lambda want: want.priority)), len(subjects))


def _missing(
    task_set: AnySet, alike: Mapping[int, Result | None], shard: int | None, most: int
) -> tuple[dict[int, list[Part]], dict[int, Result]]:
    """By place the parts to evaluate, and the results that may be ranked; of logs these have the same scenarios."""
    known = {place: one for place, one in alike.items() if one is not None}
    lacks = in_common.lacking(task_set, known) if isinstance(task_set, LoggedSet) else set()
    parts = {place: to_evaluate(task_set, one, shard, most, lacks=place in lacks) for place, one in alike.items()}
    whole = {place: one for place, one in known.items() if one.n > 0 and not parts[place]}
    if isinstance(task_set, TaskSet):
        return parts, whole
    shown = in_common.restricted(task_set, whole)
    few = [place for place, one in shown.items() if coverage(task_set, one) < MIN_COVERAGE]
    parts |= {place: [part for part in whole[place].shards() if part.missing] for place in few}
    return parts, {place: one for place, one in shown.items() if place not in few}


def _most(task_set: AnySet, results: Sequence[Result | None]) -> int:
    """The most scenarios of logs that a result has in one part, of as many as were asked for; 0 where that is known."""
    if isinstance(task_set, TaskSet):
        return 0
    sizes = (part.size for one in results if one is not None for part in one.shards())
    return min(task_set.count, max(sizes, default=0))


def _alike(found: Result | None, newest: Result | None) -> Result | None:
    if found is None or newest is None:
        return None
    key = (newest.judge, newest.prompt_hash)
    same = next((one for one in found.all() if (one.judge, one.prompt_hash) == key), None)
    return None if same is None else replace(same, earlier=())


def _was_judged_else(found: Result, newest: Result) -> bool:
    return any((one.judge, one.prompt_hash) != (newest.judge, newest.prompt_hash) for one in found.all())
