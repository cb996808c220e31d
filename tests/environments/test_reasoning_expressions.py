from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from environments.reasoning.answers import answer_of, say
from environments.reasoning.expressions import NoFormula, check, checked


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("<answer>62</answer>", "62"),
        ("It is <answer>61</answer>, no, <answer> 62\n</answer>", "62"),
        ("<think><answer>61</answer></think> 62 ", "62"),
        ("<ANSWER>a\nb</ANSWER>", "a\nb"),
        ("<answer>62", "<answer>62"),
        ("", ""),
        ("<think>62", ""),
    ],
)
def test_the_answer_is_what_is_tagged_last_or_all_that_is_spoken(reply: str, answer: str) -> None:
    assert answer_of(reply) == answer


def test_what_is_said_is_read_again() -> None:
    assert answer_of(say("1 0\n0 1")) == "1 0\n0 1"


@pytest.mark.parametrize(
    "text",
    [
        "12*31 - 20 - 52 - 71 + 24",
        " (6 + 2)*3 ",
        "-x**3/3 + 2.5*x + C",
        "6624*y**6 + 12327*y**5 - 1",
        "exp(x)*sin(x)/2 - sqrt(1 - x**2)*log(x) + pi*C",
        "x**(1/2)",
        "(x**2 + 1)**3",
    ],
)
def test_formulas_are_evaluated(text: str) -> None:
    check(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "24 =",
        "__import__('os').system('true')",
        "(1).__class__",
        "[x for x in (1,)]",
        "lambda: 1",
        "x if x else 1",
        "exec",
        "print(1)",
        "S('1')",
        "Symbol",
        "sin(x=1)",
        "'text'",
        "True",
        "x[0]",
        "1; 2",
        "9**9**9",
        "((9**9)**9)**9",
        "9**101",
        "9**(50*9000)",
        "(" * 1000,
        "1+" * 1000 + "1",
        "1\0",
        "1j",
    ],
)
def test_more_than_a_formula_is_not(text: str) -> None:
    with pytest.raises(NoFormula):
        check(text)


@given(text=st.text(max_size=80))
def test_any_text_is_checked_or_refused(text: str) -> None:
    try:
        check(text)
    except NoFormula:
        return
    assert "__" not in text


def test_only_formulas_reach_the_parser() -> None:
    reached: list[str] = []
    parse = checked(lambda text, **named: reached.append(text), lambda text: text == "Integral(x)")
    parse("1 + 1", local_dict={})
    parse("Integral(x)")
    with pytest.raises(NoFormula, match="a formula has no"):
        parse("exit()")
    assert reached == ["1 + 1", "Integral(x)"]
