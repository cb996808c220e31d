"""Rounds of the arms in one process, and what their ratios come to."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from bench.engine import arms, checks
from bench.engine.workload import Chat
from gpu.generate import Completion
from gpu.policy import Policy, Version

GATES = {"vs_generate": 4.0, "vs_static": 1.2}
ERROR = 1e-4
RESAMPLES = 10_000
T = TypeVar("T")


@dataclass(frozen=True)
class Bench:
    """One loaded version, the same weights as transformers loads them, chats, and how many are answered at once."""

    policy: Policy
    version: Version
    plain: Any
    chats: list[Chat]
    at_once: int

    @property
    def tokens(self) -> int:
        """How many tokens all answers have together."""
        return sum(chat.answer_tokens for chat in self.chats)

    def engine(self) -> list[Completion]:
        return arms.engine(self.policy, self.version, self.chats, self.at_once)

    def static(self) -> arms.Answers:
        return arms.static_batches(self.plain, self.chats, self.at_once)

    def generate(self) -> arms.Answers:
        return arms.one_at_a_time(self.plain, self.chats)


def measure(bench: Bench, rounds: int) -> dict[str, Any]:
    """``rounds`` of engine, static, engine, generate: each peer beside the run of the engine right before it.

    CPU seconds of this process, all its threads; a ratio is of tokens per CPU second, ours by the peer's. The
    answers of the first round are compared.
    """
    found: dict[str, list[tuple[float, float]]] = {"vs_static": [], "vs_generate": []}
    differing = 0
    for number in range(rounds):
        ours, first = timed(bench.engine)
        static, in_batches = timed(bench.static)
        again, second = timed(bench.engine)
        single, alone = timed(bench.generate)
        found["vs_static"].append((ours, static))
        found["vs_generate"].append((again, single))
        if not number:
            model, chats, said = bench.plain, bench.chats, [one.token_ids for one in first]
            others = (in_batches, alone, [one.token_ids for one in second])
            differing = sum(checks.differing(model, chats, said, other) for other in others)
            error = checks.logprob_error(model, chats, first)
    return summary(found, bench.tokens) | {"differing_answers": differing, "logprob_error": error}


def summary(found: dict[str, list[tuple[float, float]]], tokens: int) -> dict[str, Any]:
    """Medians, intervals and tokens per CPU second from seconds of (engine, peer), by ratio."""
    ratios = {name: [peer / ours for ours, peer in pairs] for name, pairs in found.items()}
    engine = [ours for pairs in found.values() for ours, _ in pairs]
    peers = {name.removeprefix("vs_"): [peer for _, peer in pairs] for name, pairs in found.items()}
    return {
        **{name: round(statistics.median(values), 3) for name, values in ratios.items()},
        "pairs": min(map(len, ratios.values())),
        "intervals": {name: interval(values) for name, values in ratios.items()},
        "ratios": {name: [round(one, 3) for one in values] for name, values in ratios.items()},
        "tokens_per_cpu_second": {
            name: round(tokens / statistics.median(seconds)) for name, seconds in {"engine": engine, **peers}.items()
        },
    }


def interval(values: Sequence[float], seed: int = 0) -> list[float]:
    """The percentile bootstrap's 95 % interval of the median."""
    drawn = np.random.default_rng(seed).choice(np.array(values), (RESAMPLES, len(values)))
    low, high = np.quantile(np.median(drawn, axis=1), (0.025, 0.975))
    return [round(float(low), 3), round(float(high), 3)]


def gates(report: dict[str, Any]) -> dict[str, bool]:
    """Each gate, and whether it holds."""
    return {
        **{name: bool(report[name] >= least) for name, least in GATES.items()},
        "logprob_error": bool(report["logprob_error"] <= ERROR),
        "same_tokens": report["differing_answers"] == 0,
    }


def timed(run: Callable[[], T]) -> tuple[float, T]:
    """CPU seconds of this process while ``run`` runs, and what it returns."""
    began = time.process_time()
    result = run()
    return time.process_time() - began, result
