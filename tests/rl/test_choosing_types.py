"""Ranking checkpoints whose verdicts name types otherwise, or of which one has far fewer than another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl.alike import sides
from rl.choosing import Ranking, points_of, ranking
from rl.config import TaskSet
from rl.evaluating import Subject, compared
from rl.held_out import LoggedSet
from rl.line_state import AnySet, Part, Result, VersionState
from rl.paired import bootstrap_better
from rl.selection import probability_better

TASKS = TaskSet(environment="grid", split="validation", count=200)
LOGS = LoggedSet(
    split="validation",
    since="2025-01-15T00:00",
    until="2025-01-16T00:00",
    share=0.1,
    salt="",
    count=500,
    verifier="m:f",
)
Types = Mapping[str, tuple[int, int]]


def result(types: Types) -> Result:
    k, n = (sum(one[side] for one in types.values()) for side in (0, 1))
    return Result(k, n, 1.0, types)


def ranked(*results: Result) -> Ranking:
    points = points_of(version(0), [version(number) for number in range(1, len(results))])
    return ranking(points, dict(enumerate(results)), TASKS)


def version(number: int) -> VersionState:
    return VersionState(f"v{number}", "candidate", (), {})


def vetoed(found: Ranking) -> list[tuple[str, str]]:
    return [(one["version"], one["type"]) for one in found.evidence()["vetoed"]]


def test_a_type_that_was_renamed_is_compared_with_what_it_was_called_before_and_said() -> None:
    start = result({"near": (40, 100), "far": (60, 100)})
    found = ranked(start, result({"near": (100, 100), "distant": (30, 100)}))
    assert [one.overall for one in found.candidates] == [(100, 200), (130, 200)]
    assert (found.select().pick, vetoed(found)) == (0, [("v1", "other types")])
    assert "other types 30/100 against 60/100 at step 0" in found.select().vetoed[1]
    assert found.remarks() == [
        "type distant is not compared between all: verdicts of it are 100 at v1, none at v0",
        "type far is not compared between all: verdicts of it are 100 at v0, none at v1",
    ]
    assert found.evidence()["remarks"] == found.remarks()
    (alarm,) = found.alarms()
    assert (alarm.name, alarm.step) == ("FORGETTING", 1)
    assert ranked(start, result({"near": (100, 100), "distant": (58, 100)})).select().pick == 1


def test_what_was_split_is_compared_as_it_was_together() -> None:
    start = result({"near": (40, 100), "far": (60, 100)})
    split = result({"near": (100, 100), "far": (10, 50), "farther": (50, 50)})
    assert sides(split.types, start.types) == {"near": ((100, 100), (40, 100)), "other types": ((60, 100), (60, 100))}
    assert vetoed(ranked(start, split)) == []


def test_without_a_type_that_both_have_all_are_taken_together() -> None:
    start = result({"grid": (90, 100)})
    for types in ({"near": (20, 50), "far": (30, 50)}, {"grid": (1, 1), "near": (49, 99)}):
        assert vetoed(ranked(start, result(types))) == [("v1", "all")]


def test_a_type_that_a_third_one_lacks_is_still_compared_between_those_that_have_it() -> None:
    start, worse = result({"near": (40, 100), "far": (60, 100)}), result({"near": (100, 100), "far": (30, 100)})
    found = ranked(start, worse, result({"near": (60, 100), "distant": (60, 100)}))
    assert vetoed(found) == [("v1", "far")]
    assert found.select().pick == 2


def test_a_type_without_any_verdict_is_none() -> None:
    found = ranked(result({"near": (2, 2), "far": (0, 0)}))
    assert [one.types for one in found.candidates] == [{"near": (2, 2)}]
    assert found.remarks() == []


def test_ties_are_broken_by_the_types_that_all_have() -> None:
    start = result({"near": (1, 100), "far": (1, 100)})
    one, other = result({"near": (70, 100), "far": (70, 100)}), result({"near": (80, 100), "distant": (60, 100)})
    found = ranked(start, one, other).select()
    assert (found.tie_set, found.pick) == ([1, 2], 2)


counts = st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(st.dictionaries(st.sampled_from("abcd"), st.tuples(counts, st.floats(0, 1)), min_size=1), st.data())
def test_a_new_name_changes_neither_the_tie_set_nor_who_is_vetoed(
    drawn: dict[str, tuple[tuple[int, int], float]], data: st.DataObject
) -> None:
    start = result({name: count for name, (count, _) in drawn.items()})
    other = {name: (round(share * n), n) for name, ((_, n), share) in drawn.items()}
    name = data.draw(st.sampled_from(sorted(other)))
    renamed = {("new" if one == name else one): count for one, count in other.items()}
    before, after = (ranked(start, result(types)).select() for types in (other, renamed))
    assert (after.tie_set, list(after.vetoed)) == (before.tie_set, list(before.vetoed))


def test_the_same_scenarios_are_paired_whatever_their_types() -> None:
    one = replace(result({"a": (1, 2), "b": (0, 2)}), scenarios="s", successes=(2, 0, 0, 0))
    other = replace(result({"a": (1, 2), "c": (2, 2)}), scenarios="s", successes=(2, 2, 0, 2))
    found = ranked(one, other)
    assert found.by.better(*reversed(found.candidates)) == pytest.approx(bootstrap_better([0, 1, 0, 1]))


def test_a_rate_of_few_scenarios_is_not_ranked_beside_one_of_many() -> None:
    many, few = result({"grid": (100, 200)}), result({"grid": (9, 10)})
    assert probability_better(9, 10, 100, 200) > 0.98, "alone it would be picked"
    found = ranked(many, few)
    assert ([one.step for one in found.candidates], found.select().pick) == ([0], 0)
    reason = "10 verdicts, where another has 200; evaluate the missing scenarios first"
    assert (found.left_out, found.remarks()) == ({1: reason}, [f"v1 is not ranked: {reason}"])
    started = ranked(few, many)
    assert (started.base, started.select().pick, started.left_out) == (None, 1, {0: reason})


@pytest.mark.parametrize(("n", "ranks"), [(181, True), (180, False), (0, False)])
def test_what_may_be_missing_of_two_results_is_no_reason_to_leave_one_out(n: int, ranks: bool) -> None:
    """Logs may hold 5 % fewer scenarios, and 5 % of the verdicts may be missing: 0.95 x 0.95 x 200 = 180.5."""
    found = ranked(result({"grid": (100, 200)}), result({"grid": (n, n)}))
    assert [one.step for one in found.candidates] == ([0, 1] if ranks else [0])


@given(
    st.sampled_from([TASKS, LOGS]),
    st.lists(st.tuples(st.integers(160, 200), st.integers(0, 20)), min_size=2, max_size=5),
)
def test_what_the_fleet_compares_is_never_left_out(task_set: AnySet, drawn: list[tuple[int, int]]) -> None:
    judged = {}
    for place, (held, missing) in enumerate(drawn):
        size = task_set.count if isinstance(task_set, TaskSet) else held
        found = Result(0, size - missing, 1.0, {"grid": (0, size - missing)}, (Part(0, 0, size, missing),))
        judged[place] = Subject(f"v{place}"), found
    chosen = compared(judged, task_set, None).results
    points = points_of(version(0), [version(number) for number in range(1, len(drawn))])
    assert ranking(points, chosen, task_set).left_out == {}


def test_the_fewest_verdicts_that_the_fleet_compares_are_ranked() -> None:
    """Of 400 scenarios another version's logs held 380, and 19 of their verdicts are missing."""
    many = Result(0, 400, 1.0, {"grid": (0, 400)}, (Part(0, 0, 400),))
    few = Result(0, 361, 1.0, {"grid": (0, 361)}, (Part(0, 0, 380, 19),))
    chosen = compared({0: (Subject("v0"), many), 1: (Subject("v1"), few)}, LOGS, None).results
    assert list(chosen) == [0, 1]
    assert ranking(points_of(version(0), [version(1)]), chosen, LOGS).left_out == {}
