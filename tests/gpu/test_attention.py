"""Losses and gradients along tries against one sequence at a time, and what is refused or falls back."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from gpu import attention, flex, layouts, objectives, segments
from gpu.bins import Layout, pack
from gpu.terms import score
from gpu.tries import build
from rl.errors import InvalidInput, PermanentError
from rl.records import Sequence

VOCABULARY = 61
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.2,
    "tie_word_embeddings": False,
}


def qwen3(**other: Any) -> Any:
    torch.manual_seed(0)
    return Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=8, **other)).train()


def llama(**other: Any) -> Any:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SIZES, **other)).train()


def adapted(model: Any, dropout: float = 0.0) -> Any:
    config = LoraConfig(r=4, lora_alpha=8, lora_dropout=dropout, target_modules="all-linear")
    model = get_peft_model(model, config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2, generator=torch.Generator().manual_seed(len(name)))
    return model.train()


MAKERS: dict[str, Callable[[], Any]] = {
    "qwen3": qwen3,
    "qwen3 with an adapter": lambda: adapted(qwen3()),
    "llama": llama,
    "llama with an adapter": lambda: adapted(llama()),
    "llama without groups of heads": lambda: llama(head_dim=16),
}


@pytest.fixture(params=[0, 8, 128])
def dense(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How small subtrees are when they are one masked call."""
    monkeypatch.setattr(attention.segments, "plan", partial(segments.plan, dense=request.param))
    return int(request.param)


def turns(ids: list[int], *spans: tuple[int, int]) -> Sequence:
    """A sequence in which ``spans`` were spoken."""
    mask = [int(any(first <= at < end for first, end in spans)) for at in range(len(ids))]
    return Sequence(episode=0, ids=ids, mask=mask, logprobs=[-3.0 * one for one in mask])


def drawn(seed: int, size: int) -> list[int]:
    return torch.randint(1, VOCABULARY, (size,), generator=torch.Generator().manual_seed(seed)).tolist()


def ragged() -> list[Sequence]:
    prompt = drawn(1, 40)
    return [turns(prompt + drawn(10 + n, n), (40, 40 + n)) for n in (1, 7, 3, 60, 25, 100)]


def conversation() -> list[Sequence]:
    return [turns(drawn(2, 150), (30, 50), (80, 90), (140, 150))]


def long() -> list[Sequence]:
    """Segments that are halved, twice and once, above one another."""
    start = drawn(41, 390)
    return [turns(start + drawn(42 + n, n), (380, 390 + n)) for n in (200, 20)]


def branching() -> list[Sequence]:
    """Later turns that rewrote what an earlier one said, and samples of each."""
    start, said, rest = drawn(3, 50), drawn(4, 40), drawn(5, 70)
    return [
        turns(start + said, (50, 90)),
        turns(start + said[:10] + rest, (60, 130)),
        turns(start + said[:10] + rest[:30] + drawn(6, 20), (90, 110)),
        turns(start + said + drawn(7, 5), (50, 95)),
        turns(start + said, (60, 80)),
        turns(drawn(8, 30), (4, 30)),
    ]


