"""Memory that runs out in a step, simulated where it is allocated. ``test_child`` lets it run out for real."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from gpu import steps, terms
from gpu.policy import Policy
from gpu.trainer import train
from gpu.tries import Trie
from rl.errors import InvalidInput, OutOfMemory
from rl.protocol import CheckpointWritten, DatasetRow, Done, StateSaved, TrainCommand

Write = Callable[[Sequence[DatasetRow]], str]
MakeRow = Callable[..., DatasetRow]
Run = Callable[..., list[Any]]

CONFIG: dict[str, object] = {
    "objective": "sft",
    "steps": 2,
    "batch_episodes": 6,
    "token_budget": 1000,
    "lora": {"rank": 4, "alpha": 8},
    "optimizer": {"learning_rate": 3e-3},
}
LONGEST = 115
"""Tokens of the longest sequence below; no bin is smaller."""
ALLOCATORS = [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]


@pytest.fixture
def run(policy: Policy, base: Path, tmp_path: Path, write_rows: Write, make_row: MakeRow) -> Run:
    """Trains on rows of different lengths; events by kind."""
    answers = (["turn left"], ["move forward", "go to the red ball"], ["turn right"] * 3)
    dataset = write_rows([make_row(i, answers=answers[i % 3]) for i in range(6)])

    def run(name: str, pausing: Callable[[int], bool] = lambda said: False, **fields: Any) -> list[Any]:
        events: list[Any] = []
        config = CONFIG | fields.pop("config", {})
        out = str(tmp_path / name)
        command = TrainCommand(job=1, fence=1, dataset=dataset, out=out, base=str(base), config=config, **fields)
        train(command, policy, events.append, pausing=lambda: pausing(len(events)))
        return events

    return run


def limit(monkeypatch: pytest.MonkeyPatch, tokens: int, failure: Exception) -> list[int]:
    """Memory for bins of at most ``tokens`` tokens. Returns the sizes of those that fail."""
    failed: list[int] = []

    def bounded(model: Any, trie: Trie, *arguments: Any) -> terms.Scored:
        if len(trie) > tokens:
            failed.append(len(trie))
            raise failure
        return terms.score(model, trie, *arguments)

    monkeypatch.setattr(steps, "score", bounded)
    return failed


def weights(events: Sequence[Any]) -> dict[str, Tensor]:
    (written,) = [event for event in events if isinstance(event, CheckpointWritten)]
    return load_file(Path(written.path) / "adapter_model.safetensors")


def distance(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def manifest(events: Sequence[Any]) -> dict[str, Any]:
    assert isinstance(events[-1], Done)
    return events[-1].manifest


@pytest.mark.parametrize("failure", ALLOCATORS, ids=["cuda", "cpu"])
def test_a_step_without_memory_is_done_again_in_smaller_pieces(
    run: Run, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    roomy = run("roomy")
    assert (manifest(roomy)["token_budget"], manifest(roomy)["token_budget_shrunk"]) == (1000, 0)
    assert (manifest(roomy)["checkpointed_layers"], manifest(roomy)["memory"]["reason"]) == (0, "everything fits")
    failed = limit(monkeypatch, 130, failure)
    tight = run("tight")
    (largest, *others) = failed
    assert len(failed) == manifest(tight)["token_budget_shrunk"] == 2, "in the first step alone"
    assert 130 < others[0] <= largest // 2
    assert manifest(tight)["token_budget"] == LONGEST
    assert manifest(tight)["config"]["token_budget"] == 1000
    small = run("small", config={"token_budget": LONGEST})
    assert (manifest(small)["token_budget_shrunk"], len(failed)) == (0, 2)
    assert distance(weights(tight), weights(small)) <= 1e-6
    assert 0 < distance(weights(tight), weights(roomy)) < 1e-4


def test_the_gradients_of_a_failed_step_are_thrown_away(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The short sequences of the step come first and have added their gradients when the second micro-batch fails."""
    budget = {"token_budget": 300}
    expected = run("expected", config=budget)
    calls: list[int] = []

    def second_fails(model: Any, trie: Trie, *arguments: Any) -> terms.Scored:
        calls.append(len(trie))
        if len(calls) == 2:
            raise ALLOCATORS[1]
        return terms.score(model, trie, *arguments)

    monkeypatch.setattr(steps, "score", second_fails)
    events = run("events", config=budget)
    assert manifest(events)["token_budget_shrunk"] == 1
    assert distance(weights(events), weights(expected)) < 1e-4
    norms = [[event.metrics["gradient_norm"] for event in run[:2]] for run in (events, expected)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)


def test_an_update_without_memory_is_done_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = run("expected")
    clip, failures = torch.nn.utils.clip_grad_norm_, [ALLOCATORS[0]]

    def clip_once_there_is_room(*arguments: Any) -> Tensor:
        if failures:
            raise failures.pop()
        return clip(*arguments)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", clip_once_there_is_room)
    events = run("events")
    assert manifest(events)["token_budget_shrunk"] == 1
    assert distance(weights(events), weights(expected)) < 1e-4


def test_a_state_keeps_the_smaller_budget(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    limit(monkeypatch, 200, ALLOCATORS[0])
    whole = run("whole")
    paused = run("paused", pausing=lambda said: said == 1)
    (state,) = [event for event in paused if isinstance(event, StateSaved)]
    monkeypatch.undo()
    last = run("last", resume=state.path)
    assert manifest(last) == manifest(whole) | {"resumed": {"step": 1}}
    assert distance(weights(last), weights(whole)) == 0


@pytest.mark.slow
def test_when_one_sequence_is_too_long_it_says_what_it_would_need(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    limit(monkeypatch, 20, ALLOCATORS[0])
    with pytest.raises(OutOfMemory) as caught:
        run("out")
    remedies = "train on shorter sequences, or use a device with more memory"
    first, *rows = str(caught.value).splitlines()
    assert re.fullmatch(rf"training needs about 0\.0 GiB, and cpu has \d+\.\d GiB: {remedies}", first)
    assert any("activations of 115 tokens, 3 layers computed again" in row for row in rows), "all else was tried"
    with pytest.raises(OutOfMemory, match=r"train an adapter \(lora\), or train on shorter"):
        run("full", config={"lora": None})


def test_more_devices_than_there_are_and_four_bits_on_several_are_refused(run: Run, policy: Policy) -> None:
    with pytest.raises(InvalidInput, match=r"config\.devices = 2: this worker has 1 of them"):
        run("out", config={"devices": 2})
    policy.devices *= 2
    with pytest.raises(InvalidInput, match=r"config\.quantization = '4bit': a base in four bits cannot be divided"):
        run("out", config={"devices": 2, "quantization": "4bit"})
