"""A tiny policy, made once, and what tests of gpu/ build from it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from gpu.checkpoints import write
from gpu.policy import Policy
from gpu.starter import build
from rl.protocol import DatasetRow
from tests.gpu.trainings import Run, scored_rows, trained

WORDS = ["turn left", "turn right", "move forward", "go to the red ball", "go to the blue key", "You see: wall 4 ahead"]


def pytest_configure(config: pytest.Config) -> None:
    # peft 0.21 still asks transformers 5.23 for a property under its old name.
    config.addinivalue_line("filterwarnings", "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(WORDS * 20, tmp_path_factory.mktemp("base"), seed=3, vocabulary=300)


@pytest.fixture
def policy() -> Policy:
    return Policy(torch.device("cpu"))


@pytest.fixture(scope="session")
def make_adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Writes an adapter on the base that changes what it says, by seed."""

    def make(seed: int) -> Path:
        model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        torch.manual_seed(seed)
        model = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear"))
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.2)
        folder, kind, _ = write(tmp_path_factory.mktemp("adapter"), model, 0, str(base), None, {}, {})
        assert kind == "adapter"
        return folder

    return make


@pytest.fixture
def write_rows(tmp_path: Path) -> Callable[[Sequence[DatasetRow]], str]:
    def write_to_file(rows: Sequence[DatasetRow]) -> str:
        path = tmp_path / "dataset.jsonl"
        path.write_text("".join(row.model_dump_json() + "\n" for row in rows))
        return str(path)

    return write_to_file


def foreign_row(
    number: int, answers: Sequence[str] = ("turn left", "go to the red ball"), score: float = 1.0
) -> DatasetRow:
    """A trajectory of some other agent: messages, but no tokens."""
    messages: list[dict[str, object]] = [{"role": "system", "content": "Reply with one action."}]
    calls: list[dict[str, object]] = []
    for turn, answer in enumerate(answers):
        messages = [*messages, {"role": "user", "content": f"You see: wall {(number + turn) % 7} ahead"}]
        response: dict[str, object] = {"role": "assistant", "content": answer}
        calls.append(
            {"call_id": f"{number}-{turn}", "turn": turn, "model": "x", "messages": messages, "response": response}
        )
        messages = [*messages, response]
    return DatasetRow(
        trajectory_id=str(number), group=str(number // 4), score=score, calls=json.loads(json.dumps(calls))
    )


@pytest.fixture
def dataset(policy: Policy, base: Path, write_rows: Callable[[Sequence[DatasetRow]], str]) -> str:
    """Two groups of four episodes with the log-probabilities of the base."""
    return write_rows(scored_rows(policy, base))


@pytest.fixture
def run(policy: Policy, base: Path, dataset: str, tmp_path: Path) -> Run:
    """Trains on ``dataset``."""
    return trained(policy, base, dataset, tmp_path)


@pytest.fixture
def make_row() -> Callable[..., DatasetRow]:
    return foreign_row
