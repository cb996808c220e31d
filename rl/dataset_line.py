"""A line of a dataset file from what is stored, byte for byte as ``rl.protocol.DatasetRow`` writes it.

Records of pydantic are made only of messages that are more than a role and a text. The rest is read and written by the
JSON parser and writer under pydantic, and tokens by a table: making records of everything takes several times as long.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, NamedTuple, get_args

import numpy as np
from pydantic_core import from_json, to_json

from rl.protocol import DatasetRow
from rl.records import Message

EMPTY = b'"calls":[]'
ROLES = frozenset(get_args(Message.model_fields["role"].annotation))
PLAIN = frozenset({"role", "content"})
MOST_TABLED = 1 << 18
"""Token ids below it are written from the table: more than any vocabulary in use."""


class StoredCall(NamedTuple):
    """A call as it is stored. The first five fields are the order of a trajectory's calls.

    ``created_at`` is in microseconds since 2000. ``body`` is the JSON text of messages, response and tools. Tokens are
    32-bit integers and log-probabilities 32-bit floats, the highest byte first.
    """

    turn: int
    place: int
    created_at: int
    call_id: str
    trajectory_id: str
    model: str
    body: bytes
    prompt_token_ids: bytes | None
    token_ids: bytes | None
    logprobs: bytes | None
    temperature: float | None
    finish_reason: str | None

    @property
    def has_tokens(self) -> bool:
        """As ``rl.records.Call.has_tokens``."""
        return bool(self.prompt_token_ids and self.token_ids) and self.logprobs is not None

    def in_text(self) -> StoredCall:
        """The call without its tokens."""
        return self._replace(prompt_token_ids=None, token_ids=None, logprobs=None)


def dataset_line(
    trajectory_id: str, group: str, score: float, calls: Iterable[StoredCall], staleness: int = 0
) -> bytes:
    """The ``DatasetRow`` as one line of JSON. A field without a value is left out.

    Raises:
        ValidationError: a body holds no messages of OpenAI's shape.
    """
    row = DatasetRow(trajectory_id=trajectory_id, group=group, score=score, calls=[], staleness=staleness)
    empty = row.model_dump_json(exclude_defaults=True).encode()
    before, after = empty[: (at := empty.rindex(EMPTY))], empty[at + len(EMPTY) :]
    return b'%b"calls":[%b]%b\n' % (before, b",".join(map(_call, calls)), after)


def _call(call: StoredCall) -> bytes:
    body = from_json(call.body, cache_strings="keys")
    head = to_json(
        {
            "call_id": call.call_id,
            "turn": call.turn,
            "model": call.model,
            "messages": [_message(one) for one in body["messages"]],
            "response": _message(body["response"]),
        },
        inf_nan_mode="null",
    )
    parts = [head[:-1]]
    if call.prompt_token_ids is not None:
        parts.append(b'"prompt_token_ids":' + _integers(call.prompt_token_ids))
    if call.token_ids is not None:
        parts.append(b'"token_ids":' + _integers(call.token_ids))
    if call.logprobs is not None:
        parts.append(b'"logprobs":' + to_json(np.frombuffer(call.logprobs, ">f4").tolist()))
    if call.temperature is not None:
        parts.append(b'"temperature":' + to_json(call.temperature))
    if call.finish_reason is not None:
        parts.append(b'"finish_reason":' + to_json(call.finish_reason))
    if (tools := body.get("tools")) is not None:
        parts.append(b'"tools":' + to_json(tools, inf_nan_mode="null"))
    return b",".join(parts) + b"}"


def _message(said: Mapping[str, Any]) -> Mapping[str, Any]:
    if said.keys() == PLAIN and type(said["content"]) is str and said["role"] in ROLES:
        return {"role": said["role"], "content": said["content"]}
    return Message.model_validate(said).model_dump(mode="json", exclude_none=True)


def _integers(stored: bytes) -> bytes:
    """The numbers as a JSON list."""
    if not stored:
        return b"[]"
    numbers = np.frombuffer(stored, ">i4")
    if numbers.min() < 0 or (largest := int(numbers.max())) >= MOST_TABLED:
        return to_json(numbers.tolist())
    size = min(MOST_TABLED, 1 << max(10, largest.bit_length()))
    padded: bytes = _table(size)[numbers].tobytes()
    return b"[" + padded.translate(None, b"\0")[:-1] + b"]"


@cache
def _table(size: int) -> np.ndarray[Any, np.dtype[np.bytes_]]:
    """The numbers below ``size``, each with a comma, in eight bytes."""
    return np.array([b"%d," % number for number in range(size)], dtype="S8")
