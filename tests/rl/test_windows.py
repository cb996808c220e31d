from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from rl.errors import InvalidInput, MalformedWindow, PermanentError
from rl.windows import WindowId, hour_of, parse, round_of


def test_an_hour_begins_and_ends() -> None:
    window = parse("2025-01-15T23:00")
    assert window == WindowId("2025-01-15T23:00", hour=datetime(2025, 1, 15, 23, tzinfo=UTC))
    assert window.ends_at == datetime(2025, 1, 16, tzinfo=UTC)


def test_a_round_has_a_run_and_a_number_and_no_end() -> None:
    window = parse("run/demo_2-x/0012")
    assert window == WindowId("run/demo_2-x/0012", run="demo_2-x", round=12)
    assert window.ends_at is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2025-01-15",
        "2025-01-15T10:30",
        "2025-01-15T10:00Z",
        "2025-01-15T24:00",
        "2025-02-30T10:00",
        "2025-1-15T10:00",
        " 2025-01-15T10:00",
        "2025-01-15T10:00\n",
        "run/demo/3",
        "run/Demo/0003",
        "run/-demo/0003",
        "run//0003",
        "run/demo/0003/",
        "run/demo/0003\n",
        "run/demo/٠٠٠٣",
        "run/" + "x" * 65 + "/0001",
        None,
        7,
        b"2025-01-15T10:00",
        ["2025-01-15T10:00"],
    ],
)
def test_anything_else_is_refused_with_the_remedy(text: object) -> None:
    with pytest.raises(MalformedWindow, match=r"write a UTC hour like 2025-01-15T10:00, or one round of a run"):
        parse(text)


def test_a_malformed_window_is_not_tried_again() -> None:
    assert issubclass(MalformedWindow, InvalidInput)
    assert issubclass(MalformedWindow, PermanentError)


def test_a_moment_belongs_to_the_utc_hour_it_lies_in() -> None:
    tokyo = timezone(timedelta(hours=9, minutes=30))
    assert hour_of(datetime(2025, 1, 15, 10, 59, 59, 999_999, tzinfo=UTC)).text == "2025-01-15T10:00"
    assert hour_of(datetime(2025, 1, 15, 11, tzinfo=UTC)).text == "2025-01-15T11:00"
    assert hour_of(datetime(2025, 1, 15, 9, 15, tzinfo=tokyo)).text == "2025-01-14T23:00"
    assert parse("2025-01-14T23:00") == hour_of(datetime(2025, 1, 15, 9, 15, tzinfo=tokyo))


def test_rounds_are_numbered_with_four_digits() -> None:
    assert round_of("demo", 3) == parse("run/demo/0003")
    for run, number in (("Demo", 1), ("demo", 10_000)):
        with pytest.raises(MalformedWindow):
            round_of(run, number)
