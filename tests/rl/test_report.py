"""What a report of a published table says, by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl.errors import InvalidInput
from rl.published import PublishedRow, read_rows
from rl.report import Count, of_table, size_of
from tests.rl.published_run import SIZES, SUCCESSES, published


def row(step: int, training: float | None = None, **counts: tuple[int, int]) -> PublishedRow:
    types = {name: {"k": k, "n": n} for name, (k, n) in counts.items()}
    return read_rows([{"step": step, "types": types, "training_score": training}])[0]


def test_the_published_table_as_the_facts_have_it() -> None:
    found = of_table(read_rows(published()), "obsidian-retrieval")
    assert [(one.step, one.tied, one.picked) for one in found.points] == [
        (0, False, False),
        (13, True, False),
        (21, True, True),
        (26, False, False),
        (38, False, False),
    ]
    names = ("retrieval", "update", "clarification")
    assert {one.step: tuple(one.types[name].k for name in names) for one in found.points} == SUCCESSES
    assert all(one.types[name].n == SIZES[name] for one in found.points for name in names)
    overall = {one.step: one.overall for one in found.points}
    assert overall[21] is not None
    assert (overall[21].k, overall[21].n) == (22, 33)
    assert (round(overall[21].low, 4), round(overall[21].high, 4)) == (0.5530, 0.7573)
    assert (round(found.points[2].types["update"].low, 4), round(found.points[2].types["update"].high, 4)) == (
        0.4038,
        0.8304,
    )
    assert [(one.name, one.step) for one in found.alarms if one.name == "COLLAPSE"] == [
        ("COLLAPSE", 26),
        ("COLLAPSE", 38),
    ]
    assert (found.pick, found.tie_set, found.early_stop) == (21, [13, 21], 26)
    assert [(one.step, one.type, one.k, one.n) for one in found.lint] == [(13, "update", 2, 6), (26, "update", 2, 6)]
    assert found.size is not None
    assert (found.size.n, found.size.scenarios) == (33, {"0.05": 940, "0.1": 233, "0.2": 56})
    assert found.training_scale
    assert found.as_json()["schema"] == 1
    assert found.as_json()["tie_set"] == [13, 21]


def test_points_are_hollow_where_verdicts_are_missing() -> None:
    whole, nearly, half, none = row(0, a=(10, 100)), row(1, a=(20, 97)), row(2, a=(20, 50)), row(3, 0.5)
    found = {one.step: one for one in of_table([whole, nearly, half, none]).points}
    assert [found[step].hollow for step in range(4)] == [False, True, True, True]
    assert [bool(found[step].left_out) for step in range(4)] == [False, False, True, True]
    assert [found[step].coverage for step in range(4)] == [1.0, 0.97, 0.5, 0.0]
    assert found[2].overall == Count.of(20, 50)
    assert found[3].overall is None
    assert found[3].types == {}


def test_a_row_with_two_impossible_cells_is_drawn_with_the_cell_that_is_known() -> None:
    held = {"step": 4, "types": {"a": {"rate": 0.11, "n": 6}, "b": {"rate": 0.22, "n": 7}, "c": {"k": 3, "n": 9}}}
    points = of_table([row(0, a=(1, 6), b=(1, 7), c=(1, 9)), *read_rows([held])]).points
    assert points[1].types == {"c": Count.of(3, 9)}
    assert points[1].overall is None
    assert points[1].hollow
    assert points[1].left_out.startswith("2 cells cannot be counts")


def test_a_veto_and_scores_that_are_no_shares_are_said() -> None:
    found = of_table([row(0, a=(9, 10), b=(1, 10)), row(5, 12.5, a=(2, 10), b=(9, 10))])
    assert found.points[1].vetoed == ("a",)
    assert not found.training_scale


def test_one_row_is_a_report_and_none_is_not() -> None:
    found = of_table([row(0, a=(9, 16))])
    assert (found.pick, found.tie_set, len(found.points)) == (0, [0], 1)
    assert found.size is not None
    assert found.size.decidable is None
    with pytest.raises(InvalidInput, match="the table is empty"):
        of_table([])
    assert size_of(0) is None


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=6))
def test_intervals_hold_the_posterior_mean_and_counts_add_up(counts: list[tuple[int, int]]) -> None:
    rows = [row(step, a=(min(a, b), 30), b=(b, 40)) for step, (a, b) in enumerate(counts)]
    for one in of_table(rows).points:
        assert one.overall is not None
        assert one.overall.k == sum(count.k for count in one.types.values())
        for count in (one.overall, *one.types.values()):
            assert 0 <= count.low < (count.k + 1) / (count.n + 2) < count.high <= 1
