from __future__ import annotations

import dataclasses
import enum
import json
import logging
import math
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from recorder.counts import Counts
from recorder.values import compose, encode, identifier, moment, number

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


class Colour(enum.Enum):
    RED = "red"


class Model(BaseModel):
    a: int
    b: str | None = None


@dataclasses.dataclass
class Point:
    x: int
    y: Colour


@given(JSON)
def test_what_json_has_comes_back_as_it_was(value: Any) -> None:
    counts = Counts()
    assert json.loads(encode(value, "state", counts)) == value
    assert counts["bad_values"] == 0


def test_what_readers_expect_of_common_objects() -> None:
    counts = Counts()
    value = {
        "at": datetime(2025, 1, 15, 10, tzinfo=UTC),
        "colour": Colour.RED,
        "id": UUID(int=1),
        "path": Path("a/b"),
        "price": Decimal("1.5"),
        "model": Model(a=1),
        "point": Point(1, Colour.RED),
        "array": np.arange(3),
        "scalar": np.float32(0.5),
        "set": {"b", "a"},
        7: "seven",
    }
    assert json.loads(encode(value, "state", counts)) == {
        "at": "2025-01-15T10:00:00+00:00",
        "colour": "red",
        "id": "00000000-0000-0000-0000-000000000001",
        "path": "a/b",
        "price": 1.5,
        "model": {"a": 1},
        "point": {"x": 1, "y": "red"},
        "array": [0, 1, 2],
        "scalar": 0.5,
        "set": ["a", "b"],
        "7": "seven",
    }
    assert counts["bad_values"] == 0


class Hostile:
    def model_dump(self, **_: object) -> object:
        raise RuntimeError("no")

    def __repr__(self) -> str:
        raise RuntimeError("no")


def test_what_json_lacks_is_replaced_and_counted_with_its_field(caplog: pytest.LogCaptureFixture) -> None:
    counts = Counts()
    loop: list[object] = []
    loop.append(loop)
    value = {"pnl": math.nan, "far": -math.inf, "object": object(), "hostile": Hostile(), "half": "a\ud800b", (1, 2): 3}
    with caplog.at_level(logging.WARNING, "recorder"):
        found = json.loads(encode(value, "state", counts))
        assert json.loads(encode({"pnl": math.nan}, "state", counts)) == {"pnl": None}
        assert encode(loop, "loop", counts).count(b"[") == 64
    assert found == {
        "pnl": None,
        "far": None,
        "object": "<object>",
        "hostile": "<Hostile>",
        "half": "a?b",
        "(1, 2)": 3,
    }
    assert counts["bad_values"] == 7
    assert caplog.text.count("state.pnl is not a finite number") == 1, "logged once"


def test_numbers_are_finite_or_nothing() -> None:
    counts = Counts()
    given = [1, True, "0.5", np.float64(2.5), math.nan, math.inf, None, "x", [1], 10**400]
    assert [number(value, "reward", counts) for value in given] == [1.0, 1.0, 0.5, 2.5, *[None] * 6]
    assert counts["bad_values"] == 6


def test_ids_are_text_of_a_length_that_a_header_carries() -> None:
    counts = Counts()
    given: list[object] = ["a", 7, UUID(int=0), "x" * 200, "", "x" * 201, None, 1.5, True]
    known = ["a", "7", "00000000-0000-0000-0000-000000000000", "x" * 200]
    assert [identifier(value, "agentId", counts) for value in given] == [*known, *[None] * 5]


def test_moments_are_in_utc_with_their_zone() -> None:
    east = timezone(timedelta(hours=2))
    assert moment(0) == b'"1970-01-01T00:00:00+00:00"'
    assert moment(datetime(2025, 1, 15, 10)) == b'"2025-01-15T10:00:00+00:00"'  # noqa: DTZ001
    assert moment(datetime(2025, 1, 15, 10, tzinfo=east)) == b'"2025-01-15T08:00:00+00:00"'


def test_an_event_holds_its_type_and_the_fields_that_are_there() -> None:
    assert compose("endTrajectory", {"a": b"1", "b": None, "c": b"[2]"}) == b'{"type":"endTrajectory","a":1,"c":[2]}'
