"""Results on logs that were looked at at other times: what is compared, and who is asked again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rl.choosing import ranking
from rl.evaluating import Subject, compared
from rl.held_out import LoggedSet
from rl.in_common import lacking, restricted
from rl.line_state import Part, Result

LOGS = LoggedSet(split="validation", since="a", until="b", share=0.1, salt="", count=40, verifier="m:f")
TWICE = LOGS.model_copy(update={"samples": 2})


def result(ids: Iterable[int], right: Iterable[int] = (), *, newest: int = 1, silent: Iterable[int] = ()) -> Result:
    """A verdict on each scenario but the ``silent``; types are odd and even."""
    known, rights, none = sorted(ids), set(right), set(silent)
    halves = tuple(None if one in none else 2 * (one in rights) for one in known)
    kinds = tuple("odd" if one % 2 else "even" for one in known)
    judged = [one for one in known if one not in none]
    types = {
        name: (sum(one in rights for one in judged if one % 2 == odd), sum(one % 2 == odd for one in judged))
        for name, odd in (("even", 0), ("odd", 1))
    }
    k, n = len(rights & set(judged)), len(judged)
    return Result(
        k,
        n,
        1.0,
        types,
        (Part(0, 0, len(known), len(known) - n),),
        "j",
        "p",
        newest,
        str(known),
        halves,
        tuple(known),
        kinds,
    )


def found(*several: Result, task_set: LoggedSet = LOGS) -> Any:
    return compared({place: (Subject(f"v{place}"), one) for place, one in enumerate(several)}, task_set, None)


def inputs(one: Any) -> list[dict[str, Any]]:
    return [dict(want.inputs) for want in one.wants]


def test_as_many_scenarios_are_not_the_same_ones() -> None:
    one = found(result(range(40)), result(range(20, 60), newest=2))
    assert (one.complete, inputs(one)) == (False, [{"version": "v0", "held": 40}]), "who looked before the other"


def test_who_was_asked_about_all_of_them_is_compared_on_what_both_have() -> None:
    early = result(range(60), right=range(30))
    late = result(range(20, 60), right=range(20, 45), newest=2)
    one = found(early, late)
    assert (one.complete, inputs(one)) == (True, [])
    assert [(each.k, each.n) for each in one.results.values()] == [(10, 40), (25, 40)]
    assert one.results[0].types == {"even": (5, 20), "odd": (5, 20)}
    assert len({each.scenarios for each in one.results.values()}) == 1
    (first, second) = ranking({}, one.results, LOGS).candidates
    assert ranking({}, one.results, LOGS).by.better(second, first) > 0.999, "paired by scenario"


def test_up_to_five_percent_other_scenarios_are_let_be() -> None:
    one = found(result(range(40)), result(range(2, 42), newest=2))
    assert one.complete
    assert [each.n for each in one.results.values()] == [38, 38]
    assert not found(result(range(40)), result(range(3, 43), newest=2)).complete


def test_the_logs_may_hold_less_than_was_asked_for() -> None:
    assert found(result(range(10)), result(range(10), newest=2)).complete
    assert inputs(found(result(range(10)), result(range(30), newest=2))) == [{"version": "v0", "held": 10}]


def test_the_one_that_looked_last_is_asked_only_when_nobody_else_lacks_some() -> None:
    assert lacking(LOGS, {0: result(range(40), newest=2), 1: result(range(60))}) == set(), "40 of 40 in common"
    assert lacking(LOGS, {0: result(range(20), newest=2), 1: result(range(40))}) == {0}
    assert lacking(LOGS, {0: result(range(40), newest=3), 1: result(range(20, 60)), 2: result(range(60))}) == {1}
    assert lacking(LOGS, {}) == lacking(LOGS, {0: Result(3, 9, 1.0)}) == set(), "a result that names none"


def test_what_is_missing_counts_where_it_is_compared() -> None:
    """2 of 60 verdicts are few; both are among the 38 that are compared, and 36 of 38 are fewer than 95 %."""
    early, late = result(range(60), silent=[30, 31]), result(range(22, 60), newest=2)
    one = found(early, late)
    assert (one.complete, inputs(one)) == (False, [{"version": "v0", "count": 60, "missing": 2}])
    assert found(result(range(60), silent=[0, 1]), late).complete


def test_who_has_the_most_is_not_asked_again_and_again() -> None:
    excluded = result(range(4, 48), newest=9), result(range(40), newest=3)
    assert inputs(found(*excluded)) == [{"version": "v1", "held": 40}], "v0 looked last, and has more than v1"
    grown = result(range(4, 48), newest=3), result(range(40), newest=9)
    assert inputs(found(*grown)) == [{"version": "v1", "held": 40}], "it is v1 that lacks some, whoever looked last"


def test_of_two_samples_the_one_with_fewer_scenarios_is_asked() -> None:
    parts = (Part(0, 0, 48), Part(1, 0, 40))
    half = replace(result(range(4, 44), newest=1), parts=parts)
    other = replace(result(range(40), newest=2), parts=(Part(0, 0, 40), Part(1, 0, 40)))
    one = found(half, other, task_set=TWICE)
    assert not one.complete
    assert inputs(one) == [{"version": "v0", "held": 40, "sample": 1}]


def test_a_scenario_that_lacks_a_sample_lacks_all_where_scenarios_are_left_out() -> None:
    pairs = tuple(None if one == 5 else 3 for one in range(40))
    kinds = ("a",) * 40
    parts = (Part(0, 0, 40), Part(1, 0, 40, 1))
    both = Result(
        59, 79, 1.0, {"a": (59, 79)}, parts, scenarios="x", successes=pairs, ids=tuple(range(40)), kinds=kinds
    )
    shown = restricted(TWICE, {0: both, 1: result(range(2, 42))})
    assert (shown[0].k, shown[0].n, shown[0].types) == (55.5, 74, {"a": (55.5, 74)})
    assert shown[0].parts == (Part(0, 0, 38, 1), Part(1, 0, 38, 1))


@given(st.lists(st.sets(st.integers(0, 79), min_size=1), min_size=1, max_size=4))
def test_what_is_ranked_has_the_same_scenarios_and_what_is_not_is_asked_for(sets: list[set[int]]) -> None:
    one = found(*(result(ids, newest=place) for place, ids in enumerate(sets)))
    assert one.complete == (not one.wants)
    shown = list(one.results.values())
    assert len({each.ids for each in shown}) <= 1
    assert len({each.n for each in shown}) <= 1
    if one.complete:
        assert len(shown[0].ids) >= 0.95 * min(40, max(map(len, sets)))


@given(st.lists(st.sets(st.integers(0, 79), min_size=1, max_size=40), min_size=2, max_size=4))
def test_asking_again_comes_to_an_end(sets: list[set[int]]) -> None:
    """Who is asked again is asked about all that others were; then what is compared is what the last one has."""
    known = dict(enumerate(sets))
    for _ in range(2 * len(sets)):
        one = found(*(result(known[place], newest=place) for place in known))
        if one.complete:
            break
        every = set.union(*known.values())
        asked = {int(want.inputs["version"][1:]) for want in one.wants}
        assert any(known[place] != every for place in asked)
        known |= dict.fromkeys(asked, every)
    assert one.complete
