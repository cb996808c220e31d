"""Versions on one device: shared weights, separate adapters, bounded bases."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gpu.device import DeviceLock, torch_device
from gpu.policy import Policy
from gpu.starter import build
from rl.config import Lora
from rl.errors import InvalidInput

IDS = torch.tensor([[1, 20, 30, 40]])


def logits(policy: Policy, name: str) -> torch.Tensor:
    version = policy.version(name)
    assert version is not None
    with policy.using(version) as model:
        result: torch.Tensor = model(input_ids=IDS).logits
        return result


def test_adapters_share_their_base_and_do_not_mix(base: Path, make_adapter: Callable[[int], Path]) -> None:
    shared, merged = Policy(torch.device("cpu"), merged_bytes=0), Policy(torch.device("cpu"))
    one, two = make_adapter(1), make_adapter(2)
    for policy in (shared, merged):
        policy.load("base", str(base))
        before = logits(policy, "base")
        policy.load("one", str(one))
        alone = logits(policy, "one")
        policy.load("two", str(two))
        torch.testing.assert_close(logits(policy, "one"), alone, atol=0, rtol=0)
        torch.testing.assert_close(logits(policy, "base"), before, atol=0, rtol=0)
        assert (logits(policy, "two") - alone).abs().max() > 0.1
    for name in ("base", "one", "two"):
        torch.testing.assert_close(logits(shared, name), logits(merged, name), atol=1e-4, rtol=1e-4)
    version = shared.version("one")
    assert version is not None
    tensors = {p.data_ptr() for p in version.base.model.parameters()}
    assert tensors <= {p.data_ptr() for p in version.model.parameters()}


def test_training_a_shared_base_leaves_the_versions_alone(base: Path, policy: Policy) -> None:
    policy.load("base", str(base))
    before = logits(policy, "base")
    model, _ = policy.trainable(str(base), None, Lora(rank=4, alpha=8), seed=1)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    for _ in range(2):
        model(input_ids=IDS, labels=IDS).loss.backward()
        optimizer.step()
    with torch.no_grad():
        assert (model(input_ids=IDS).logits - before).abs().max() > 1e-3
    torch.testing.assert_close(logits(policy, "base"), before, atol=0, rtol=0)


def test_a_fresh_adapter_is_seeded_and_changes_nothing_yet(base: Path, policy: Policy) -> None:
    policy.load("base", str(base))
    models = [policy.trainable(str(base), None, Lora(rank=4, alpha=8), seed)[0] for seed in (1, 1, 2)]
    first = [next(p for n, p in model.named_parameters() if "lora_A" in n) for model in models]
    assert torch.equal(first[0], first[1])
    assert not torch.equal(first[0], first[2])
    with torch.no_grad():
        torch.testing.assert_close(models[0](input_ids=IDS).logits, logits(policy, "base"))


def test_loading_is_idempotent_and_names_are_unique(
    base: Path, policy: Policy, make_adapter: Callable[[int], Path]
) -> None:
    assert policy.load("a", str(base)) is policy.load("a", str(base))
    with pytest.raises(InvalidInput, match="unload it first"):
        policy.load("a", str(make_adapter(1)))
    assert policy.unload("a")
    assert not policy.unload("a")
    assert policy.names() == []


def test_the_base_used_longest_ago_makes_room_with_its_versions(base: Path, tmp_path: Path) -> None:
    policy = Policy(torch.device("cpu"), max_bases=2)
    paths = [base, *(build(["another world"], tmp_path / str(n), seed=n, vocabulary=270) for n in range(2))]
    for name, path in zip("ab", paths, strict=False):
        policy.load(name, str(path))
    assert policy.version("a") is not None
    assert policy.load("c", str(paths[2])).base.path == str(paths[2])
    assert policy.names() == ["a", "c"]
    assert policy.version("b") is None


def test_versions_are_bounded_and_those_in_use_stay(base: Path, make_adapter: Callable[[int], Path]) -> None:
    policy = Policy(torch.device("cpu"), max_versions=2)
    policy.load("base", str(base))
    policy.load("one", str(make_adapter(1)))
    assert policy.version("base") is not None
    policy.load("two", str(make_adapter(2)))
    assert policy.names() == ["base", "two"]


def test_folders_that_are_no_policy_are_refused(
    tmp_path: Path, base: Path, policy: Policy, make_adapter: Callable[[int], Path]
) -> None:
    with pytest.raises(InvalidInput, match=r"config\.json and safetensors"):
        policy.load("a", str(tmp_path))
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(InvalidInput, match="name the base"):
        policy.load("a", str(tmp_path))
    with pytest.raises(InvalidInput, match=r"adapter_model\.safetensors"):
        policy.load("a", str(tmp_path), base=str(base))
    with pytest.raises(InvalidInput, match="has rank 4 and alpha 8"):
        policy.trainable(str(base), str(make_adapter(1)), Lora(rank=8, alpha=8), seed=0)


def test_the_device_lock_is_first_come_first_served() -> None:
    lock, order = DeviceLock(), []
    held, go = threading.Event(), threading.Event()

    def holder() -> None:
        with lock:
            held.set()
            go.wait()
            order.append("holder")
        with lock:
            order.append("again")

    def waiter() -> None:
        with lock:
            order.append("waiter")

    first = threading.Thread(target=holder)
    first.start()
    held.wait()
    second = threading.Thread(target=waiter)
    second.start()
    while not lock._waiting:
        pass
    go.set()
    first.join()
    second.join()
    assert order == ["holder", "waiter", "again"]


def test_device_names_of_a_plan() -> None:
    assert torch_device("cpu").type == "cpu"
    assert torch_device("cuda:1") == torch.device("cuda", 1)
    assert torch_device("gpu1") == torch.device("cuda", 0)
