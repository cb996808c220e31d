from __future__ import annotations

from typing import Any

from bench.faults.rows import Ours, Row, registered
from bench.faults.run import Result
from bench.faults.table import cells, markdown


def result(**fields: Any) -> dict[str, Any]:
    row = Row(3, "a fault", 60, True, False, "nothing compares", lambda _: Ours(0, 0))
    return Result(row, **({"ours": Ours(4, 3, 5.25, {"attempts": 3})} | fields)).public()


def test_a_row_says_what_is_broken() -> None:
    good = result(invariants={"I1": True, "I2": True})
    assert cells(good) == ["3", "a fault", "3 of 4", "5.2 s", "hold", "", ""]
    bad = result(invariants={"I1": True, "I2": False}, complaints=["I2: twice"])
    assert cells(bad)[4] == "I2 broken"
    assert (bad["ours"]["passed"], bad["reason"]) == (False, "I2: twice")


def test_a_row_that_did_not_end_is_one_that_failed() -> None:
    bad = result(ours=None, complaints=["TimeoutError: too long"])
    assert cells(bad)[2:5] == ["0 of 0", "", "failed"]


def test_the_page_has_every_row_and_its_notes() -> None:
    report = {"seed": 3, "lease_seconds": 4.0, "tick_seconds": 1.0, "passed": True, "rows": [result()]}
    page = markdown(report)
    assert "| 3 | a fault | 3 of 4 | 5.2 s | hold |  |  |" in page.splitlines()
    assert page.splitlines()[-1] == "- Row 3, ours: attempts 3."


def test_every_row_of_the_matrix_is_there_once_and_bounded() -> None:
    rows = [row for row, _ in registered()]
    assert [row.number for row in rows] == list(range(1, 33))
    assert all(0 < row.limit_seconds <= 600 for row in rows)
    assert all(row.ours.__doc__ for row in rows)
