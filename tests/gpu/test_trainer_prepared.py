"""Objectives that need more than what is stored: values, a reference, weights, pairs, curated rows."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gpu.checkpoints import read_optimizer
from gpu.data import read_rows
from gpu.policy import Policy
from gpu.terms import score
from gpu.tries import build
from rl.config import Lora
from rl.errors import InvalidInput, NoTrainingData
from rl.protocol import DatasetRow, Paused, StateSaved
from rl.sequences import merge
from tests.gpu.trainings import LONGEST_EPISODE, SCORES, SPOKEN, Run, first_loss, manifest, steps, weights, written

Write = Callable[[Sequence[DatasetRow]], str]

LORA: dict[str, Any] = {"lora": {"rank": 4, "alpha": 8}, "optimizer": {"learning_rate": 1e-2}}
IN_REWARD: dict[str, Any] = {"place": "reward", "estimator": "k1"}
LENGTHS = [3 * one for one in SPOKEN] * 2
"""Spoken tokens of each episode."""
TOKENS = sum(LENGTHS)


def rows_of(dataset: str) -> list[DatasetRow]:
    return [row for row, _ in read_rows(Path(dataset))]


def with_logprobs(row: DatasetRow, shift: float) -> DatasetRow:
    calls = [call | {"logprobs": [one + shift for one in call["logprobs"]]} for call in row.calls]  # type: ignore[attr-defined]
    return row.model_copy(update={"calls": calls})


def final_state(events: Sequence[Any]) -> dict[str, Tensor]:
    return read_optimizer(written(events))


# PPO


def test_ppo_starts_from_whitened_returns_and_a_head_that_knows_nothing(run: Run) -> None:
    events = run("out", "ppo", mini_batches=1, gae_lambda=0.9, value_coefficient=0.5, value_clip=None)
    advantages = [0.9 ** (n - 1 - t) * r for n, r in zip(LENGTHS, SCORES * 2, strict=True) for t in range(n)]
    expected = 0.5 * sum(one**2 for one in advantages) / TOKENS
    first = steps(events)[0]
    assert first["value_loss"] == pytest.approx(expected, rel=1e-4)
    # Whitened advantages add up to 0, and every ratio is 1.
    assert first["loss"] == pytest.approx(0.5 * expected, abs=1e-5)
    assert manifest(events)["rows"] == {"read": 8, "used": 8, "drawn": 8, "skipped": {}, "named": {}}
    assert manifest(events)["effective"]["derived"]["value_head"] is True


def test_the_value_head_learns_and_goes_on_with_the_lineage(run: Run) -> None:
    config: dict[str, Any] = {**LORA, "value_learning_rate": 0.05, "value_clip": None, "epochs": 8, "mini_batches": 1}
    first = run("first", "ppo", **config)
    losses = [one["value_loss"] for one in steps(first)]
    assert losses[-1] < 0.5 * losses[0]
    carried = final_state(first)
    assert carried["value_head.linear.weight"].shape == (1, 128)
    assert carried["exp_avg.value_head.linear.weight"].abs().sum() > 0
    second = run("second", "ppo", parent=str(written(first)), **config)
    assert steps(second)[0]["value_loss"] < 0.7 * losses[0]
    assert int(final_state(second)["step"]) == 16


def test_a_parent_without_a_value_head_gets_one(run: Run) -> None:
    cloned = run("cloned", "grpo", **LORA)
    events = run("out", "ppo", parent=str(written(cloned)), mini_batches=1, **LORA)
    state = final_state(events)
    assert (int(state["step"]), int(state["step.value_head.linear.bias"])) == (3, 1)


@pytest.mark.parametrize(
    ("objective", "fields"),
    [
        ("ppo", {"value_learning_rate": 0.05, "kl": IN_REWARD | {"target": 0.1, "horizon": 64}}),
        ("grpo", {"mismatch": {}, "kl": {}}),
        ("dpo", {"steps": 4, "batch_pairs": 1}),
    ],
)
def test_a_resumed_training_ends_with_the_very_same_numbers(run: Run, objective: str, fields: dict[str, Any]) -> None:
    fields = {**LORA, **fields} | ({} if objective == "dpo" else {"epochs": 2})
    whole = run("whole", objective, **fields)
    paused = run("paused", objective, pausing=lambda updates: updates == 2, **fields)
    (state,) = [one for one in paused if isinstance(one, StateSaved)]
    assert state.step == 2
    last = run("last", objective, resume=state.path, **fields)
    assert manifest(last)["resumed"] == {"step": 2}
    for ours, theirs in ((weights(last), weights(whole)), (final_state(last), final_state(whole))):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_pause_while_preparing_loses_nothing(run: Run) -> None:
    events = run("paused", "ppo", pausing=lambda said: True)
    assert [type(one) for one in events] == [Paused]
    assert events[0].step == 0


# The engine's mismatch


@pytest.mark.parametrize(
    ("mode", "factor"),
    [("tis", math.exp(-0.5)), ("icepop", math.exp(-0.5)), ("sequence_mask", 1.0)],
)
def test_a_gap_to_the_engine_weighs_each_token(
    run: Run, dataset: str, write_rows: Write, mode: str, factor: float
) -> None:
    plain = [-score * n for score, n in zip(_centred(), LENGTHS, strict=True)]
    # The engine says half a nat more than the trainer finds, of every other episode.
    rows = write_rows([with_logprobs(row, 0.5 * (place % 2)) for place, row in enumerate(rows_of(dataset))])
    events = run("out", "dr_grpo", rows=rows, mini_batches=1, max_tokens=20, mismatch={"mode": mode, "low": 0.1})
    weighted = [one * (factor if place % 2 else 1.0) for place, one in enumerate(plain)]
    assert first_loss(events) == pytest.approx(sum(weighted) / (8 * 20), rel=1e-3)
    assert steps(events)[0]["kl"] == pytest.approx(0, abs=1e-4), "ratios are to the trainer's own"
    gap = 0.5 * sum(LENGTHS[1::2]) / TOKENS
    assert manifest(events)["engine_gap"] == pytest.approx(gap, rel=1e-3)
    assert steps(events)[0]["engine_gap"] == pytest.approx(gap, rel=1e-3)


def test_tokens_outside_the_interval_are_not_learnt_from(run: Run, dataset: str, write_rows: Write) -> None:
    rows = write_rows([with_logprobs(row, 0.5 * (place % 2)) for place, row in enumerate(rows_of(dataset))])
    events = run("out", "dr_grpo", rows=rows, mini_batches=1, mismatch={"mode": "icepop", "low": 0.9, "high": 1.1})
    kept = [-score * n for score, n in list(zip(_centred(), LENGTHS, strict=True))[::2]]
    assert first_loss(events) == pytest.approx(sum(kept) / (8 * 20), rel=1e-3)


def _centred() -> list[float]:
    return [one - 0.3 for one in SCORES] * 2


# KL off the reward


def test_a_kl_in_the_reward_is_summed_back_from_the_end(run: Run, policy: Policy, base: Path, dataset: str) -> None:
    parent = run("parent", "grpo", **LORA, epochs=4)
    config: dict[str, Any] = {**LORA, "mini_batches": 1, "max_tokens": 20}
    rule = IN_REWARD | {"coefficient": 2.0}
    events = run("out", "dr_grpo", parent=str(written(parent)), kl=rule, mismatch={"high": 100.0}, **config)

    model, _ = policy.trainable(str(base), str(written(parent)), Lora(rank=4, alpha=8), seed=0)
    total = 0.0
    for (_, said), advantage in zip(read_rows(Path(dataset)), _centred(), strict=True):
        gaps: list[float] = []
        weighed: list[float] = []
        for one in merge(said, 0):
            trie = build([one])
            with torch.no_grad():
                ours = score(model, trie, "padded").logp
                with model.disable_adapter():
                    theirs = score(model, trie, "padded").logp
            gaps += (ours - theirs).tolist()
            weighed += (ours - torch.from_numpy(trie.terms.old_logp)).exp().tolist()
        charges = [2.0 * one for one in gaps]
        total -= sum(w * (advantage - sum(charges[t:])) for t, w in enumerate(weighed))
    assert first_loss(events) == pytest.approx(total / (8 * 20), rel=2e-3)


def test_a_kl_in_the_reward_adapts_once_a_training(run: Run) -> None:
    rule = IN_REWARD | {"coefficient": 0.1, "target": 0.01, "horizon": 16.0}
    events = run("out", "grpo", kl=rule, **LORA)
    # A fresh adapter is the base: a KL of 0 over all eight episodes.
    assert float(final_state(events)["kl_coefficient"]) == pytest.approx(0.1 * (1 - 0.2 * 8 / 16))
    assert len(steps(events)) == 2


# Pairs


def test_dpo_starts_at_the_log_of_two_and_learns_the_preference(run: Run) -> None:
    events = run("out", "dpo", **LORA, steps=12, batch_pairs=2, beta=0.5)
    losses = [one["loss"] for one in steps(events)]
    assert losses[0] == pytest.approx(math.log(2), abs=1e-6)
    assert losses[-1] < 0.5 * losses[0]
    assert (steps(events)[0]["preferred_share"], steps(events)[-1]["preferred_share"]) == (0.0, 1.0)
    rows = manifest(events)["rows"]
    assert rows["skipped"] == {"neither best nor worst of a group that differs": 4}
    assert rows["named"] == {"neither best nor worst of a group that differs": ["2", "3", "6", "7"]}
    assert rows["used"] == 4


def test_full_weights_are_compared_with_where_they_began(run: Run) -> None:
    events = run("out", "dpo", steps=6, batch_pairs=2, beta=0.5, optimizer={"learning_rate": 1e-4})
    losses = [one["loss"] for one in steps(events)]
    assert losses[0] == pytest.approx(math.log(2), abs=1e-6)
    assert all(later < earlier for earlier, later in pairwise(losses))


def test_a_pair_is_never_cut(run: Run) -> None:
    large = run("large", "dpo", **LORA, steps=2, batch_pairs=2, token_budget=4000)
    # The longest pair has episodes of 3 * (18 + 5) and 3 * (18 + 3) tokens.
    least = 3 * (18 + 5) + 3 * (18 + 3)
    small = run("small", "dpo", **LORA, steps=2, batch_pairs=2, token_budget=least)
    ours, theirs = weights(small), weights(large)
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in ours) < 2e-4
    tiny = run("tiny", "dpo", **LORA, steps=2, batch_pairs=2, token_budget=1)
    assert manifest(tiny)["token_budget"] == least
    assert all(torch.equal(one, ours[name]) for name, one in weights(tiny).items())


def test_dpo_takes_foreign_logs(run: Run, write_rows: Write, make_row: Callable[..., DatasetRow]) -> None:
    rows = write_rows([make_row(0, score=1.0), make_row(1, ["turn right"], score=0.0), make_row(5, score=0.5)])
    events = run("out", "dpo", rows=rows, **LORA)
    assert first_loss(events) == pytest.approx(math.log(2), abs=1e-6)
    assert manifest(events)["rows"]["used"] == 2
    same = write_rows([make_row(0, score=1.0), make_row(1, score=1.0)])
    with pytest.raises(NoTrainingData, match="none of 2 rows"):
        run("none", "dpo", rows=same, **LORA)


# Curated rows


def test_curated_rows_are_cloned_beside_the_objective(
    run: Run, policy: Policy, base: Path, dataset: str, tmp_path: Path
) -> None:
    rows = rows_of(dataset)
    curated = tmp_path / "curated.jsonl"
    curated.write_text("".join(row.model_dump_json() + "\n" for row in rows[:2]))
    rule = {"coefficient": 0.25, "source": "jsonl:///curated.jsonl", "batch_episodes": 2}
    events = run("out", "grpo", curated=str(curated), ptx=rule, mini_batches=1)
    model, _ = policy.trainable(str(base), None, None, seed=0)
    likelihood = 0.0
    for _, said in read_rows(curated):
        for one in merge(said, 0):
            with torch.no_grad():
                likelihood -= float(score(model, build([one]), "padded").logp.sum())
    expected = 0.25 * likelihood / (3 * (SPOKEN[0] + SPOKEN[1]))
    assert steps(events)[0]["ptx_loss"] == pytest.approx(expected, rel=1e-4)
    assert first_loss(events) == pytest.approx(expected, abs=1e-4)
    assert manifest(events)["curated"] == {"read": 2, "used": 2, "drawn": 2, "skipped": {}, "named": {}}
    with pytest.raises(InvalidInput, match=r"config\.ptx\.source = 'jsonl:///curated\.jsonl': .* without its rows"):
        run("none", "grpo", ptx=rule)


# Bins


@pytest.mark.parametrize(
    ("objective", "fields"),
    [("ppo", {}), ("grpo", {"mismatch": {}, "kl": IN_REWARD}), ("cispo", {"kl": {}})],
)
def test_what_is_known_of_a_token_finds_it_in_any_bin(run: Run, objective: str, fields: dict[str, Any]) -> None:
    fields = {**LORA, "epochs": 2, **fields}
    large = run("large", objective, token_budget=4000, **fields)
    small = run("small", objective, token_budget=LONGEST_EPISODE // 3, **fields)
    ours, theirs = weights(small), weights(large)
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in ours) < 5e-4
    assert [one["loss"] for one in steps(small)] == pytest.approx([one["loss"] for one in steps(large)], abs=1e-4)


# What goes wrong on the way


def out_of_memory_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first backward pass of the training finds no memory."""
    failed: list[int] = []

    def bounded(model: Any, trie: Any, *arguments: Any) -> Any:
        if torch.is_grad_enabled() and not failed:
            failed.append(len(trie))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return score(model, trie, *arguments)

    monkeypatch.setattr("gpu.steps.score", bounded)


