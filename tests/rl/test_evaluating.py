from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl.config import TaskSet
from rl.evaluating import Subject, compared, coverage, evaluate, to_evaluate
from rl.held_out import LoggedSet
from rl.line_state import Part, Result

HUNDRED = TaskSet(environment="grid", split="validation", count=100)
TWICE = TaskSet(environment="grid", split="validation", count=10, samples=2, temperature=0.5)
LOGS = LoggedSet(split="validation", since="a", until="b", share=0.1, salt="", count=200, samples=2, against="logged")
ONCE = LOGS.model_copy(update={"samples": 1})


def result(*parts: Part, k: int = 0, prompt: str = "p", newest: int = 1, judge: str = "environment") -> Result:
    n = sum(part.size - part.missing for part in parts)
    return Result(k, n, 1.0, parts=parts, prompt_hash=prompt, newest=newest, judge=judge)


def is_whole(task_set: TaskSet | LoggedSet, found: Result | None) -> bool:
    return compared({0: (Subject("v"), found)}, task_set, None).complete


def inputs(one: Any) -> dict[str, Any]:
    return dict(one.inputs)


def test_inputs_name_only_what_says_something() -> None:
    assert inputs(evaluate("v", HUNDRED)) == {"version": "v"}
    assert inputs(evaluate("v", HUNDRED, Part(0, 0, 100))) == {"version": "v"}
    assert inputs(evaluate(Subject("v", 30), HUNDRED, Part(1, 50, 25), prompt="p")) == {
        "version": "v",
        "step": 30,
        "sample": 1,
        "first": 50,
        "count": 25,
        "prompt": "p",
    }
    assert evaluate("v", HUNDRED, rank=3).priority == 123


def test_a_set_is_cut_into_shards_and_each_sample_is_one() -> None:
    assert to_evaluate(HUNDRED, None, None) == [Part(0, 0, 100)]
    assert to_evaluate(HUNDRED, None, 40) == [Part(0, 0, 40), Part(0, 40, 40), Part(0, 80, 20)]
    assert to_evaluate(TWICE, None, 6) == [Part(0, 0, 6), Part(0, 6, 4), Part(1, 0, 6), Part(1, 6, 4)]
    assert to_evaluate(LOGS, None, 6) == [Part(0, 0, 200), Part(1, 0, 200)]


def test_what_is_covered_is_not_asked_for_again_even_when_shards_get_another_size() -> None:
    assert to_evaluate(HUNDRED, result(Part(0, 40, 40)), 40) == [Part(0, 0, 40), Part(0, 80, 20)]
    assert to_evaluate(HUNDRED, result(Part(0, 0, 100)), 40) == []
    assert to_evaluate(HUNDRED, result(Part(0, 10, 80)), 40) == [Part(0, 0, 10), Part(0, 90, 10)]
    assert to_evaluate(TWICE, result(Part(0, 0, 10)), None) == [Part(1, 0, 10)]
    assert to_evaluate(LOGS, result(Part(0, 0, 63), Part(1, 0, 63)), None) == []


def test_below_95_percent_of_verdicts_the_shards_that_lack_some_are_asked_for_again() -> None:
    enough = result(Part(0, 0, 50, 5), Part(0, 50, 50))
    too_few = result(Part(0, 0, 50, 6), Part(0, 50, 50))
    assert (coverage(HUNDRED, enough), is_whole(HUNDRED, enough)) == (0.95, True)
    assert (coverage(HUNDRED, too_few), is_whole(HUNDRED, too_few)) == (0.94, False)
    assert to_evaluate(HUNDRED, too_few, 50) == [Part(0, 0, 50, 6)]
    (want,) = compared({0: (Subject("v"), too_few)}, HUNDRED, 50).wants
    assert inputs(want) == {"version": "v", "count": 50, "missing": 6}
    assert not is_whole(HUNDRED, None)
    assert not is_whole(LOGS, result(Part(0, 0, 0), Part(1, 0, 0))), "logs without a scenario decide nothing"


