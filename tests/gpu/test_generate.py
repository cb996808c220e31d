"""Decoding against a plain forward pass; neighbours, admission and prefixes change nothing."""

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from gpu.generate import Completion, Decoder, Request, generate
from gpu.policy import Policy, Version


@pytest.fixture
def version(base: Path, policy: Policy) -> Version:
    return policy.load("base", str(base))


def prompts(count: int, seed: int = 0) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [[1, *torch.randint(3, 290, (5 + 7 * (i % 6),), generator=generator).tolist()] for i in range(count)]


def ask(prompt: Sequence[int], seed: int = 0, temperature: float = 1.0, max_tokens: int = 8) -> Request:
    return Request(list(prompt), max_tokens, temperature, seed)


def plain_logp(version: Version, prompt: list[int], spoken: list[int], temperature: float) -> torch.Tensor:
    with torch.inference_mode():
        logits = version.model(input_ids=torch.tensor([prompt + spoken])).logits[0, len(prompt) - 1 : -1]
    return torch.log_softmax(logits.float() / temperature, -1).gather(-1, torch.tensor(spoken)[:, None])[:, 0]


@pytest.mark.parametrize("temperature", [0.0, 0.6, 1.0])
def test_log_probabilities_are_those_of_a_plain_forward(policy: Policy, version: Version, temperature: float) -> None:
    asked = [ask(p, i, temperature) for i, p in enumerate(prompts(20))]
    for request, done in zip(asked, generate(policy, version, asked), strict=True):
        want = plain_logp(version, request.prompt, done.token_ids, temperature or 1.0)
        torch.testing.assert_close(torch.tensor(done.logprobs), want, atol=1e-4, rtol=0)


def test_temperature_zero_takes_the_likeliest_token(policy: Policy, version: Version) -> None:
    (done,) = generate(policy, version, [ask(prompts(1)[0], temperature=0.0, max_tokens=5)])
    ids = list(prompts(1)[0])
    for token in done.token_ids:
        with torch.inference_mode():
            assert int(version.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()) == token
        ids.append(token)


def test_a_seed_gives_the_same_tokens_whatever_the_neighbours(policy: Policy, version: Version) -> None:
    prompt = prompts(5)[4]
    (alone,) = generate(policy, version, [ask(prompt, seed=11)])
    crowd = [ask(p, seed=i) for i, p in enumerate(prompts(40, seed=9))]
    together = generate(policy, version, [*crowd[:20], ask(prompt, seed=11), *crowd[20:]])
    assert together[20].token_ids == alone.token_ids
    assert together[20].logprobs == pytest.approx(alone.logprobs, abs=1e-4)
    (other,) = generate(policy, version, [ask(prompt, seed=12)])
    assert other.token_ids != alone.token_ids


def test_more_requests_than_rows_join_as_rows_leave(policy: Policy, version: Version) -> None:
    asked = [ask(p, i, max_tokens=1 + i % 5) for i, p in enumerate(prompts(30))]
    results: list[Completion | Exception | None] = [None] * 30

    def setter(i: int) -> Request:
        request = asked[i]
        keep = lambda done: results.__setitem__(i, done)  # noqa: E731
        return Request(request.prompt, request.max_tokens, request.temperature, request.seed, keep)

    decoder, waiting = Decoder(version, capacity=4), deque(setter(i) for i in range(30))
    while waiting or decoder.rows:
        with policy.using(version):
            decoder.admit(waiting)
            assert len(decoder.rows) <= 4
            decoder.step()
    for got, want in zip(results, generate(policy, version, asked), strict=True):
        assert isinstance(got, Completion)
        assert (got.token_ids, got.finish_reason) == (want.token_ids, want.finish_reason)
        assert got.logprobs == pytest.approx(want.logprobs, abs=1e-4)


