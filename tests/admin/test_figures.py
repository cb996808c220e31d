from __future__ import annotations

import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from admin import figures
from admin.figures import Series


def parts(markup: str, name: str, kind: str) -> list[ElementTree.Element]:
    root = ElementTree.fromstring(markup)  # noqa: S314 - our own markup
    return [one for one in root.iter(name) if one.get("class") == kind]


def heights(markup: str) -> list[float]:
    return [float(dot.get("cy", "")) for dot in parts(markup, "circle", "dot-1")]


def test_higher_values_are_drawn_higher_and_gaps_stay_gaps() -> None:
    drawn = figures.line_chart([Series("loss", [0.0, 1.0, None, 0.5])], ["1", "2", "3", "4"], "loss by step")
    low, high, middle = heights(drawn)
    assert low > middle > high
    assert middle == pytest.approx((low + high) / 2, abs=0.1)
    (line,) = parts(drawn, "path", "series-1")
    assert line.get("d", "").count("M") == 2, "two stretches"
    assert ElementTree.fromstring(drawn).get("aria-label") == "loss by step"  # noqa: S314


@pytest.mark.parametrize("values", [[], [None, None], [float("nan")], [float("inf")]])
def test_nothing_to_draw_draws_nothing(values: list[float | None]) -> None:
    assert figures.line_chart([Series("x", values)], ["a"] * len(values), "x") == ""
    assert figures.sparkline(values, "x") == ""
    assert figures.stacked_bar([], "x") == ""
    assert figures.bar_chart([0, 0], ["a", "b"], "x") == ""


def test_one_value_or_the_same_one_again_can_be_drawn() -> None:
    assert len(heights(figures.line_chart([Series("x", [3.0])], ["1"], "x"))) == 1
    first, second = heights(figures.line_chart([Series("x", [0.0, 0.0])], ["1", "2"], "x"))
    assert first == second


def test_intervals_are_whiskers_or_a_band_and_the_axis_holds_them() -> None:
    series = Series("right", [0.5, 0.6], [(0.3, 0.7), (0.5, 0.9)])
    drawn = figures.line_chart([series], ["v1", "v2"], "right", whiskers=True)
    assert len(parts(drawn, "path", "whisker-1")) == 2
    edges = [float(one) for one in re.findall(r"V([\d.]+)", drawn)]
    assert all(figures.TOP <= edge <= figures.HEIGHT - figures.BOTTOM for edge in edges)
    assert len(parts(figures.line_chart([series], ["v1", "v2"], "right"), "path", "band-1")) == 1


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([0.0, 1.0], ["0", "0.25", "0.5", "0.75", "1"]),
        ([3.0, 5.0], ["3", "3.5", "4", "4.5", "5"]),
        ([2e-6, 2e-6], ["1e-06", "1.5e-06", "2e-06", "2.5e-06", "3e-06"]),
        ([1e17, 1e17], ["50,000,000,000,000,000", "75,000,000,000,000,000", "100,000,000,000,000,000"]),
        ([0.0, 9000.0], ["0", "2,500", "5,000", "7,500", "10,000"]),
        ([-2e-6, 2e-6], ["-2e-06", "-1e-06", "0", "1e-06", "2e-06"]),
    ],
)
def test_the_axis_has_round_numbers(values: list[float], shown: list[str]) -> None:
    drawn = figures.line_chart([Series("x", values)], ["", ""], "x")
    assert re.findall(r'text-anchor="end">([^<]+)<', drawn)[: len(shown)] == shown


def test_labels_do_not_run_into_each_other() -> None:
    labels = [f"{hour:02}:00" for hour in range(48)]
    drawn = figures.line_chart([Series("x", [1.0] * 48)], labels, "x")
    places = [float(one) for one in re.findall(r'<text x="([\d.]+)"[^>]*text-anchor="middle"', drawn)]
    apart = [after - before for before, after in pairwise(places)]
    assert len(places) >= 5
    assert min(apart) >= 5 * figures.CHARACTER


def test_what_comes_from_outside_is_no_markup() -> None:
    evil = '"><script>alert(1)</script>'
    for drawn in (
        figures.line_chart([Series(evil, [1.0])], [evil], evil),
        figures.stacked_bar([(evil, 1)], evil),
        figures.sparkline([1.0], evil),
        figures.bar_chart([1.0], [evil], evil),
        figures.legend([evil]),
    ):
        ElementTree.fromstring(drawn)  # noqa: S314
        assert "<script" not in drawn


def test_the_parts_of_a_bar_fill_it() -> None:
    root = ElementTree.fromstring(figures.stacked_bar([("stable", 90), ("canary", 10)], "shares"))  # noqa: S314
    bars = [one for one in root if one.tag == "rect"]
    assert [(float(one.get("x", "")), float(one.get("width", ""))) for one in bars] == [(0, 90), (90, 10)]
    assert [title.text for title in root.iter("title")] == ["stable: 90", "canary: 10"]


def test_a_value_between_two_gaps_is_a_dot_among_however_many() -> None:
    values: list[float | None] = [None] * 48
    values[10] = values[20] = values[21] = 0.5
    drawn = figures.line_chart([Series("reward", values)], [""] * 48, "x")
    assert len(heights(drawn)) == 1, "20 and 21 have a line"
