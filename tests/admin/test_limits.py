from __future__ import annotations

import pytest

from admin import limits
from admin.errors import Refused
from admin.limits import Limit


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def taken(limit: Limit, caller: str = "ann", most: int = 1000) -> int:
    """How many requests are let through at once."""
    for count in range(most):
        try:
            limit.take(caller)
        except Refused:
            return count
    return most


def test_a_full_bucket_holds_its_burst_and_fills_at_its_rate(clock: Clock) -> None:
    limit = Limit(2, 5, clock)
    assert taken(limit) == 5
    clock.now += 0.4  # 0.8 of a request
    assert taken(limit) == 0
    clock.now += 0.1  # 1.0
    assert taken(limit) == 1
    clock.now += 1.25  # 2.5
    assert taken(limit) == 2
    clock.now += 0.25  # the half that was left, and another
    assert taken(limit) == 1
    clock.now += 3600
    assert taken(limit) == 5


def test_who_is_refused_is_told_when_to_come_back_and_not_counted(clock: Clock) -> None:
    limit = Limit(1 / 6, 10, clock)
    assert taken(limit) == 10
    for waited, left in ((0.0, 6), (2.5, 4), (3.0, 1)):
        clock.now += waited
        with pytest.raises(Refused) as refused:
            limit.take("ann")
        assert (refused.value.status_code, refused.value.headers) == (429, {"Retry-After": str(left)})
        assert refused.value.remedy == f"wait {left} s"
    clock.now += 0.5
    limit.take("ann")


def test_callers_have_buckets_of_their_own(clock: Clock) -> None:
    limit = Limit(1, 3, clock)
    assert (taken(limit, "ann"), taken(limit, "ben"), taken(limit, "ann")) == (3, 3, 0)


def test_a_slow_limit_lets_one_through(clock: Clock) -> None:
    assert taken(Limit(0.01, 0.1, clock)) == 1


def test_no_more_buckets_are_kept_than_may_be(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_CALLERS", 2)
    limit = Limit(1, 1, clock)
    for caller in ("ann", "ben", "cleo"):
        limit.take(caller)
    assert (taken(limit, "cleo"), taken(limit, "ben"), taken(limit, "ann")) == (0, 0, 1)
