from __future__ import annotations

import pytest

from rl.errors import InvalidInput
from rl.published import read_rows
from rl.published_csv import rows_of_csv
from tests.rl.published_run import RATES, SIZES, published

LONG = "step,type,k,n,rate,overall,training_score\n"


def long_form(delimiter: str = ",") -> str:
    lines = ["step,type,k,n,rate,overall,training_score"]
    for step, (*rates, overall, score) in RATES.items():
        for (name, n), rate in zip(SIZES.items(), rates, strict=True):
            lines.append(f"{step},{name},,{n},{rate},{overall},{'' if score is None else score}")
    return "\n".join(lines).replace(",", delimiter) + "\n"


def wide_form() -> str:
    lines = [
        ",".join(["step", *(f"{name}.{part}" for name in SIZES for part in ("rate", "n")), "overall,training_score"])
    ]
    for step, (*rates, overall, score) in RATES.items():
        cells = [f"{rate},{n}" for n, rate in zip(SIZES.values(), rates, strict=True)]
        lines.append(",".join([str(step), *cells, str(overall), "" if score is None else str(score)]))
    return "\n".join(lines)


@pytest.mark.parametrize("text", [long_form(), long_form(";"), long_form("\t"), "\ufeff" + long_form(), wide_form()])
def test_both_forms_are_the_published_run(text: str) -> None:
    assert read_rows(rows_of_csv(text)) == read_rows(published())


def test_counts_and_empty_cells() -> None:
    assert rows_of_csv("step,a,b,turns\n0,5/10, 1 / 2 ,3.5\n13,,2/2,\n") == [
        {"step": 0, "types": {"a": {"k": 5, "n": 10}, "b": {"k": 1, "n": 2}}, "turns": 3.5},
        {"step": 13, "types": {"a": None, "b": {"k": 2, "n": 2}}},
    ]
    assert rows_of_csv(LONG + "13,a,3,4,,,\n13,b,,,,.5,\n0,,,,,,0.25\n") == [
        {"step": 13, "types": {"a": {"k": 3, "n": 4}, "b": None}, "overall": 0.5},
        {"step": 0, "types": {}, "training_score": 0.25},
    ]
    assert rows_of_csv("step,type,k,n\n") == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"columns = \[\]: name a column step"),
        ("type,k,n\na,1,2\n", "name a column step"),
        ("step,a,a\n0,1/2,1/2\n", r"columns = \['a'\]: name each column once"),
        ("step,type,k,m\n0,a,1,2\n", "columns = 'm': unknown beside a column type"),
        ("step,type,k,n\n0,a,1\n", "line 2 = 4: give as many cells"),
        ("step,type,k,n\n0,a,1,2,3\n", "line 2 = 4: give as many cells"),
        ("step,type,k,n\n0,a,1,two\n", "line 2: n = 'two': give a number"),
        ("step,type,k,n\nx,a,1,2\n", "line 2: step = 'x': give a whole number"),
        ("step,type,k,n\n0,a,1,2\n0,a,1,2\n", "line 3: a = .*: an earlier line of this step says"),
        ("step,type,k,n\n0,,1,2\n", "line 2: type = '': name the type that k, n is of"),
        (LONG + "0,a,1,2,,.5,\n0,b,1,2,,.6,\n", "line 3: overall = 0.6: an earlier line of this step says 0.5"),
        ("step,a\n0,0.5\n", "line 2: a = '0.5': give successes and verdicts as 15/16"),
        ('step,a\n0,"1/2\n', "is not CSV"),
    ],
)
def test_what_is_no_table_is_named(text: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        rows_of_csv(text)
