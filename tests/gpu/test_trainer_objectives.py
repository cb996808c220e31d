"""Every objective through the trainer: its first loss by hand, and the same update however it is cut into bins."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from gpu.checkpoints import read_optimizer
from gpu.data import read_rows
from gpu.policy import Policy
from gpu.terms import score
from gpu.tries import build
from rl.errors import InvalidInput, OutOfMemory
from rl.protocol import CheckpointWritten, StateSaved
from rl.sequences import merge
from tests.gpu.trainings import LONGEST_EPISODE, SCORES, SPOKEN, Run, first_loss, manifest, steps, weights, written

CENTRED = [score - 0.3 for score in SCORES]
STD = (sum(one**2 for one in CENTRED) / 3) ** 0.5
TOKEN_SUM = sum(a * t for a, t in zip(CENTRED, SPOKEN, strict=True))
"""Over one call of each episode of a group; the mean over 16 tokens is the same for all of them."""


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        ("grpo", 0.0),
        ("gspo", 0.0),
        ("rloo", 0.0),
        ("reinforce_baseline", 0.0),
        ("dapo", -TOKEN_SUM / STD / 16),
        ("dr_grpo", -TOKEN_SUM * 3 / (4 * 20)),
    ],
)
def test_the_first_loss_is_minus_the_mean_advantage(run: Run, objective: str, expected: float) -> None:
    """Every ratio is 1 while the policy is the one that spoke, and only the means differ."""
    events = run("out", objective, mini_batches=1)
    assert first_loss(events) == pytest.approx(expected, abs=1e-5)
    assert manifest(events)["rows"] == {"read": 8, "used": 8, "drawn": 8, "skipped": {}, "named": {}}
    assert abs(steps(events)[0]["kl"]) < 1e-4
    assert steps(events)[0]["clip_share"] == 0
    assert steps(events)[0]["group_variance"] == pytest.approx(STD**2)
    assert manifest(events)["group_variance"] == pytest.approx(STD**2)


@pytest.mark.parametrize(
    ("objective", "fields", "used", "drawn"),
    [
        ("sft", {"steps": 2, "batch_episodes": 2}, 8, 4),
        ("weighted_sft", {"steps": 1, "batch_episodes": 3}, 8, 3),
        ("dpo", {"steps": 1, "batch_pairs": 1}, 4, 2),
    ],
)
def test_the_manifest_says_how_many_rows_the_steps_took(
    run: Run, objective: str, fields: dict[str, int], used: int, drawn: int
) -> None:
    rows = manifest(run("out", objective, **fields))["rows"]
    assert (rows["used"], rows["drawn"]) == (used, drawn)


BEST_MARGIN = 0.1
"""Nats a token by which the engine's log-probabilities of the best episodes are raised below."""
TOKEN_MEAN = TOKEN_SUM / 16
TOKEN_STD = (sum(t * (a - TOKEN_MEAN) ** 2 for a, t in zip(CENTRED, SPOKEN, strict=True)) / 16) ** 0.5
WHITENED = (0.7 - TOKEN_MEAN) / TOKEN_STD
"""The best episode's advantage over the batch's tokens."""


@pytest.mark.parametrize(
    ("objective", "advantage", "share", "tokens"),
    [
        ("grpo", 0.7 / STD, 1 / 4, 1),
        ("gspo", 0.7 / STD, 1 / 4, 1),
        ("rloo", 0.7 * 4 / 3, 1 / 4, 3 * SPOKEN[1]),
        ("reinforce_baseline", WHITENED, SPOKEN[1] / 16, 1),
    ],
)
def test_a_ratio_weighs_the_first_loss_by_its_share(
    run: Run, dataset: str, tmp_path: Path, objective: str, advantage: float, share: float, tokens: int
) -> None:
    """The mean advantage is 0, so what is left is that the best episodes have a ratio below 1."""
    lines = []
    for row, said in read_rows(Path(dataset)):
        shift = BEST_MARGIN * (row.score == 1)
        calls = [each.model_copy(update={"logprobs": [one + shift for one in each.logprobs or ()]}) for each in said]
        dumped = [each.model_dump(mode="json") for each in calls]
        lines.append(row.model_copy(update={"calls": dumped}).model_dump_json() + "\n")
    (tmp_path / "shifted.jsonl").write_text("".join(lines))
    events = run("out", objective, rows=str(tmp_path / "shifted.jsonl"), mini_batches=1)
    expected = -(math.exp(-BEST_MARGIN * tokens) - 1) * advantage * share
    assert first_loss(events) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("objective", ["grpo", "gspo", "rloo", "reinforce_baseline"])