def pair(number: int, spoken: int) -> list[DatasetRow]:
    """Two trajectories of one scenario, each of so many spoken tokens."""
    prompt = [number % 7 + 1, 2, 3]
    call: dict[str, Any] = {"turn": 0, "model": "ours", "messages": [], "prompt_token_ids": prompt, "temperature": 1.0}
    call |= {"response": {"role": "assistant", "content": "x"}, "logprobs": [-2.0] * spoken}
    rows = []
    for place in range(2):
        name = f"{number}-{place}"
        said = call | {"call_id": name, "token_ids": [40 + 3 * place + number] * spoken}
        rows.append(DatasetRow(trajectory_id=name, group=str(number), score=float(place), calls=[said]))
    return rows


def test_memory_that_runs_out_on_small_pairs_leaves_the_large_ones_whole(
    run: Run, monkeypatch: pytest.MonkeyPatch, write_rows: Write
) -> None:
    rows = write_rows([row for number in range(6) for row in pair(number, 90 if number % 2 else 15)])
    config: dict[str, Any] = {**LORA, "steps": 6, "batch_pairs": 1, "token_budget": 4000}
    roomy = run("roomy", "dpo", rows=rows, **config)
    out_of_memory_once(monkeypatch)
    tight = run("tight", "dpo", rows=rows, **config)
    assert manifest(tight)["token_budget_shrunk"] == 1
    assert manifest(tight)["token_budget"] >= 2 * 93
    assert [one["loss"] for one in steps(tight)] == pytest.approx([one["loss"] for one in steps(roomy)], abs=1e-4)


