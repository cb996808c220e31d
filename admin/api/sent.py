"""Refusals in the words of the request: with its fields, and with what it can do about them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rl.errors import InvalidInput, NotEvaluated, NothingStable

REMEDIES: Mapping[type[InvalidInput], str] = {
    NotEvaluated: 'no evaluation of it is stored; wait for one, or send "unevaluated": true',
    NothingStable: 'the line has no stable version to compare a canary with; send "strategy": "immediate"',
}
"""What a request does where the error's own remedy is an option of the shell."""


@contextmanager
def as_sent(**fields: str) -> Iterator[None]:
    """Name the request's field in what the block refuses: ``fields`` has it by the name that the block knows.

    Raises:
        InvalidInput: the same error, in these words.
    """
    try:
        yield
    except InvalidInput as error:
        field, remedy = fields.get(error.field, error.field), REMEDIES.get(type(error), error.remedy)
        raise type(error)(field, error.value, remedy) from error
