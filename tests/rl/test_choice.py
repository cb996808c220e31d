"""The choice among published checkpoints, from a file's content to what is said."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl.choice import Choice, choose
from rl.comparison import probability_better
from rl.lint import Lint
from rl.published import read_rows
from rl.selection import Candidate, select
from tests.rl.published_run import published


def row(step: int, **types: tuple[int, int]) -> dict[str, Any]:
    return {"step": step, "types": {name: {"k": k, "n": n} for name, (k, n) in types.items()}}


def chosen(*rows: dict[str, Any]) -> Choice:
    return choose(read_rows(list(rows)))


tables = st.lists(
    st.tuples(st.integers(0, 20), st.integers(0, 9), st.integers(0, 5), st.sampled_from([None, 0.2, 0.4, 0.5])),
    min_size=1,
    max_size=6,
).map(
    lambda counts: [
        row(10 * i, a=(a, 20), b=(b, 9), c=(c, 5)) | {"training_score": score}
        for i, (a, b, c, score) in enumerate(counts)
    ]
)


def test_the_published_run() -> None:
    found = choose(read_rows(published()))
    assert (found.pick, found.tie_set, found.vetoed, found.unresolved) == (21, [13, 21], [], {})
    assert found.lint == [Lint(step=step, type="update", published=0.125, k=2, n=6) for step in (13, 26)]
    assert found.early_stop == 26
    collapses = [alarm.step for alarm in found.alarms if alarm.name == "COLLAPSE"]
    assert (collapses, found.alarms[0].name, found.alarms[0].step) == ([26, 38], "COLLAPSE", 26)
    assert "OVEROPTIMISATION" not in {alarm.name for alarm in found.alarms}
    assert "do not tell steps 13, 21 apart" in found.reason
    assert found.notes == []


@pytest.mark.parametrize(
    ("step", "mean", "interval", "better", "best"),
    [
        (0, 0.4000, (0.2957, 0.5068), 0.9860, 0.001),
        (13, 0.6571, (0.5530, 0.7573), 0.5, 0.461),
        (21, 0.6571, (0.5530, 0.7573), 0.5, 0.461),
        (26, 0.5429, (0.4349, 0.6497), 0.8392, 0.060),
        (38, 0.4857, (0.3781, 0.5936), 0.9297, 0.016),
    ],
)
def test_the_published_posterior(
    step: int, mean: float, interval: tuple[float, float], better: float, best: float
) -> None:
    found = next(row for row in choose(read_rows(published())).rows if row.step == step)
    assert found.mean == pytest.approx(mean, abs=5.1e-5)
    assert found.interval == pytest.approx(interval, abs=5.1e-5)
    assert found.best_better == pytest.approx(better, abs=5.1e-5)
    assert found.best == pytest.approx(best, abs=1e-3)


def test_the_confirmation_of_the_published_run() -> None:
    confirm = choose(read_rows(published())).confirm
    assert confirm is not None
    assert (confirm.steps, confirm.n, confirm.scenarios, confirm.scenarios_wanted) == ([13, 21], 33, 33, 233)
    assert confirm.difference == pytest.approx(9 / 35)
    assert confirm.decidable == pytest.approx(0.258, abs=1e-3)
    assert "evaluate steps 13, 21 and step 0 on fresh scenarios" in confirm.statement
    assert "33 would show the 0.26 over step 0 that is estimated here; 233 would show 0.1;" in confirm.statement


def test_a_row_with_two_impossible_cells_is_left_out() -> None:
    data = published()
    data["rows"][2]["types"]["retrieval"]["rate"] = 0.9
    data["rows"][2]["types"]["update"]["rate"] = 0.6
    found = choose(read_rows(data))
    assert (found.pick, found.tie_set, list(found.unresolved)) == (13, [13], [21])
    assert [(flag.step, flag.k) for flag in found.lint] == [(13, 2), (21, None), (21, None), (26, 2)]
    assert found.early_stop == 38


def test_a_veto_says_type_and_probability() -> None:
    found = chosen(
        row(0, a=(50, 100), b=(50, 100)), row(10, a=(100, 100), b=(40, 100)), row(20, a=(60, 100), b=(50, 100))
    )
    assert (found.pick, [(one.step, one.type) for one in found.vetoed]) == (20, [(10, "b")])
    assert found.vetoed[0].p == probability_better(50, 100, 40, 100)
    assert {one.step: one.best_better is None for one in found.rows} == {0: False, 10: True, 20: False}
    assert set(found.as_json()["posterior"]) == {"0", "10", "20"}


@pytest.mark.parametrize(
    ("rows", "pick", "tie_set"),
    [
        ([], None, []),
        ([{"step": 3, "types": {}}], None, []),
        ([{"step": 0, "types": {"a": None}}], None, []),
        ([row(0, a=(0, 0))], None, []),
        ([row(0, a=(3, 4))], 0, [0]),
        ([row(13, a=(3, 4))], 13, [13]),
        ([row(0, a=(80, 100)), row(1, a=(50, 100))], 0, [0]),
        ([row(0, a=(5, 10)), row(1, a=(5, 10)), row(2, a=(5, 10))], 0, [0, 1, 2]),
        ([row(5, a=(5, 10)), row(4, a=(5, 10))], 4, [4, 5]),
        ([row(0, a=(0, 1)), row(1, a=(1, 1))], 1, [1]),  # 5/6
        ([row(0, a=(0, 10)), row(1, a=(10, 10))], 1, [1]),
        ([row(0, a=(5, 10), b=(1, 2)), row(1, a=(9, 10)), row(2, a=(6, 10), b=(1, 2))], 2, [0, 2]),
        ([row(0, a=(50, 100)), row(1, a=(90, 94)), row(2, a=(50, 95))], 2, [0, 2]),
        ([row(0, a=(10**5, 10**6)), row(1, a=(10**5 + 1, 10**6)), row(2, a=(10**5 + 2000, 10**6))], 2, [2]),
    ],
)
def test_tables_of_all_kinds(rows: list[dict[str, Any]], pick: int | None, tie_set: list[int]) -> None:
    found = chosen(*rows)
    assert (found.pick, found.tie_set) == (pick, tie_set)


def test_what_is_not_told_is_said() -> None:
    lacking = chosen(row(13, a=(3, 10)), row(21, a=(9, 10)))
    assert lacking.notes[0].startswith("there is no step 0, the version that training started from: nothing is vetoed")
    assert lacking.notes[1] == "no training score at 13, 21: COLLAPSE and OVEROPTIMISATION cannot be told there"
    unfinished = chosen(row(0, a=(3, 9)), row(21, a=(9, 10)))
    assert unfinished.unresolved == {
        0: "only 9 of 10 verdicts of a; at least 95% are needed: evaluate the missing scenarios"
    }
    assert unfinished.notes[0].startswith("step 0 cannot be ranked")
    tied = chosen(row(0, a=(5, 10)), row(21, a=(6, 10)) | {"training_score": 0})
    assert tied.notes == [
        "the data do not tell step 21 from step 0: no improvement is shown",
        "training scores of 0 or less at 21: a fall from there is no COLLAPSE",
    ]
    dropped = chosen(row(0, a=(5, 10), b=(0, 0)), row(21, a=(9, 10)))
    assert dropped.notes[-1] == "not ranked by b: no row that is ranked has verdicts of it"
    assert dropped.reason == "step 21 (9/10) is credibly better than every other (P 0.968 or more by the counts)"


def test_what_only_the_pairs_tell_is_no_credible_difference_by_the_counts() -> None:
    verdicts = [{"verdicts": {"a1": True, "a2": True, "a3": second}} for second in (False, True)]
    found = chosen(*({"step": step, "types": {"a": one}} for step, one in enumerate(verdicts)))
    p = probability_better(3, 3, 2, 3)
    assert (found.paired, found.pick, round(p, 3)) == (True, 1, 0.786)
    assert (
        found.reason
        == "step 1 (3/3) is better than every other by the rule, and by the counts alone with P 0.786, below 0.8"
    )


def test_turns_and_tokens_break_ties() -> None:
    rows = [row(0, a=(2, 10)), row(1, a=(8, 10)), row(2, a=(8, 10)), row(3, a=(8, 10))]
    assert chosen(*rows).pick == 1
    assert chosen(*(one | {"turns": 9 - one["step"]} for one in rows)).pick == 3
    assert (
        chosen(rows[0], rows[1], rows[2] | {"turns": 5, "tokens": 90}, rows[3] | {"turns": 5, "tokens": 80}).pick == 3
    )


def verdicts(step: int, right: str, wrong: str, unknown: str = "") -> dict[str, Any]:
    known = dict.fromkeys(right, True) | dict.fromkeys(wrong, False) | dict.fromkeys(unknown)
    return {"step": step, "types": {"a": {"verdicts": known}}}


def test_verdicts_are_compared_in_pairs() -> None:
    """Of five scenarios two got right that were wrong: 1 - (3/5)^5 + (3/5)^5 / 2; unpaired they tie."""
    found = chosen(verdicts(0, "abc", "de"), verdicts(1, "abcde", ""))
    assert (found.pick, found.tie_set, found.paired) == (1, [1], True)
    assert found.rows[0].best_better == pytest.approx(1 - 0.6**5 / 2)
    mixed = chosen(row(0, a=(3, 5)), verdicts(1, "abcde", ""))
    assert mixed.paired is False
    assert mixed.rows[0].best_better == probability_better(5, 5, 3, 5)


def test_missing_verdicts_and_other_scenarios_are_coverage() -> None:
    assert chosen(verdicts(0, "abc", "de"), verdicts(1, "abcd", "", "e")).unresolved == {
        1: "only 4 of 5 verdicts of a; at least 95% are needed: evaluate the missing scenarios"
    }
    assert chosen(verdicts(0, "abc", "de"), verdicts(1, "vwx", "yz")).pick is None


@given(tables, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_rows_and_types_changes_nothing(rows: list[dict[str, Any]], shuffle: random.Random) -> None:
    mixed = [one | {"types": dict(shuffle.sample(list(one["types"].items()), 3))} for one in rows]
    assert chosen(*shuffle.sample(mixed, len(mixed))) == chosen(*rows)


@given(tables, st.integers(1, 3))
@settings(deadline=None)
def test_a_strictly_worse_row_does_not_change_the_pick(rows: list[dict[str, Any]], less: int) -> None:
    found = chosen(*rows)
    pick = next(one for one in rows if one["step"] == found.pick)
    cells = {name: {"k": cell["k"] - less, "n": cell["n"]} for name, cell in pick["types"].items()}
    if min(cell["k"] for cell in cells.values()) < 0:
        return
    assert chosen(*rows, {"step": 99, "types": cells}).pick == found.pick


@given(tables)
@settings(deadline=None)
def test_it_ranks_as_the_planner_does(rows: list[dict[str, Any]]) -> None:
    candidates = [
        Candidate(step=one["step"], types={name: (cell["k"], cell["n"]) for name, cell in one["types"].items()})
        for one in rows
    ]
    expected, found = select(candidates), chosen(*rows)
    assert (found.pick, found.tie_set) == (expected.pick, expected.tie_set)
    assert {one.step for one in found.vetoed} == set(expected.vetoed)
    assert found.as_json()["posterior"] == {str(step): mean for step, mean in expected.posterior.items()}


def test_with_very_many_steps_the_probability_to_be_the_best_is_left_out() -> None:
    found = chosen(*(row(step, a=(step % 7, 10)) for step in range(201)))
    assert (found.pick, found.tie_set[0], {one.best for one in found.rows}) == (6, 5, {None})