def test_an_update_favours_the_best_and_disfavours_the_worst(
    run: Run, policy: Policy, base: Path, dataset: str, objective: str
) -> None:
    events = run("out", objective, mini_batches=1, optimizer={"learning_rate": 1e-4})
    before, _ = policy.trainable(str(base), None, None, seed=0)
    after, _ = policy.trainable(str(base), str(written(events)), None, seed=0)
    for row, said in read_rows(Path(dataset)):
        trie = build(merge(said, 0))
        with torch.no_grad():
            rise = float(score(after, trie, "padded").logp.sum() - score(before, trie, "padded").logp.sum())
        if row.score in (0, 1):
            assert (rise > 0) is (row.score == 1), f"episode {row.trajectory_id}: {rise} nats"


def test_cispo_weighs_the_likelihood(run: Run, dataset: str) -> None:
    expected = 0.0
    for (_, said), advantage in zip(read_rows(Path(dataset)), CENTRED * 2, strict=True):
        expected -= advantage / STD * sum(sum(call.logprobs or ()) for call in said) / (2 * 3 * 16)
    assert first_loss(run("out", "cispo", mini_batches=1)) == pytest.approx(expected, rel=1e-4)


def test_weighted_clones(run: Run, dataset: str) -> None:
    expected = 0.0
    for (_, said), advantage in zip(read_rows(Path(dataset)), CENTRED * 2, strict=True):
        expected -= math.exp(advantage) * sum(sum(call.logprobs or ()) for call in said) / (2 * 3 * 16)
    assert first_loss(run("out", "weighted_sft")) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    "objective", ["weighted_sft", "grpo", "gspo", "reinforce_baseline", "cispo", "dapo", "dr_grpo", "rloo"]
)
def test_small_bins_make_the_same_update(run: Run, objective: str) -> None:
    epochs = {} if objective == "weighted_sft" else {"epochs": 2, "mini_batches": 2}
    large = run("large", objective, token_budget=4000, **epochs)
    small = run("small", objective, token_budget=LONGEST_EPISODE, **epochs)
    first, second = weights(large), weights(small)
    assert max(float((first[name] - second[name]).abs().max()) for name in first) < 2e-4
    assert first_loss(small) == pytest.approx(first_loss(large), abs=1e-5)
    assert manifest(small)["updates"] == (1 if objective == "weighted_sft" else 4)


@pytest.mark.parametrize("objective", ["gspo", "rloo"])
@pytest.mark.parametrize("layout", ["tree", "packed", "padded"])
def test_an_episode_is_never_cut_where_it_has_one_ratio(
    run: Run, monkeypatch: pytest.MonkeyPatch, objective: str, layout: str
) -> None:
    met: list[set[int]] = []

    def watched(model: Any, trie: Any, *arguments: Any) -> Any:
        met.append(set(trie.terms.sample.tolist()))
        return score(model, trie, *arguments)

    monkeypatch.setattr("gpu.steps.choose", lambda model, share: (layout, "told so"))
    monkeypatch.setattr("gpu.steps.score", watched)
    run("out", objective, token_budget=LONGEST_EPISODE, mini_batches=1)
    assert len(met) >= 8
    assert all(len(samples) % 3 == 0 for samples in met)
    met.clear()
    least = run("least", objective, token_budget=1, mini_batches=1)
    assert all(len(samples) % 3 == 0 for samples in met)
    assert manifest(least)["token_budget"] == LONGEST_EPISODE, "no less than what may not be cut"
    assert manifest(run("other", "grpo", token_budget=LONGEST_EPISODE - 1))["token_budget"] == LONGEST_EPISODE - 1


