from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.breaker import WINDOW, Breaker, Limits

LIMITS = Limits(failures=3, seconds=10)


def enter(breaker: Breaker, now: float) -> int:
    permit = breaker.enter(now)
    assert permit is not None
    return permit


def opened(at: float = 0) -> Breaker:
    breaker = Breaker(LIMITS)
    for _ in range(LIMITS.failures):
        breaker.failed(enter(breaker, at), at)
    return breaker


def test_failures_in_a_row_open_it() -> None:
    breaker = Breaker(LIMITS)

    assert [breaker.failed(enter(breaker, now), now) for now in (0, 1, 2)] == [False, False, True]
    assert breaker.enter(2) is None
    assert breaker.wait(4) == 8


def test_a_success_between_begins_the_count_again() -> None:
    breaker = Breaker(LIMITS)
    for _ in range(2):
        breaker.failed(enter(breaker, 0), 0)
    breaker.succeeded(enter(breaker, 0))

    assert [breaker.failed(enter(breaker, 0), 0) for _ in range(2)] == [False, False]
    assert breaker.is_closed


def test_half_of_a_full_window_opens_it_and_fewer_do_not() -> None:
    def is_closed_after(outcomes: str) -> bool:
        breaker = Breaker(LIMITS)
        for outcome in outcomes:
            if (permit := breaker.enter(0)) is None:
                break
            if outcome == "+":
                breaker.succeeded(permit)
            else:
                breaker.failed(permit, 0)
        return breaker.is_closed

    assert WINDOW == 20
    assert is_closed_after("+-" * 9 + "+")
    assert not is_closed_after("+-" * 10)
    assert is_closed_after("++-" * 20)


def test_one_call_at_a_time_probes_it() -> None:
    breaker = opened()

    assert breaker.enter(9.9) is None
    probe = enter(breaker, 10)
    assert [breaker.enter(now) for now in (10, 15, 19.9)] == [None] * 3
    breaker.succeeded(probe)
    assert breaker.is_closed
    assert enter(breaker, 15) == enter(breaker, 15)


def test_a_probe_that_fails_opens_it_again_for_as_long() -> None:
    breaker = opened()

    assert breaker.failed(enter(breaker, 10), 12)
    assert breaker.enter(21.9) is None
    assert breaker.enter(22) is not None


def test_a_probe_that_is_left_or_lost_makes_room_for_another() -> None:
    breaker = opened()

    breaker.left(enter(breaker, 10))
    lost = enter(breaker, 11)
    assert not breaker.is_closed
    assert breaker.enter(20.9) is None
    probe = enter(breaker, 21)
    breaker.succeeded(probe)
    assert breaker.is_closed
    assert not breaker.failed(lost, 22)
    assert breaker.is_closed


def test_answers_that_take_longer_than_it_is_open_close_it() -> None:
    breaker = opened()
    probes = [enter(breaker, now) for now in (10, 20)]

    breaker.succeeded(probes[0])

    assert breaker.is_closed
    breaker.succeeded(probes[1])
    assert breaker.is_closed


def test_a_probe_that_is_left_takes_nothing_from_one_before_it() -> None:
    breaker = opened()
    slow, left = (enter(breaker, now) for now in (10, 20))

    breaker.left(left)
    breaker.succeeded(slow)

    assert breaker.is_closed


def test_what_began_before_it_opened_says_nothing_afterwards() -> None:
    breaker = Breaker(LIMITS)
    old = [enter(breaker, 0) for _ in range(6)]
    for permit in old[:3]:
        breaker.failed(permit, 1)

    assert not breaker.failed(old[3], 9)
    breaker.succeeded(old[4])
    assert not breaker.is_closed
    assert breaker.enter(11) is not None


def test_answers_that_break_off_count_while_it_is_closed() -> None:
    breaker = Breaker(LIMITS)

    for _ in range(10):
        breaker.succeeded(enter(breaker, 0))
        is_open = breaker.broke(1)

    assert is_open
    assert not breaker.broke(1)


@given(st.lists(st.sampled_from("+-l"), max_size=200), st.integers(1, 5))
def test_while_it_is_not_closed_at_most_one_call_passes_at_a_time(outcomes: list[str], failures: int) -> None:
    breaker, now = Breaker(Limits(failures, 10)), 0.0
    for outcome in outcomes:
        now += 1
        was_closed = breaker.is_closed
        if (permit := breaker.enter(now)) is None:
            assert not breaker.is_closed
            assert 0 < breaker.wait(now) <= 10
            continue
        assert was_closed or breaker.enter(now) is None
        if outcome == "+":
            breaker.succeeded(permit)
            assert breaker.is_closed
        elif outcome == "-":
            breaker.failed(permit, now)
            assert was_closed or not breaker.is_closed
        else:
            breaker.left(permit)
            assert breaker.is_closed == was_closed