def test_fewer_episodes_than_mini_batches_are_a_batch_each(run: Run, dataset: str, write_rows: Write) -> None:
    rows = write_rows(rows_of(dataset)[:2])
    events = run("out", "ppo", rows=rows, mini_batches=8, epochs=2)
    assert len(steps(events)) == 4
    assert manifest(events)["updates"] == 4
    assert all(one["gradient_norm"] > 0 for one in steps(events))


def test_other_curated_rows_are_other_work(run: Run, dataset: str, tmp_path: Path) -> None:
    rows, curated = rows_of(dataset), tmp_path / "curated.jsonl"
    fields: dict[str, Any] = {"curated": str(curated), "ptx": {"coefficient": 0.5, "source": "jsonl:///x"}}
    curated.write_text(rows[0].model_dump_json() + "\n")
    paused = run("paused", "grpo", pausing=lambda updates: updates == 1, **fields)
    (state,) = [one for one in paused if isinstance(one, StateSaved)]
    curated.write_text(rows[1].model_dump_json() + "\n")
    last = run("last", "grpo", resume=state.path, **fields)
    assert "it was saved with another curated" in manifest(last)["resume_refused"]


def test_a_gap_to_the_engine_is_said_only_where_it_was_measured(run: Run, dataset: str, write_rows: Write) -> None:
    old = [row.model_copy(update={"staleness": 1}) for row in rows_of(dataset)]
    events = run("old", "grpo", rows=write_rows(old))
    assert manifest(events)["engine_gap"] is None
    assert "engine_gap" not in steps(events)[0]