@pytest.mark.slow
def test_memory_that_runs_out_leaves_episodes_whole(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    roomy = run("roomy", "gspo", token_budget=4000, mini_batches=1)

    def bounded(model: Any, trie: Any, *arguments: Any) -> Any:
        if len(trie) > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return score(model, trie, *arguments)

    room = LONGEST_EPISODE
    monkeypatch.setattr("gpu.steps.score", bounded)
    tight = run("tight", "gspo", token_budget=4000, mini_batches=1)
    assert manifest(tight)["token_budget"] == LONGEST_EPISODE
    assert first_loss(tight) == pytest.approx(first_loss(roomy), abs=1e-5)
    room = LONGEST_EPISODE - 1
    with pytest.raises(OutOfMemory):
        run("none", "gspo", token_budget=4000, mini_batches=1)


def test_the_manifest_says_what_the_config_comes_to(run: Run) -> None:
    found = manifest(run("out", "gspo", clip_low=0.1))
    assert found["effective"]["derived"]["loss_is_mean_over"] == "samples"
    assert found["effective"]["settings"]["lone"] == "zero"
    assert found["config"]["objective"] == "gspo"
    assert found["warnings"] == [
        "clip width 0.1: ratios of whole samples hardly leave 1, so it never binds; the paper has 3e-4"
    ]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"objective": "grpo", "mismatch": {"high": -1}}, r"config\.grpo\.mismatch\.high = -1"),
        ({"objective": "gspo", "max_tokens": 5}, r"config\.gspo\.max_tokens = 5: has no effect for gspo"),
    ],
)
def test_refusals_name_the_setting(run: Run, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        run("out", **fields)


LORA: dict[str, Any] = {"lora": {"rank": 4, "alpha": 8}, "optimizer": {"learning_rate": 1e-2}}
ADAPTIVE: dict[str, Any] = {"coefficient": 0.1, "target": 1e-6, "horizon": 8}


def coefficient(events: Sequence[Any]) -> float:
    return float(read_optimizer(written(events))["kl_coefficient"])


def test_a_kl_pulls_back_to_the_base(run: Run) -> None:
    free = run("free", "grpo", **LORA, epochs=4)
    held = run("held", "grpo", **LORA, epochs=4, kl={"coefficient": 1000.0})
    assert "reference_kl" not in steps(free)[0]
    assert steps(held)[0]["reference_kl"] == pytest.approx(0, abs=1e-6), "a fresh adapter is the base"
    assert first_loss(held) == pytest.approx(first_loss(free), abs=1e-4)
    reached = [steps(events)[7]["kl"] for events in (free, held)]
    assert 0 < 2 * abs(reached[1]) < abs(reached[0])
    for events in (free, held):
        assert manifest(events)["effective"]["derived"]["reference_model"] is (events is held)


def test_the_kl_that_is_added_is_the_estimators_mean(run: Run) -> None:
    plain = run("plain", "dapo", **LORA)
    with_kl = run("kl", "dapo", **LORA, kl={"coefficient": 1e-6, "estimator": "k2"})
    heavy = run("heavy", "dapo", **LORA, kl={"coefficient": 2.0, "estimator": "k2"})
    # The first update is at the base, where neither KL nor its gradient is there: the second sees the same weights.
    second = steps(with_kl)[1]
    assert second["reference_kl"] > 0
    assert second["loss"] == pytest.approx(steps(plain)[1]["loss"], abs=1e-5)
    assert steps(heavy)[1]["reference_kl"] == pytest.approx(second["reference_kl"], rel=1e-3)
    assert steps(heavy)[1]["loss"] == pytest.approx(second["loss"] + 2 * second["reference_kl"], rel=1e-3)


def test_an_adaptive_coefficient_goes_from_state_to_state_and_to_the_next_training(run: Run) -> None:
    config = {**LORA, "kl": ADAPTIVE}
    whole = run("whole", "grpo", **config)
    # Four episodes an update and a horizon of eight: by 10 % down at a KL of 0, and by 10 % up far above the target.
    assert coefficient(whole) == pytest.approx(0.1 * 0.9 * 1.1)
    paused = run("paused", "grpo", pausing=lambda said: said == 1, **config)
    (state,) = [event for event in paused if isinstance(event, StateSaved)]
    last = run("last", "grpo", resume=state.path, **config)
    assert coefficient(last) == coefficient(whole)
    (first, again) = [next(e for e in events if isinstance(e, CheckpointWritten)) for events in (whole, last)]
    assert first.sha256 == again.sha256
    child = run("child", "grpo", parent=first.path, **config)
    assert coefficient(child) == pytest.approx(0.1 * 0.9 * 1.1 * 1.1 * 1.1)


def test_a_coefficient_that_could_turn_negative_is_refused(run: Run) -> None:
    with pytest.raises(InvalidInput, match=r"kl\.horizon = 0\.5: 4 episodes a batch could turn"):
        run("out", "grpo", **LORA, kl=ADAPTIVE | {"horizon": 0.5})
