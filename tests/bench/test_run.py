"""A row has a time, and what it suppresses does not give it more."""

from __future__ import annotations

import contextlib
import time

import pytest

from bench.faults.expect import wait_until
from bench.faults.run import OutOfTime, time_limit, told


def wait_for_ever(suppressed: type[BaseException]) -> None:
    with contextlib.suppress(suppressed):
        wait_until(lambda: False, 30, "what never comes")


def test_a_row_that_suppresses_timeouts_is_interrupted_all_the_same() -> None:
    for suppressed in (TimeoutError, Exception):
        with pytest.raises(OutOfTime, match=r"row 7 took longer than 0\.1 s"), time_limit(0.1, "row 7"):
            wait_for_ever(suppressed)


def test_a_row_that_swallows_even_that_has_failed() -> None:
    began = time.monotonic()
    with pytest.raises(OutOfTime), time_limit(0.1, "row 7"):
        wait_for_ever(OutOfTime)
    assert time.monotonic() - began < 25


def test_a_row_within_its_time_is_left_alone_and_an_error_of_its_own_is_kept() -> None:
    with time_limit(60, "row 7"):
        pass
    with pytest.raises(KeyError), time_limit(60, "row 7"):
        raise KeyError
    assert told(OutOfTime("row 7 took longer")).startswith("OutOfTime: row 7 took longer")
