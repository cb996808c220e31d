"""Estimates against what PyTorch really keeps, and the plan of a training against the model that is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import Qwen3Config, Qwen3ForCausalLM

from gpu import checkpointing, fit, head, quantize
from gpu.bins import Layout
from gpu.optimizer import AdamW
from gpu.policy import Policy
from gpu.quantize import load_4bit
from gpu.terms import score
from gpu.tries import build
from rl.config import GrpoTrain, Lora, Optimizer, SftTrain, TrainConfig
from rl.errors import InvalidInput, OutOfMemory
from rl.memory import GIB, Architecture
from rl.memory_table import HEAD_CHUNK_BYTES, Training, foreseen, table
from rl.objective_parts import Kl
from rl.records import Sequence

TOKENS = 512
SIZES = {
    "small": Architecture(layers=4, hidden=64, feed_forward=192, query=64, key=32, vocabulary=512),
    "large": Architecture(layers=3, hidden=256, feed_forward=512, query=256, key=256, vocabulary=1024),
}
RATE = Optimizer(learning_rate=1e-3)
CPU = torch.device("cpu")


def model(sizes: Architecture, rank: int | None, dtype: torch.dtype = torch.float32) -> Any:
    torch.manual_seed(0)
    config = Qwen3Config(
        num_hidden_layers=sizes.layers,
        hidden_size=sizes.hidden,
        intermediate_size=sizes.feed_forward,
        num_attention_heads=4,
        num_key_value_heads=4 * sizes.key // sizes.query,
        head_dim=sizes.query // 4,
        vocab_size=sizes.vocabulary,
        tie_word_embeddings=sizes.tied,
        use_cache=False,
    )
    made: Any = Qwen3ForCausalLM(config)
    made = made.to(dtype)
    if rank is not None:
        made = get_peft_model(made, LoraConfig(r=rank, target_modules="all-linear", task_type="CAUSAL_LM"))
    return made.train()


def kept_by(policy: Any, layout: Layout) -> int:
    """Bytes of all storages that the backward pass of a bin's log-probabilities needs, parameters left out."""
    ids = [7 * i % 90 + 1 for i in range(TOKENS)]
    trie = build([Sequence(episode=0, ids=ids, mask=[1] * TOKENS, logprobs=[0.0] * TOKENS)])
    own = {one.untyped_storage().data_ptr() for one in policy.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        score(policy, trie, layout)
    return sum(one.untyped_storage().nbytes() for one in kept.values())


def training(sizes: Architecture, rank: int | None, width: int) -> Training:
    return Training(
        architecture=sizes,
        device="cpu",
        capacity=GIB,
        weights=0,
        trained=0,
        optimizer=0,
        rank=rank,
        width=width,
        token_budget=TOKENS,
        tokens=TOKENS,
        longest=TOKENS,
        layers=sizes.layers,
        head_chunk=HEAD_CHUNK_BYTES["cpu"],
    )


@pytest.mark.parametrize("layout", ["tree", "padded"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("rank", [None, 8], ids=["weights", "adapter"])
@pytest.mark.parametrize("size", SIZES)
def test_activations_are_what_the_backward_pass_keeps(
    size: str, rank: int | None, dtype: torch.dtype, layout: Layout
) -> None:
    """With no layer, two and all of them checkpointed; of the logits one array of two is kept for later."""
    sizes = SIZES[size]
    policy = model(sizes, rank, dtype)
    states, logits = TOKENS * sizes.hidden * (4 + dtype.itemsize), 4 * sizes.vocabulary * TOKENS
    for count in (0, 2, sizes.layers):
        checkpointing.apply(policy, count)
        estimated = table(training(sizes, rank, dtype.itemsize), TOKENS, count).activations + states + logits
        assert kept_by(policy, layout) == pytest.approx(estimated, rel=0.15)


@pytest.mark.parametrize("rank", [None, 8], ids=["weights", "adapter"])
def test_what_is_trained_is_known_to_the_byte(rank: int | None) -> None:
    sizes = SIZES["small"]
    policy = model(sizes, rank)
    config = SftTrain(steps=1, optimizer=RATE, lora=Lora(rank=rank) if rank else None)
    optimizer = AdamW(policy, RATE, 1, {})
    known = fit.fit(policy, optimizer, config, CPU, longest=10, tokens=100).table
    for one in optimizer.named.values():
        one.grad = torch.zeros_like(one)
    assert known.gradients == sum(one.grad.nbytes for one in optimizer.named.values() if one.grad is not None)
    optimizer.update(0.0)
    moments = [one for state in optimizer.adam.state.values() for one in state.values()]
    assert known.optimizer == sum(one.nbytes for one in moments)
    everything = sum(one.nbytes for one in policy.parameters())
    assert known.weights + known.adapter == everything
    assert known.adapter == (0 if rank is None else 4 * sizes.adapter(rank))


def test_what_is_foreseen_is_what_is_there_later() -> None:
    sizes = SIZES["large"]
    policy = model(sizes, 8)
    config = SftTrain(steps=1, optimizer=RATE, lora=Lora(rank=8), token_budget=300)
    there = fit.fit(policy, AdamW(policy, RATE, 1, {}), config, CPU, longest=10, tokens=1000).training
    before = foreseen(sizes, device="cpu", capacity=GIB, cuda=False, rank=8, token_budget=300, longest=10)
    assert (before.architecture, before.trained, before.tokens) == (there.architecture, there.trained, there.tokens)
    assert (before.rank, before.width, before.head_chunk) == (there.rank, there.width, there.head_chunk)
    assert there.weights == pytest.approx(before.weights, rel=2e-3), "all but the norms"


def test_the_head_is_cut_where_the_estimate_says() -> None:
    assert head.CHUNK_BYTES["cpu"] == HEAD_CHUNK_BYTES["cpu"]
    assert HEAD_CHUNK_BYTES["cuda"] == head.LARGE_CHUNK_BYTES


def fitted(monkeypatch: pytest.MonkeyPatch, room: int | None, **fields: Any) -> tuple[Any, Any]:
    """The plan of a small adapter's training on a CPU with that much memory, and the model it was made for."""
    if room is not None:
        monkeypatch.setattr(fit, "capacity", lambda device: room)
    policy = model(SIZES["small"], 8)
    config = SftTrain(steps=1, optimizer=RATE, lora=Lora(rank=8), token_budget=2000, **fields)
    optimizer = AdamW(policy, RATE, 1, {})
    return fit.fit(policy, optimizer, config, CPU, longest=100, tokens=1500), policy


def test_a_small_model_on_this_machine_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    found, policy = fitted(monkeypatch, None)
    assert (found.checkpointed_layers, found.token_budget, found.table.tokens) == (0, 2000, 1500)
    assert checkpointing.checkpointed(policy) == 0


def test_layers_are_checkpointed_until_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    roomy, _ = fitted(monkeypatch, None)
    room = int(table(roomy.training, 1500, 3).total / 0.9) + 1
    found, policy = fitted(monkeypatch, room)
    assert (found.checkpointed_layers, found.token_budget) == (3, 2000)
    assert [layer.gradient_checkpointing for layer in checkpointing.layers_of(policy)] == [True, True, True, False]


def test_it_is_refused_with_a_table_where_nothing_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        OutOfMemory, match=r"training needs about 0\.0 GiB, and cpu has 0\.0 GiB: train on shorter"
    ) as no:
        fitted(monkeypatch, 1_000_000)
    assert "activations of 100 tokens, 4 layers computed again" in str(no.value)


def test_the_config_may_name_the_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    for asked, count in (("none", 0), (2, 2), ("all", 4)):
        found, policy = fitted(monkeypatch, None, checkpointing=asked)
        assert (found.checkpointed_layers, checkpointing.checkpointed(policy)) == (count, count)
    with pytest.raises(InvalidInput, match=r"config\.checkpointing = 9: the model has 4 layers"):
        fitted(monkeypatch, None, checkpointing=9)


def test_after_memory_ran_out_the_model_follows_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    found, policy = fitted(monkeypatch, None)
    found = fit.tightened(policy, found, CPU, largest=1500, longest=800)
    assert (found.token_budget, checkpointing.checkpointed(policy)) == (800, 0)
    found = fit.tightened(policy, found, CPU, largest=800, longest=800)
    assert (found.token_budget, checkpointing.checkpointed(policy)) == (800, 4)
    with pytest.raises(OutOfMemory, match="train on shorter sequences, or use a device with more memory"):
        fit.tightened(policy, found, CPU, largest=800, longest=800)


def test_a_kl_has_a_reference_pass() -> None:
    policy = model(SIZES["small"], 8)
    for kl, passes in ((None, False), (Kl(), True)):
        config = GrpoTrain(optimizer=RATE, lora=Lora(rank=8), kl=kl)
        found = fit.fit(policy, AdamW(policy, RATE, 1, {}), config, CPU, longest=10, tokens=100)
        assert bool(found.table.reference) == passes


def test_a_model_of_unknown_widths_is_trained_all_the_same() -> None:
    policy = model(SIZES["small"], 8)
    policy.config.num_experts = 128
    config = SftTrain(steps=1, optimizer=RATE, lora=Lora(rank=8), checkpointing=2)
    found = fit.fit(policy, AdamW(policy, RATE, 1, {}), config, CPU, longest=10, tokens=100)
    assert checkpointing.checkpointed(policy) == 2
    assert "activations are not in the estimate: num_experts = 128" in found.reason


def test_a_base_in_four_bits_is_counted_with_its_scales(policy: Policy, base: Path) -> None:
    adapted, _ = policy.trainable(str(base), None, Lora(), 0, "4bit")
    config = SftTrain(steps=1, optimizer=RATE, lora=Lora(), quantization="4bit")
    found = fit.fit(adapted, AdamW(adapted, RATE, 1, {}), config, CPU, longest=10, tokens=100)
    assert (found.quantization, found.training.width) == ("4bit", 2)
    loaded = load_4bit(base, CPU)
    matrices = sum(one.nbytes for one in loaded.parameters() if one.dtype == torch.uint8)
    counted = sum(quantize.bytes_of(one) for one in loaded.parameters() if one.dtype == torch.uint8)
    assert matrices * (1 + 1 / 32) <= counted <= matrices * 1.08, "a byte for 64 weights, and tables for each matrix"


QWEN3_14B = {
    "num_hidden_layers": 40,
    "hidden_size": 5120,
    "intermediate_size": 17408,
    "num_attention_heads": 40,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
}


@pytest.mark.parametrize(
    ("gibibytes", "used", "loaded", "served", "chosen"),
    [
        (139, 0, False, False, None),
        (80, 0, False, False, None),
        (24, 0, False, False, "4bit"),
        (48, 20, False, False, "4bit"),
        (40, 28, True, False, None),
        (32, 28, True, False, "4bit"),
        (32, 28, True, True, None),
    ],
)
def test_four_bits_are_chosen_before_a_base_is_loaded(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    gibibytes: int,
    used: int,
    loaded: bool,
    served: bool,
    chosen: str | None,
) -> None:
    """The weights are 27.5 GiB in bfloat16, 9.2 in four bits. A base that answers requests would be there twice."""
    (tmp_path / "config.json").write_text(json.dumps(QWEN3_14B))
    monkeypatch.setattr(fit, "capacity", lambda device: gibibytes * GIB)
    monkeypatch.setattr(fit, "in_use", lambda device: used * GIB)
    config: TrainConfig = SftTrain(steps=1, optimizer=RATE, lora=Lora())
    device = torch.device("cuda:0")

    def choice(config: TrainConfig, device: torch.device = device) -> str | None:
        return fit.quantization(tmp_path, config, device, longest=1024, loaded=loaded, served=served)

    assert choice(config) == chosen
    assert choice(config, CPU) is None
    assert choice(config.model_copy(update={"lora": None})) is None
    assert choice(config.model_copy(update={"quantization": "4bit"}), CPU) == "4bit"
    (tmp_path / "config.json").write_text("{}")
    assert choice(config) is None
