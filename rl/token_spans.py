"""Which tokens of a trajectory's calls are trained on and which are masked, call by call.

What a call's sequence is made of is said by ``rl.sequences.merge``: the answer's tokens have mask 1, all others 0, and
what an earlier sequence holds already is computed once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rl.records import Call


@dataclass(frozen=True)
class Spans:
    """A call's tokens: ``repeated`` of the prompt's [P] lie in an earlier sequence, the rest is new to training.

    ``answer`` [T] is what is trained on, with its log-probabilities [T]. ``is_silent``: it says nothing and is left
    out.
    """

    prompt: list[int]
    repeated: int
    answer: list[int]
    logprobs: list[float]
    is_silent: bool


def spans(calls: Sequence[Call]) -> list[Spans | None]:
    """Of each call, in turn order; None for one without tokens, which a chat template would have to make."""
    held: list[list[int]] = []
    found: list[Spans | None] = []
    for call in calls:
        if call.token_ids is not None and not call.token_ids:
            found.append(Spans(call.prompt_token_ids or [], 0, [], [], is_silent=True))
        elif not call.has_tokens:
            found.append(None)
        else:
            prompt, answer = call.prompt_token_ids or [], call.token_ids or []
            fits = [ids for ids in held if len(ids) < len(prompt) and prompt[: len(ids)] == ids]
            longest = max(fits, key=len, default=None)
            if longest is not None:
                held.remove(longest)
            held.append(prompt + answer)
            found.append(Spans(prompt, len(longest or ()), answer, call.logprobs or [], is_silent=False))
    return found
