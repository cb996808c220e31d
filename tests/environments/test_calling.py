from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from environments.calling import LARGEST, Call, Miscalled, function, read, write

TOOLS = (
    function(
        "bet",
        "Bet on a side.",
        ("note",),
        side={"type": "string", "enum": ["yes", "no"]},
        amount={"type": "number", "exclusiveMinimum": 0},
        note={"type": "string"},
    ),
    function("sell", "Sell shares.", ("count",), count={"type": "integer", "minimum": 1}),
    function("wait", "Wait."),
)
NO_AMOUNTS: list[object] = [0, -1, -0.5, "5", None, True, [5], {}, 2 * LARGEST, 10**4000]
NO_AMOUNTS += [float("nan"), float("inf"), float("-inf")]
CALLS = "bet(side, amount, note?), sell(count?), wait()"


def test_a_function_is_in_openais_form() -> None:
    assert TOOLS[0] == {
        "type": "function",
        "function": {
            "name": "bet",
            "description": "Bet on a side.",
            "parameters": {
                "type": "object",
                "properties": {
                    "side": {"type": "string", "enum": ["yes", "no"]},
                    "amount": {"type": "number", "exclusiveMinimum": 0},
                    "note": {"type": "string"},
                },
                "required": ["side", "amount"],
                "additionalProperties": False,
            },
        },
    }


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("wait", {}),
        ("bet", {"side": "no", "amount": 2.5}),
        ("bet", {"side": "yes", "amount": 3, "note": ""}),
        ("bet", {"amount": LARGEST, "side": "yes", "note": "a\u2028\U0001f600"}),
        ("sell", {"count": 1}),
        ("sell", {"count": 2.0}),
        ("sell", {}),
    ],
)
def test_what_is_written_is_read(name: str, arguments: dict[str, Any]) -> None:
    assert read(write(name, arguments), TOOLS) == Call(name, arguments)


@pytest.mark.parametrize(
    ("reply", "remark"),
    [
        *(
            (reply, f"Call one of the functions {CALLS}.")
            for reply in (
                *("", "wait", "wait()", "null", "[]", '"wait"', "NaN", '{"name": "wait"}', '{"arguments": {}}'),
                '{"name": "wait", "arguments": {}} ok',
                '{"name": "wait", "arguments": {}, "id": 1}',
                '{"action": "wait"}',
                "[" * 15_000,
                '{"name": ' * 3_000,
                '{"name": "sell", "arguments": {"count": ' + "9" * 5_000 + "}}",
            )
        ),
        *(
            (json.dumps({"name": name, "arguments": {}}), f"There is no such function. Call one of {CALLS}.")
            for name in ("fly", "", "WAIT", None, 3, ["wait"], {"name": "wait"}, "\ud800")
        ),
        *(
            (write_raw, "The arguments must be one JSON object. Call bet(side, amount, note?).")
            for write_raw in (
                '{"name": "bet", "arguments": "{side: yes"}',
                '{"name": "bet", "arguments": null}',
                '{"name": "bet", "arguments": [1]}',
            )
        ),
        (write("bet", {"amount": 1}), "The argument side is missing. Call bet(side, amount, note?)."),
        (write("bet", {"side": "yes"}), "The argument amount is missing. Call bet(side, amount, note?)."),
        (write("wait", {"hours": 2}), "There is an argument too many. Call wait()."),
        (write("bet", {"side": "yes", "amount": 1, "\ud800": 2}), "There is an argument too many. Call bet("),
        *(
            (write("bet", {"side": side, "amount": 1}), "The argument side must be yes or no. Call bet(")
            for side in ("", "YES", "maybe", None, True, 1, ["yes"], {"yes": 1})
        ),
        *(
            (write("bet", {"side": "no", "amount": amount}), "The argument amount must be a number above 0. Call bet(")
            for amount in NO_AMOUNTS
        ),
        (write("bet", {"side": "no", "amount": 1, "note": 5}), "The argument note must be text. Call bet("),
        *(
            (write("sell", {"count": count}), "The argument count must be a whole number of 1 or more. Call sell(")
            for count in (0, -3, 1.5, "2", False, None, float("inf"), float("nan"))
        ),
    ],
)
def test_what_is_no_call_is_answered_with_how_to(reply: str, remark: str) -> None:
    with pytest.raises(Miscalled) as miscalled:
        read(reply, TOOLS)
    assert str(miscalled.value).startswith(remark)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["yes", "no"])
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=6)
arguments = st.dictionaries(st.sampled_from(["side", "amount", "note", "count"]) | st.text(), values, max_size=4)
objects = st.fixed_dictionaries(
    {"name": st.sampled_from(["bet", "sell", "wait"]) | values, "arguments": arguments | values}
)


@given(reply=st.text() | st.binary().map(repr) | values.map(json.dumps) | objects.map(json.dumps))
def test_any_text_is_a_call_that_fits_or_a_remark(reply: str) -> None:
    remark = _remark(reply)
    if remark is not None:
        assert "Call " in remark
        assert remark.isascii()
        assert len(remark) < 200
        return
    name, given_arguments = read(reply, TOOLS)
    assert json.loads(reply) == {"name": name, "arguments": given_arguments}
    amount = given_arguments.get("amount", 1)
    assert 0 < amount <= LARGEST
    assert given_arguments.get("side", "yes") in {"yes", "no"}
    assert set(given_arguments) <= {"bet": {"side", "amount", "note"}, "sell": {"count"}, "wait": set()}[name]


def _remark(reply: str) -> str | None:
    try:
        read(reply, TOOLS)
    except Miscalled as remark:
        return str(remark)
    return None