def test_a_resumed_training_remembers_the_gap(run: Run) -> None:
    whole = run("whole", "grpo")
    paused = run("paused", "grpo", pausing=lambda updates: updates == 1)
    (state,) = [one for one in paused if isinstance(one, StateSaved)]
    last = run("last", "grpo", resume=state.path)
    assert manifest(last)["engine_gap"] == manifest(whole)["engine_gap"] is not None


def test_what_a_training_has_no_use_for_waits_for_the_next(run: Run) -> None:
    first = run("first", "ppo", **LORA, epochs=2)
    between = run("between", "grpo", **LORA, parent=str(written(first)))
    ours, theirs = final_state(between), final_state(first)
    assert torch.equal(ours["value_head.linear.weight"], theirs["value_head.linear.weight"])
    assert int(ours["step.value_head.linear.weight"]) == int(theirs["step"]) == 4
    last = run("last", "ppo", **LORA, parent=str(written(between)), mini_batches=1)
    assert int(final_state(last)["step.value_head.linear.weight"]) == 5
    assert int(final_state(last)["step"]) == 7


def test_full_weights_go_on_with_their_moments(run: Run, base: Path, policy: Policy, tmp_path: Path) -> None:
    first = run("first", "grpo", epochs=2)
    second = run("second", "grpo", parent=str(written(first)))
    assert int(final_state(second)["step"]) == 6


def test_the_kl_that_is_reported_is_the_one_that_was_charged(run: Run) -> None:
    rule = IN_REWARD | {"coefficient": 0.1, "target": 0.01, "horizon": 16.0}
    events = run("out", "grpo", kl=rule, **LORA)
    assert [one["kl_coefficient"] for one in steps(events)] == pytest.approx([0.1, 0.1])
    with pytest.raises(InvalidInput, match=r"kl\.horizon = 1\.5: 8 episodes a batch"):
        run("none", "grpo", kl=rule | {"horizon": 1.5}, **LORA)
