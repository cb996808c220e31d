from __future__ import annotations

from typing import Any

import pytest

from rl.errors import InvalidInput
from rl.published import Cell, read_rows
from tests.rl.published_run import published


def row(cell: Any, **fields: Any) -> dict[str, Any]:
    return {"rows": [{"step": 13, "types": {"a": cell}} | fields]}


def test_the_published_run_is_read() -> None:
    rows = read_rows(published())
    assert [one.step for one in rows] == [0, 13, 21, 26, 38]
    assert rows[1].types["update"] == Cell(n=6, rate=0.125)
    assert (rows[1].overall, rows[1].training_score, rows[0].training_score) == (0.6667, 0.5562, None)


def test_rows_come_by_step_and_may_stand_alone() -> None:
    rows: list[Any] = published()["rows"]
    assert read_rows(rows[::-1]) == read_rows({"schema": 1, "rows": rows})
    assert read_rows([]) == []


@pytest.mark.parametrize(
    ("cell", "read"),
    [
        ({"k": 15, "n": 16}, Cell(n=16, k=15)),
        ({"k": 15.0, "n": 16.0, "rate": None}, Cell(n=16, k=15)),
        ({"k": 15, "n": 16, "rate": 0.9375}, Cell(n=16, k=15, rate=0.9375)),
        ({"rate": 1, "n": 3}, Cell(n=3, rate=1.0)),
        (
            {"verdicts": {"s1": True, "s2": 0, "s3": None}},
            Cell(n=2, k=1, verdicts={"s1": True, "s2": False, "s3": None}),
        ),
        (None, Cell(n=0)),
        ({}, Cell(n=0)),
        ({"rate": None, "n": 0}, Cell(n=0)),
        ({"rate": 0.0, "n": 0}, Cell(n=0)),
        ({"k": 0, "n": 0}, Cell(n=0)),
    ],
)
def test_cells(cell: Any, read: Cell) -> None:
    assert read_rows(row(cell))[0].types["a"] == read


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, r"rows = None: give \{\"rows\""),
        ({"rows": {}}, "rows = {}: give"),
        ({"rows": [], "row": 1}, "file.row = 1: unknown; known are schema, rows"),
        ({"rows": [3]}, r"rows\[0\] = 3: give an object"),
        ({"rows": [{"types": {}}]}, r"rows\[0\].step = None: give a whole number"),
        ({"rows": [{"step": 1}]}, r"rows\[0\].types = None: give each type"),
        ({"rows": [{"step": -1, "types": {}}]}, r"step = -1: give a whole number, 0 or more"),
        ({"rows": [{"step": True, "types": {}}]}, "step = True"),
        ({"rows": [{"step": 1.5, "types": {}}]}, "step = 1.5"),
        ({"rows": [{"step": 1, "types": {}}] * 2}, r"rows\[1\].step = 1: rows\[0\] has the same step"),
        (row({"k": 1, "n": 2}, foo=1), r"rows\[0\].foo = 1: unknown; known are step, types"),
        (row({"k": 1, "n": 2}, overall=66.67), "overall = 66.67: give a share from 0 to 1, not a percentage"),
        (row({"k": 1, "n": 2}, training_score="0.5"), "training_score = '0.5': give a number"),
        (row({"k": 1, "n": 2}, training_score=float("inf")), "training_score = inf: give a finite number"),
        (row({"k": 1, "n": 2}, training_score=10**400), "training_score = 1000"),
        (
            row({"k": 1, "n": 2}, turns=-1),
            "turns = -1: give a finite number, or null where there is none; it is not neg",
        ),
        (row(0.5), "types.a = 0.5: give"),
        (row({"k": 17, "n": 16}), r"types.a.k = 17: there are only n = 16 verdicts"),
        (row({"k": -1, "n": 16}), "types.a.k = -1"),
        (row({"k": 1}), "types.a.n = None"),
        (row({"k": 1, "n": -2}), "types.a.n = -2"),
        (row({"k": 1, "n": float("nan")}), "types.a.n = nan"),
        (row({"k": 1, "n": 10**9 + 1}), "at most 1000000000"),
        (row({"n": 4}), r"types.a = \{'n': 4\}: say how many"),
        (row({"rate": float("nan"), "n": 4}), "types.a.rate = nan: give a finite number"),
        (row({"rate": 1.01, "n": 4}), "types.a.rate = 1.01: give a share"),
        (row({"rate": 0.5, "n": 0}), "types.a.rate = 0.5: n = 0 verdicts have no rate"),
        (row({"rate": True, "n": 4}), "types.a.rate = True"),
        (row({"rates": 0.5, "n": 4}), "types.a.rates = 0.5: unknown"),
        (row({"verdicts": {"s": 1}, "n": 1}), "types.a.verdicts"),
        (row({"verdicts": [1]}), "types.a.verdicts"),
        (row({"verdicts": {"s": 2}}), "types.a.verdicts.s = 2: a verdict is true or false"),
        (row({"verdicts": {"s": "yes"}}), "types.a.verdicts.s = 'yes'"),
    ],
)
def test_what_cannot_be_is_named(data: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        read_rows(data)
