"""Which rows of a dataset could be trained on at all, and why not the others."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rl.protocol import DatasetRow
from rl.records import Call
from rl.sequences import merge

Row = tuple[DatasetRow, list[Call]]

ABOVE_ZERO = 1e-3
"""A log-probability may round above 0 by so much, nats."""


def spoken_calls(calls: Sequence[Call]) -> list[Call]:
    """The calls that say something, or whose tokens are still to be made from text."""
    return [call for call in calls if call.token_ids is None or len(call.token_ids)]


def unusable(row: DatasetRow, calls: Sequence[Call], vocabulary: int, context_length: int) -> str | None:
    """Why no objective can train on ``row``, whose ``calls`` have tokens; None where one could.

    ``vocabulary`` counts the tokens of the model, ``context_length`` those of the longest sequence that it takes.
    """
    if not math.isfinite(row.score):
        return "its score is not a finite number"
    if not calls:
        return "nothing was spoken"
    for call in calls:
        reason = _unusable(call, vocabulary)
        if reason is not None:
            return reason
    if max(len(one.ids) for one in merge(calls, 0)) > context_length:
        return "longer than the context"
    return None


def _unusable(call: Call, vocabulary: int) -> str | None:
    prompt, spoken, logprobs = call.prompt_token_ids or [], call.token_ids or [], call.logprobs or []
    if not prompt:
        return "a call without a prompt"
    if min(*prompt, *spoken) < 0 or max(*prompt, *spoken) >= vocabulary:
        return "a token that the model does not have"
    if len(logprobs) != len(spoken):
        return "a call with another number of log-probabilities than of tokens"
    if not all(math.isfinite(one) and one <= ABOVE_ZERO for one in logprobs):
        return "a log-probability that is none"
    return None