def unshared() -> list[Sequence]:
    return [turns(drawn(20 + n, n), (n // 2, n)) for n in (140, 30, 2, 55)]


CASES = {"ragged": ragged, "conversation": conversation, "long": long, "branching": branching, "unshared": unshared}


def loss_of(logp: Tensor, old: Tensor, sample: Tensor, samples: int) -> Tensor:
    advantage = torch.linspace(-1, 1.5, samples)[sample] if samples > 1 else torch.ones(len(logp))
    return objectives.grpo(logp, old, advantage, sample, samples, 0.2, 0.3)


def gradients(model: Any) -> Tensor:
    found = [one.grad.flatten() for one in model.parameters() if one.grad is not None]
    model.zero_grad(set_to_none=True)
    return torch.cat(found).double()


def one_by_one(model: Any, sequences: list[Sequence], temperature: float = 1.0) -> tuple[float, Tensor]:
    logps, olds, samples = [], [], []
    for index, one in enumerate(sequences):
        logits = model(input_ids=torch.tensor([one.ids])).logits[0].float() / temperature
        at = torch.tensor([i for i, said in enumerate(one.mask) if said and i])
        logps.append(torch.log_softmax(logits, -1)[at - 1, torch.tensor(one.ids)[at]])
        olds.append(torch.tensor(one.logprobs)[at])
        samples.append(torch.full((len(at),), index))
    loss = loss_of(torch.cat(logps), torch.cat(olds), torch.cat(samples), len(sequences))
    loss.backward()
    return float(loss.detach()), gradients(model)


def in_bins(
    model: Any, sequences: list[Sequence], layout: Layout = "tree", budget: int = 10**6, temperature: float = 1.0
) -> tuple[float, Tensor]:
    scored = [score(model, trie, layout, temperature) for trie in pack([sequences], budget, layout, least_shared=1)]
    logp, old, sample = (torch.cat([getattr(one, k) for one in scored]) for k in ("logp", "old_logp", "sample"))
    loss = loss_of(logp, old, sample, len(sequences))
    loss.backward()
    return float(loss.detach()), gradients(model)


def assert_equal(ours: tuple[float, Tensor], theirs: tuple[float, Tensor]) -> None:
    assert ours[0] == pytest.approx(theirs[0], abs=1e-6)
    assert len(ours[1]) == len(theirs[1])
    assert float((ours[1] - theirs[1]).norm() / theirs[1].norm()) <= 1e-5


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("maker", MAKERS)
def test_equal_to_one_sequence_at_a_time(maker: str, case: str, dense: int) -> None:
    model, sequences = MAKERS[maker](), CASES[case]()
    assert_equal(in_bins(model, sequences), one_by_one(model, sequences))


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.lists(st.integers(1, 3), min_size=2, max_size=30), min_size=1, max_size=7),
    st.integers(0, 5),
    st.sampled_from([1.0, 0.6]),
)
def test_equal_on_random_trees(dense: int, rows: list[list[int]], prompt: int, temperature: float) -> None:
    model = qwen3()
    sequences = [turns(drawn(9, prompt) + ids, (prompt, prompt + len(ids))) for ids in rows]
    ours = in_bins(model, sequences, temperature=temperature)
    assert_equal(ours, one_by_one(model, sequences, temperature))


@pytest.mark.parametrize("layout", ["tree", "packed", "padded"])
@pytest.mark.parametrize("budget", [10**6, 170])
def test_every_layout_in_one_bin_or_in_many(layout: Layout, budget: int) -> None:
    model = adapted(llama())
    assert_equal(in_bins(model, branching(), layout, budget), one_by_one(model, branching()))


def test_equal_with_gradient_checkpointing() -> None:
    model = adapted(qwen3())
    plain = in_bins(model, branching())
    model.enable_input_require_grads()
    attention.inner(model).activation_checkpointing_enable({"use_reentrant": False})
    again = in_bins(model, branching())
    assert again[0] == plain[0]
    assert torch.equal(again[1], plain[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("least", [0, 20, 128, 1000])
def test_segments_are_masked_attention(least: int, kv_heads: int, dtype: torch.dtype) -> None:
    trie = build([*ragged(), *branching(), *unshared()], least_shared=1)
    generator = torch.Generator().manual_seed(0)
    shapes = [(1, heads, len(trie), 16) for heads in (4, kv_heads, kv_heads)]
    states = [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes]
    ours = segments.attend(*states, segments.plan(trie, least), 0.3)
    wide = [one.float().repeat_interleave(4 // one.shape[1], 1) for one in states]
    at, limit = torch.arange(len(trie)), torch.from_numpy(trie.segment_last)
    sees = (at <= at[:, None]) & (at[:, None] < limit)
    theirs = torch.nn.functional.scaled_dot_product_attention(*wide, attn_mask=sees, scale=0.3).transpose(1, 2)
    weights = torch.randn(ours.shape, generator=generator)
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(ours.float(), theirs, atol=tolerance, rtol=tolerance)
    for one, two in zip(
        torch.autograd.grad((ours * weights).sum(), states),
        torch.autograd.grad((theirs * weights).sum(), states),
        strict=True,
    ):
        assert float((one - two).norm() / two.norm()) <= tolerance


def test_siblings_share_one_call_to_their_prompt() -> None:
    prompt = drawn(1, 512)
    group = [turns([*prompt, index, *drawn(30 + index, 127)], (512, 640)) for index in range(8)]
    blocks = segments.plan(build(group))
    to_prompt = [(one.query, one.key) for one in blocks.above if one.query.stop > 512]
    assert to_prompt == [(slice(512, 1536), slice(0, 512))]
    assert [one.query for one in blocks.own][-8:] == [slice(at, at + 128) for at in range(512, 1536, 128)]
    assert all(one.causal and one.mask is None for one in blocks.own)


def test_a_long_segment_is_halved() -> None:
    blocks = segments.plan(build([turns(drawn(1, 600), (0, 600))]))
    assert [one.query for one in blocks.own] == [slice(at, at + 150) for at in range(0, 600, 150)]
    assert [(one.query, one.key) for one in blocks.above] == [
        (slice(150, 300), slice(0, 150)),
        (slice(450, 600), slice(300, 450)),
        (slice(300, 600), slice(0, 300)),
    ]


def test_small_subtrees_are_one_masked_call() -> None:
    blocks = segments.plan(build([*unshared()[1:], *[turns([*drawn(1, 30), n], (30, 31)) for n in range(3)]]))
    assert [one.query for one in blocks.own] == [slice(0, 120)]
    assert blocks.above == []
    assert blocks.own[0].mask is not None


def test_blocks_of_the_gpu_mask() -> None:
    trie = build([*ragged(), *branching(), *unshared(), turns(drawn(40, 500), (0, 500))], least_shared=1)
    ours = flex.block_mask(trie, torch.device("cpu"))
    theirs = create_block_mask(ours.mask_mod, None, None, len(trie), len(trie), device="cpu")
    for kind in ("kv", "full_kv"):
        counts, order = (getattr(ours, f"{kind}_{what}")[0, 0] for what in ("num_blocks", "indices"))
        expected, indices = (getattr(theirs, f"{kind}_{what}")[0, 0] for what in ("num_blocks", "indices"))
        assert counts.tolist() == expected.tolist()
        for row, count in enumerate(counts.tolist()):
            assert sorted(order[row, :count].tolist()) == sorted(indices[row, :count].tolist())


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_the_gpu_mask_attends_like_the_segments() -> None:
    trie = build([*ragged(), *branching()], least_shared=1)
    query, key, value = (torch.randn(1, heads, len(trie), 16) for heads in (4, 2, 2))
    mask = flex.block_mask(trie, torch.device("cpu"))
    theirs = flex_attention(query, key, value, block_mask=mask, scale=0.3, enable_gqa=True)
    ours = segments.attend(query, key, value, segments.plan(trie), 0.3)
    torch.testing.assert_close(ours, theirs.transpose(1, 2), atol=1e-5, rtol=1e-5)


def test_ordinary_calls_are_sdpa() -> None:
    model = qwen3().eval()
    ids = torch.tensor([drawn(1, 20), drawn(2, 20)])
    mask = torch.ones_like(ids)
    mask[0, :6] = 0
    with torch.no_grad():
        before = model(input_ids=ids, attention_mask=mask).logits, model(input_ids=ids).logits
        attention.install(model)
        after = model(input_ids=ids, attention_mask=mask).logits, model(input_ids=ids).logits
    assert torch.equal(before[0], after[0])
    assert torch.equal(before[1], after[1])


def losing() -> Any:
    """A model whose second layer drops keyword arguments that it does not know."""

    def lose(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return args, {name: value for name, value in kwargs.items() if name != "token_tree"}

    model = qwen3()
    model.model.layers[1].register_forward_pre_hook(lose, with_kwargs=True)
    return model


def test_a_lost_trie_is_an_error() -> None:
    model = losing()
    with pytest.raises(PermanentError, match="does not pass keyword arguments on"):
        attention.tree_states(model, build(ragged()))


def test_a_trie_that_a_layer_did_not_ask_for_is_an_error() -> None:
    model = qwen3()
    model.model.layers = model.model.layers[:1]
    with pytest.raises(PermanentError, match="1 of 2 layers"):
        attention.tree_states(model, build(ragged()))


@pytest.mark.parametrize("name", ["sliding_window", "softcap", "s_aux", "position_bias"])
def test_unknown_kinds_of_attention_are_refused(name: str) -> None:
    states = torch.zeros(1, 2, 4, 8)
    tree = attention.tree_of(build([turns([1, 2, 3, 4], (0, 4))]), torch.device("cpu"))
    with pytest.raises(InvalidInput, match=name):
        attention.attend(torch.nn.Module(), states, states, states, None, token_tree=tree, **{name: 4})
    with pytest.raises(InvalidInput, match="attention_dropout"):
        attention.attend(torch.nn.Module(), states, states, states, None, dropout=0.1, token_tree=tree)


@pytest.mark.parametrize("maker", MAKERS)
def test_the_check_passes(maker: str) -> None:
    model = MAKERS[maker]()
    assert layouts.check(model) is None
    assert attention.inner(model).config._attn_implementation == "tree"
    assert model.training
    assert all(one.grad is None for one in model.parameters())
    assert layouts.choose(model, 0.7) == (
        "tree",
        "70.0% of all tokens stand in common prefixes, which are computed once",
    )
    assert layouts.choose(model, 0.01) == ("packed", "1.0% of all tokens stand in common prefixes")


def test_the_check_passes_in_low_precision() -> None:
    assert layouts.check(qwen3().to(torch.bfloat16)) is None


def test_a_kernel_that_is_wrong_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def blind(trie: Any) -> segments.Blocks:
        return segments.Blocks(segments.plan(trie).own, [])

    monkeypatch.setattr(layouts, "_found", {})
    monkeypatch.setattr(attention, "tree_of", lambda trie, _device: attention.TokenTree(blind(trie)))
    model = qwen3()
    layout, reason = layouts.choose(model, 0.7)
    assert layout == "padded"
    assert reason.startswith("on a random trie it differs from padded rows by")
    assert model.config._attn_implementation == "sdpa"
    assert math.isfinite(one_by_one(model, ragged())[0])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: qwen3(attention_dropout=0.1), "attention_dropout is 0.1"),
        (lambda: MistralForCausalLM(MistralConfig(**SIZES, sliding_window=32)), "slides over 32 tokens"),
        (
            lambda: qwen3(use_sliding_window=True, sliding_window=32, max_window_layers=1),
            "do not attend to all that stands before: sliding_attention",
        ),
    ],
)
def test_models_that_fall_back_to_padding(make: Callable[[], Any], reason: str) -> None:
    layout, said = layouts.choose(make(), 0.7)
    assert layout == "padded"
    assert reason in said


def test_a_model_that_loses_the_trie_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layouts, "_found", {})
    layout, reason = layouts.choose(losing(), 0.7)
    assert layout == "padded"
    assert "does not pass keyword arguments on" in reason


def test_what_was_found_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layouts, "_found", {})
    assert layouts.check(qwen3()) is None
    monkeypatch.setattr(layouts, "_measured", lambda _model: "measured again")
    assert layouts.check(qwen3()) is None
    assert layouts.check(qwen3(rms_norm_eps=1e-3)) == "measured again"


def test_dropout_is_drawn_for_every_sequence() -> None:
    model = adapted(qwen3(), dropout=0.1)
    layout, reason = layouts.choose(model, 0.7)
    assert layout == "packed"
    assert "dropout" in reason
    assert layouts.choose(model.eval(), 0.7)[0] == "tree"


def test_scores_without_gradients_are_the_same() -> None:
    model = adapted(qwen3())
    (trie,) = pack([branching()], 10**6)
    with torch.inference_mode():
        measured = score(model, trie, "tree", 0.7)
    trained = score(model, trie, "tree", 0.7)
    assert torch.equal(measured.logp, trained.logp.detach())
    assert torch.equal(measured.entropy, trained.entropy)
    assert len(measured.logp) == sum(sum(one.mask) for one in branching())


def test_a_shared_prompt_that_is_observed_is_scored_once_and_counted_for_each() -> None:
    model, prompt = qwen3(), drawn(1, 40)
    pair = [turns(prompt + drawn(2, 5), (40, 45)), turns(prompt + drawn(3, 9), (40, 49))]
    (trie,) = pack([pair], 10**6, observed=True)
    scored = score(model, trie, "tree")
    assert len(scored.logp) == 44 + 48
    assert int(scored.spoken.sum()) == 5 + 9
    prompts = [scored.logp[(scored.sample == index) & ~scored.spoken] for index in (0, 1)]
    assert torch.equal(prompts[0], prompts[1])
    logits = model(input_ids=torch.tensor([prompt])).logits[0]
    plain = torch.log_softmax(logits, -1)[torch.arange(39), torch.tensor(prompt[1:])]
    torch.testing.assert_close(prompts[0], plain, atol=1e-5, rtol=1e-5)