@given(
    st.integers(1, 60),
    st.integers(1, 70),
    st.lists(st.tuples(st.integers(0, 59), st.integers(1, 60)), max_size=5),
)
def test_shards_never_overlap_what_is_there_and_leave_nothing_out(
    count: int, shard: int, there: list[tuple[int, int]]
) -> None:
    task_set = TaskSet(environment="grid", split="validation", count=count)
    parts = [Part(0, first, min(size, count - first)) for first, size in there if first < count]
    known = {place for part in parts for place in range(part.first, part.first + part.size)}
    asked = to_evaluate(task_set, result(*parts) if parts else None, shard)
    places = [place for part in asked for place in range(part.first, part.first + part.size)]
    assert sorted(places) == sorted(set(range(count)) - known)
    assert all(1 <= part.size <= shard for part in asked)


WHOLE = Part(0, 0, 100)


def test_results_of_one_prompt_are_alike() -> None:
    two = {0: (Subject("v0"), result(WHOLE, newest=1)), 1: (Subject("v1"), result(WHOLE, newest=2))}
    found = compared(two, HUNDRED, None)
    assert (found.wants, found.complete, sorted(found.results)) == ((), True, [0, 1])


@pytest.mark.parametrize("older", [0, 1])
def test_the_older_prompt_is_asked_for_again_under_the_newer_one(older: int) -> None:
    both = [result(WHOLE, prompt=f"p{place}", newest=0 if place == older else 1) for place in (0, 1)]
    found = compared({place: (Subject(f"v{place}"), both[place]) for place in (0, 1)}, HUNDRED, None)
    assert [inputs(want) for want in found.wants] == [{"version": f"v{older}", "prompt": f"p{1 - older}"}]
    assert (found.complete, sorted(found.results)) == (False, [1 - older])


def test_a_result_under_a_prompt_that_came_back_is_used_again() -> None:
    old, new = result(WHOLE, prompt="old", newest=1), result(WHOLE, prompt="new", newest=5)
    both = replace(new, earlier=(old,))
    back = result(WHOLE, prompt="old", newest=9)
    found = compared({0: (Subject("v0"), both), 1: (Subject("v1"), back)}, HUNDRED, None)
    assert (found.wants, found.results[0].prompt_hash) == ((), "old")


def test_another_judge_is_another_result() -> None:
    mine, theirs = result(WHOLE, newest=2), result(WHOLE, newest=1, judge="verifier/x")
    found = compared({0: (Subject("v0"), theirs), 1: (Subject("v1"), mine)}, HUNDRED, None)
    assert [inputs(want) for want in found.wants] == [{"version": "v0", "prompt": "p"}]


def test_what_was_never_evaluated_is_asked_for_under_whatever_prompt_there_is() -> None:
    found = compared({0: (Subject("v0"), None), 1: (Subject("v1"), result(WHOLE))}, HUNDRED, None)
    assert [inputs(want) for want in found.wants] == [{"version": "v0"}]


def test_a_result_of_logs_with_fewer_scenarios_than_another_is_asked_for_again() -> None:
    """The logs held 10 scenarios when the first was evaluated, and 200 later."""
    early, late = result(Part(0, 0, 10), newest=1), result(Part(0, 0, 200), newest=2)
    found = compared({0: (Subject("v0"), early), 1: (Subject("v1"), late)}, ONCE, None)
    assert [inputs(want) for want in found.wants] == [{"version": "v0", "held": 10}]
    assert (found.complete, sorted(found.results)) == (False, [1])
    nearly = result(Part(0, 0, 190), newest=1)
    assert compared({0: (Subject("v0"), nearly), 1: (Subject("v1"), late)}, ONCE, None).complete
    alone = compared({0: (Subject("v0"), early)}, ONCE, None)
    assert (alone.wants, alone.complete) == ((), True)
    none_then = compared({0: (Subject("v0"), result(Part(0, 0, 0))), 1: (Subject("v1"), late)}, ONCE, None)
    assert [inputs(want) for want in none_then.wants] == [{"version": "v0", "held": 0}]


def test_each_sample_of_logs_is_asked_for_again_by_itself() -> None:
    parts = result(Part(0, 0, 63), Part(1, 0, 20))
    assert to_evaluate(LOGS, parts, None, 63) == [Part(1, 0, 200, held=20)]
    (want,) = compared({0: (Subject("v0"), parts)}, LOGS, None).wants
    assert inputs(want) == {"version": "v0", "sample": 1, "held": 20}


def test_an_environment_says_how_many_scenarios_there_are() -> None:
    halves = result(Part(0, 0, 50), Part(0, 50, 50))
    found = compared({0: (Subject("v0"), halves), 1: (Subject("v1"), result(WHOLE))}, HUNDRED, None)
    assert found.complete
