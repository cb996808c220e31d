from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from admin.pages import formats
from admin.pages.curves import moving
from db import clock


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (59.4, "59 s"), (60, "1 min"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (356_400, "4 d 3 h")],
)
def test_durations_have_two_units_at_most(seconds: float, said: str) -> None:
    assert formats.duration(seconds) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "\N{EN DASH}"),
        (3, "3"),
        (3.0, "3"),
        (12345, "12\u202f345"),
        (0.12345, "0.123"),
        (1.2e-5, "1.20e-05"),
        (-0.5, "-0.500"),
    ],
)
def test_numbers_are_short(value: float | None, said: str) -> None:
    assert formats.number(value) == said


def test_moments_are_utc() -> None:
    at = datetime(2025, 1, 15, 12, 30, tzinfo=timezone(timedelta(hours=2)))
    assert formats.moment(at) == formats.moment("2025-01-15T10:30:00Z") == "2025-01-15 10:30 UTC"
    assert formats.iso(at) == "2025-01-15T10:30:00Z"


def test_ages_go_by_the_databases_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    there = datetime.now(UTC) + timedelta(hours=3)
    asked: list[float] = []

    def now(patience: float) -> datetime:
        asked.append(patience)
        return there

    monkeypatch.setattr(clock, "now", now)
    clock.forget()
    try:
        assert formats.ago(there - timedelta(hours=3)) == "3 h ago"
        assert formats.ago(there + timedelta(hours=5, seconds=59)) == "in 5 h"
        started = there - timedelta(seconds=1000)
        found = moving({"done": 10, "total": 20}, started, running=True)
        assert found is not None
        assert found.eta_seconds == pytest.approx(1000, rel=0.1)
        assert len(asked) == 1, "once for all that a page says"
    finally:
        clock.forget()


def test_nothing_took_less_than_no_time() -> None:
    assert formats.duration(-4000) == "0 s"


def test_states_have_a_tone_and_unknown_ones_are_quiet() -> None:
    assert [formats.tone(one) for one in ("succeeded", "running", "dead", "queued")] == ["good", "info", "bad", "quiet"]


def test_sentences_and_commands() -> None:
    assert formats.sentence("need more groups (3/4)") == "Need more groups (3/4)."
    assert formats.sentence("Ready to train!") == "Ready to train!"
    assert formats.code("run `a <b>` or <i>") == "run <code>a &lt;b&gt;</code> or &lt;i&gt;"
    assert formats.percent(0.625) == "62.5\N{NO-BREAK SPACE}%"
