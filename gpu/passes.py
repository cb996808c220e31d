"""Forward passes over an arena: a model's own, or the one that is written out where that gives the same."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from gpu import written_out
from gpu.kv import Arena


class Passes:
    """Passes of one model over the rows of one arena."""

    def __init__(self, model: Any, arena: Arena) -> None:
        self.model, self.arena = model, arena
        self._is_written_out = written_out.suits(model)

    def logits_after(self, first: int, ids: Tensor, columns: Tensor, width: int) -> Tensor:
        """Logits [B, V] after the last of ``ids`` [B, S].

        They become ``columns`` [B, S], all below ``width``, of the rows from ``first`` on.
        """
        self.arena.aim(first, columns, width)
        if self._is_written_out:
            return written_out.logits_after(self.model, self.arena, ids, columns)
        result = self.model(
            input_ids=ids,
            attention_mask=self.arena.mask(),
            position_ids=columns,
            past_key_values=self.arena,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: Tensor = result.logits[:, -1]
        return logits

    def fill(self, first: int, ids: Tensor, columns: Tensor, width: int) -> None:
        """As ``logits_after``, for keys and values alone."""
        if self._is_written_out:
            self.arena.aim(first, columns, width)
            written_out.fill(self.model, self.arena, ids, columns)
        else:
            self.logits_after(first, ids, columns, width)
