"""Window ids under random text: what parses comes back letter by letter, and nothing else escapes."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rl.errors import MalformedWindow
from rl.windows import ROUND, hour_of, parse, round_of

moments = st.datetimes(datetime(1000, 1, 1), datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001
near = st.from_regex(r"\A(run/)?[a-z0-9_/-]{0,8}[0-9T:/-]{0,18}\s?\Z")
anything = st.one_of(st.text(), near, st.from_regex(r"\A\d{4}-\d\d-\d\dT\d\d:00\n?\Z"), st.integers(), st.binary())


@given(moments)
def test_a_moments_hour_parses_back_and_holds_it(moment: datetime) -> None:
    window = hour_of(moment)
    assert parse(window.text) == window
    assert window.hour is not None
    assert window.ends_at is not None
    assert window.hour <= moment < window.ends_at
    assert window.ends_at - window.hour == timedelta(hours=1)


@given(st.from_regex(r"\A[a-z0-9][a-z0-9_-]{0,63}\Z"), st.integers(0, 9999))
def test_a_round_parses_back(run: str, number: int) -> None:
    window = round_of(run, number)
    assert (window.run, window.round, window.hour, window.ends_at) == (run, number, None, None)
    assert parse(window.text) == window


@given(anything)
@example("run/demo/0003\n")
@example("run/demo/٠٠٠٣")
@example("0000-01-01T00:00")
@example("2025-02-29T10:00")
def test_text_is_a_window_letter_by_letter_or_malformed(text: object) -> None:
    try:
        window = parse(text)
    except MalformedWindow:
        return
    assert isinstance(text, str)
    assert re.fullmatch(r"[a-z0-9T:/_-]+", text, re.ASCII)
    if window.hour is None:
        assert ROUND.fullmatch(text)
    else:
        assert window.hour.strftime("%Y-%m-%dT%H:%M").rjust(16, "0") == text


def test_a_round_beyond_four_digits_is_refused() -> None:
    for number in (10_000, -1):
        with pytest.raises(MalformedWindow):
            round_of("demo", number)