def test_a_conversation_goes_on_from_what_is_known(policy: Policy, version: Version) -> None:
    decoder = Decoder(version)
    eos = version.tokens.eos_id
    held: list[Completion] = []

    def converse(prompt: list[int], seed: int) -> Completion:
        waiting = deque([Request(prompt, 4, 1.0, seed, held.append)])  # type: ignore[arg-type]
        while waiting or decoder.rows:
            with policy.using(version):
                decoder.admit(waiting)
                decoder.step()
        return held[-1]

    first = [*prompts(1)[0], eos, 40, 41, 42]
    converse(first, 1)
    assert decoder.prefixes.longest(first, [len(first) - 1])[0] == len(first) - 1
    longer = [*first[:-3], 50, 51, 52, 53]
    assert decoder.prefixes.longest(longer, [i for i, t in enumerate(longer) if t == eos])[0] == longer.index(eos)
    done = converse(longer, 2)
    torch.testing.assert_close(
        torch.tensor(done.logprobs), plain_logp(version, longer, done.token_ids, 1.0), atol=1e-4, rtol=0
    )
    again = converse(longer, 2)
    assert again.token_ids == done.token_ids


def test_samples_follow_the_distribution(policy: Policy, version: Version) -> None:
    prompt = prompts(1)[0]
    draws = generate(policy, version, [ask(prompt, seed, 0.05, 1) for seed in range(2000)])
    with torch.inference_mode():
        want = (version.model(input_ids=torch.tensor([prompt])).logits[0, -1].float() / 0.05).softmax(-1)
    counts = torch.bincount(torch.tensor([d.token_ids[0] for d in draws]), minlength=len(want)) / 2000
    assert (counts - want).abs().max() < 4 * (0.25 / 2000) ** 0.5
    assert want.max() < 0.9


def test_the_end_of_turn_ends_a_completion(policy: Policy, version: Version, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = prompts(1)[0]
    drawn = generate(policy, version, [ask(prompt, seed) for seed in range(20)])
    seed, free = next((seed, one) for seed, one in enumerate(drawn) if one.finish_reason == "length")
    assert len(free.token_ids) == 8
    monkeypatch.setattr("gpu.generate._stop_ids", lambda _: frozenset({free.token_ids[2]}))
    (done,) = generate(policy, version, [ask(prompt, seed)])
    assert done.finish_reason == "stop"
    assert done.token_ids == free.token_ids[: free.token_ids.index(free.token_ids[2]) + 1]


def test_a_listener_hears_each_token_and_may_end_the_completion(policy: Policy, version: Version) -> None:
    heard: list[tuple[int, float]] = []

    def listen(token: int, logprob: float) -> bool:
        heard.append((token, logprob))
        return len(heard) == 3

    prompt = prompts(1)[0]
    drawn = generate(policy, version, [ask(prompt, seed) for seed in range(20)])
    seed, free = next((seed, one) for seed, one in enumerate(drawn) if one.finish_reason == "length")
    (done,) = generate(policy, version, [replace(ask(prompt, seed), heard=listen)])
    assert (done.token_ids, done.finish_reason) == (free.token_ids[:3], "stop")
    assert heard == list(zip(done.token_ids, done.logprobs, strict=True))


def test_cancelled_requests_leave_and_nobody_is_called(policy: Policy, version: Version) -> None:
    results: dict[int, Completion | Exception] = {}
    asked = [
        replace(ask(prompt, seed, max_tokens=4), finished=partial(results.__setitem__, seed))
        for seed, prompt in enumerate(prompts(6))
    ]
    decoder, waiting = Decoder(version, capacity=3), deque(asked)
    asked[4].cancelled.set()
    with policy.using(version):
        decoder.admit(waiting)
        asked[1].cancelled.set()
        decoder.step()
        decoder.admit(waiting)
        assert [row.request.seed for row in decoder.rows if row.request.seed in (1, 4)] == []
        while decoder.rows or waiting:
            decoder.step()
            decoder.admit(waiting)
    assert sorted(results) == [0, 2, 3, 5]
    want = generate(policy, version, [replace(asked[3], finished=lambda result: None)])
    assert isinstance(results[3], Completion)
    assert results[3].token_ids == want[0].token_ids
