"""Which hours lie in a span of time."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from rl.windows import parse
from sources.values import overlaps

FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("since", "until", "inside"),
    [
        (None, None, True),
        (FIRST, LAST, True),
        (datetime(2025, 1, 15, 10, 59, 59, tzinfo=UTC), None, True),
        (datetime(2025, 1, 15, 11, tzinfo=UTC), None, False),
        (None, datetime(2025, 1, 15, 10, tzinfo=UTC), False),
        (None, datetime(2025, 1, 15, 10, 0, 1, tzinfo=UTC), True),
    ],
)
def test_an_hour_overlaps_a_span(since: datetime | None, until: datetime | None, inside: bool) -> None:
    assert overlaps(parse("2025-01-15T10:00"), since, until) is inside
