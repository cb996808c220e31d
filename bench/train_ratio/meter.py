"""What a step takes: seconds of the device that computes it, bytes of tensors at once, and ratios of neighbours."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

Step = Callable[[], None]

RESAMPLES = 2000


def seconds(step: Step, device: torch.device) -> float:
    """CPU seconds of this process on a CPU, seconds between two events on a GPU."""
    if device.type != "cuda":
        began = time.process_time()
        step()
        return time.process_time() - began
    event: Any = torch.cuda.Event
    first, last = event(enable_timing=True), event(enable_timing=True)
    first.record()
    step()
    last.record()
    torch.cuda.synchronize(device)
    return float(first.elapsed_time(last)) / 1000


def interleaved(arms: Mapping[str, Step], device: torch.device, rounds: int) -> dict[str, list[float]]:
    """Seconds of each arm in ``rounds`` rounds in which every arm takes one turn, after a round that is not counted."""
    found: dict[str, list[float]] = {name: [] for name in arms}
    gc.freeze()  # what libraries loaded need not be looked through before each turn
    try:
        for number in range(rounds + 1):
            for name, step in arms.items():
                gc.collect()
                took = seconds(step, device)
                if number:
                    found[name].append(took)
    finally:
        gc.unfreeze()
    return found


def ratio(theirs: Sequence[float], ours: Sequence[float], seed: int) -> tuple[float, list[float]]:
    """The median of the paired ratios, how many times longer theirs takes, and its 95 % bootstrap interval."""
    ratios = [long / short for long, short in zip(theirs, ours, strict=True)]
    drawn = np.random.default_rng(seed).choice(ratios, (RESAMPLES, len(ratios)))
    low, high = np.quantile(np.median(drawn, axis=1), (0.025, 0.975))
    return median(ratios), [float(low), float(high)]


def median(values: Sequence[float]) -> float:
    """The bare median."""
    return statistics.median(values)


def peak_bytes(step: Step, device: torch.device) -> int:
    """The most bytes that tensors hold during ``step`` beyond those held before it, by the allocator's own count."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        return int(torch.cuda.max_memory_allocated(device)) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        step()
    return _highest(_allocations(seen))


def _allocations(seen: Any) -> list[tuple[int, int]]:
    """Times and sizes of what was allocated, and with a negative size freed, in order of time."""
    found = []
    for event in _walk(seen.profiler.kineto_results.experimental_event_tree()):
        size = getattr(event.extra_fields, "alloc_size", None)
        if size is not None:
            found.append((event.start_time_ns, size))
    return sorted(found, key=lambda one: one[0])


def _walk(events: Sequence[Any]) -> Iterator[Any]:
    left = list(events)
    while left:
        event = left.pop()
        left.extend(event.children)
        yield event


def _highest(changes: Sequence[tuple[int, int]]) -> int:
    held = np.cumsum([size for _, size in changes]) if changes else np.zeros(1)
    return int(max(held.max(), 0))
