"""A line from stored bytes is what pydantic writes of the same call, whatever is in it."""

from __future__ import annotations

import json
import math
from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rl.dataset_line import MOST_TABLED, StoredCall, dataset_line
from rl.protocol import DatasetRow
from rl.records import Call

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.lists(st.dictionaries(TEXT, JSON, max_size=3), max_size=2)
FIELDS = {
    "role": st.sampled_from(["system", "user", "assistant", "tool"]),
    "content": st.none() | TEXT,
    "reasoning_content": st.none() | TEXT,
    "tool_calls": st.none() | OBJECTS,
    "tool_call_id": st.none() | TEXT,
    "name": st.none() | TEXT,
}
PLAIN = st.fixed_dictionaries({"role": FIELDS["role"], "content": TEXT})


@st.composite
def messages(draw: st.DrawFn) -> dict[str, Any]:
    """Any fields in any order, with nulls, or the two that most have."""
    if draw(st.booleans()):
        return draw(PLAIN)
    names = draw(st.permutations([*FIELDS]).map(lambda names: names[: draw(st.integers(0, 6))]))
    return {name: draw(FIELDS[name]) for name in dict.fromkeys([*names, "role"])}


BODIES = st.fixed_dictionaries(
    {"messages": st.lists(messages(), max_size=4), "response": messages()}, optional={"tools": OBJECTS}
)
SINGLE = st.floats(width=32)


def packed(kind: str, values: list[Any] | None) -> bytes | None:
    if values is None:
        return None
    numbers: array[Any] = array(kind, values)
    numbers.byteswap()
    return numbers.tobytes()


@st.composite
def calls(draw: st.DrawFn) -> tuple[StoredCall, Call]:
    """A call as it is stored, and the same as a record."""
    body = draw(BODIES)
    said = draw(st.none() | st.lists(st.tuples(st.integers(-5, 2**31 - 1), SINGLE), max_size=5))
    prompt = None if said is None else draw(st.lists(st.integers(0, MOST_TABLED + 5), max_size=9))
    ids, logprobs = (None, None) if said is None else ([one for one, _ in said], [two for _, two in said])
    turn, call_id, model = draw(st.integers(0, 2**31 - 1)), draw(TEXT), draw(TEXT)
    heat, reason = draw(st.none() | st.floats()), draw(st.none() | TEXT)
    separators = draw(st.sampled_from([(", ", ": "), (",", ":"), (" ,\n", "\t:")]))
    raw = json.dumps(body, ensure_ascii=draw(st.booleans()), separators=separators).encode()
    stored = StoredCall(
        turn, 0, 0, call_id, "t", model, raw, packed("i", prompt), packed("i", ids), packed("f", logprobs), heat, reason
    )
    record = Call(
        call_id=call_id,
        turn=turn,
        model=model,
        prompt_token_ids=prompt,
        token_ids=ids,
        logprobs=logprobs,
        temperature=heat,
        finish_reason=reason,
        **json.loads(raw),
    )
    return stored, record


def by_pydantic(trajectory: str, group: str, score: float, records: list[Call], age: int) -> bytes:
    plain = [one.model_dump(mode="json", exclude_none=True) for one in records]
    row = DatasetRow(trajectory_id=trajectory, group=group, score=score, calls=plain, staleness=age)
    return row.model_dump_json(exclude_defaults=True).encode() + b"\n"


@given(TEXT, TEXT, st.floats(), st.lists(calls(), max_size=3), st.integers(0, 3))
def test_a_line_is_as_pydantic_writes_it(
    trajectory: str, group: str, score: float, several: list[tuple[StoredCall, Call]], age: int
) -> None:
    stored, records = [one for one, _ in several], [two for _, two in several]
    line = dataset_line(trajectory, group, score, stored, age)
    assert line == by_pydantic(trajectory, group, score, records, age)
    assert [one.has_tokens for one in stored] == [one.has_tokens for one in records]


def stored(body: object, **fields: Any) -> StoredCall:
    plain = StoredCall(0, 0, 0, "c", "t", "m", json.dumps(body).encode(), None, None, None, None, None)
    return plain._replace(**fields)


SAID = {"role": "assistant", "content": "go"}


def test_a_line_by_hand() -> None:
    call = stored(
        {"response": SAID, "messages": [{"content": "see", "role": "user"}]},
        prompt_token_ids=packed("i", [7, 300_000]),
        token_ids=packed("i", [0, 12]),
        logprobs=packed("f", [-0.5, math.nan]),
        temperature=1.0,
    )
    assert dataset_line('t"calls":[]', "g", 0.5, [call], 2) == (
        b'{"trajectory_id":"t\\"calls\\":[]","group":"g","score":0.5,"calls":[{"call_id":"c","turn":0,"model":"m",'
        b'"messages":[{"role":"user","content":"see"}],"response":{"role":"assistant","content":"go"},'
        b'"prompt_token_ids":[7,300000],"token_ids":[0,12],"logprobs":[-0.5,NaN],"temperature":1.0}],"staleness":2}\n'
    )
    assert b"token" not in dataset_line("t", "g", 0.5, [call.in_text()])


@pytest.mark.parametrize(
    "message", [{"role": "owner", "content": "x"}, {"role": "user", "text": "x"}, {"content": "x"}]
)
def test_a_message_that_is_none_is_refused_as_ever(message: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        dataset_line("t", "g", 0.0, [stored({"messages": [message], "response": SAID})])
