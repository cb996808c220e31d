"""The calls of one trajectory as few token sequences: a turn that continues an earlier one is not repeated."""

from __future__ import annotations

from collections.abc import Sequence as Calls

from rl.errors import InvalidInput
from rl.records import Call, Sequence


def merge(calls: Calls[Call], episode: int) -> list[Sequence]:
    """The calls, in turn order, as sequences; tokens are taken as they are and never made from text again.

    A call whose ``prompt_token_ids`` start with everything a sequence holds so far extends that sequence
    (the longest, where several fit): its new prompt part has mask 0, its ``token_ids`` have mask 1 and keep
    their log-probabilities. Any other call starts a new sequence.

    Raises:
        InvalidInput: a call lacks tokens, or has another number of log-probabilities than of tokens.
    """
    merged: list[Sequence] = []
    for place, call in enumerate(calls):
        prompt, spoken, logprobs = _tokens(call)
        found = _longest_prefix(merged, prompt)
        start = (
            merged[found] if found is not None else Sequence(episode=episode, ids=[], mask=[], logprobs=[], turns=[])
        )
        new_prompt = prompt[len(start.ids) :]
        extended = Sequence.model_construct(
            episode=episode,
            ids=start.ids + new_prompt + spoken,
            mask=start.mask + [0] * len(new_prompt) + [1] * len(spoken),
            logprobs=start.logprobs + [0.0] * len(new_prompt) + logprobs,
            turns=start.turns + [place] * len(spoken),
        )
        if found is None:
            merged.append(extended)
        else:
            merged[found] = extended
    return merged


def _tokens(call: Call) -> tuple[list[int], list[int], list[float]]:
    """Prompt ids [P], spoken ids [T] and their log-probabilities [T]."""
    if not call.prompt_token_ids or not call.token_ids or call.logprobs is None:
        raise InvalidInput("token_ids", call.call_id, "this call carries no tokens; tokenise it or leave it out")
    if len(call.logprobs) != len(call.token_ids):
        counts = f"{len(call.logprobs)} for {len(call.token_ids)} tokens of {call.call_id}"
        raise InvalidInput("logprobs", counts, "store one log-probability for each token")
    return call.prompt_token_ids, call.token_ids, call.logprobs


def _longest_prefix(merged: Calls[Sequence], prompt: list[int]) -> int | None:
    """Which sequence ``prompt`` goes on from, if any."""
    fits = [i for i, one in enumerate(merged) if len(one.ids) < len(prompt) and prompt[: len(one.ids)] == one.ids]
    return max(fits, key=lambda i: len(merged[i].ids), default=None)
