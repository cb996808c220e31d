"""Which rows of a dataset are trained on, and why not the others."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from gpu.episodes import Episode
from rl.protocol import DatasetRow
from rl.records import Call
from rl.sequences import merge

Row = tuple[DatasetRow, list[Call]]

ABOVE_ZERO = 1e-3
"""A log-probability may round above 0 by so much, nats."""


NAMED = 10
"""Rows that are named for each reason why they were left out."""


@dataclass
class Selection:
    """The episodes of a dataset that can be trained on, and why the other rows were left out.

    ``named`` holds the first ids of those left out for each reason, and ``silent`` the ids of calls that say nothing.
    ``group_size`` counts the smallest group that advantages were made in, None where there is none, and ``variance`` is
    the mean of the groups' score variances. For DPO the episodes are pairs: one chosen, one rejected, and so on.
    """

    episodes: list[Episode]
    read: int
    skipped: Counter[str] = field(default_factory=Counter)
    named: dict[str, list[str]] = field(default_factory=dict)
    silent: list[str] = field(default_factory=list)
    group_size: int | None = None
    variance: float | None = None
    warnings: list[str] = field(default_factory=list)

    def heard(self, row: DatasetRow, calls: list[Call]) -> list[Call]:
        """The calls of ``row`` that say something; the others are noted."""
        kept = spoken_calls(calls)
        if len(kept) < len(calls):
            said = {call.call_id for call in kept}
            self.silent += [f"{row.trajectory_id}/{call.call_id}" for call in calls if call.call_id not in said]
        return kept

    def manifest(self, drawn: int) -> dict[str, object]:
        """Which rows and calls were left out, and why, and how many of the others the steps took: ``drawn``."""
        skipped: dict[str, object] = {"skipped": dict(self.skipped), "named": self.named}
        if self.silent:
            skipped["silent_calls"] = {"count": len(self.silent), "named": self.silent[:NAMED]}
        return {"read": self.read, "used": len(self.episodes), "drawn": drawn, **skipped}

    def skip(self, reason: str, row: DatasetRow) -> None:
        """Leave ``row`` out."""
        self.skipped[reason] += 1
        ids = self.named.setdefault(reason, [])
        if len(ids) < NAMED:
            ids.append(row.trajectory_id)


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
