"""The engine over real HTTP."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from gpu.engine import EngineServer
from gpu.policy import Policy
from rl.errors import StartError

USER = {"role": "user", "content": "You see: wall 4 ahead"}


@pytest.fixture
def client(base: Path, policy: Policy) -> Iterator[httpx.Client]:
    policy.load("v1", str(base))
    server = EngineServer(policy)
    with httpx.Client(base_url=server.start(), timeout=30) as client:
        yield client
    server.stop()


def ask(client: httpx.Client, **fields: Any) -> httpx.Response:
    return client.post("/v1/chat/completions", json={"model": "v1", "messages": [USER], "max_tokens": 6, **fields})


def test_a_completion_carries_its_tokens_and_log_probabilities(client: httpx.Client, policy: Policy) -> None:
    body = ask(client, seed=5, temperature=0.8).json()
    version = policy.version("v1")
    assert version is not None
    prompt, choice = body["prompt_token_ids"], body["choices"][0]
    spoken = choice["token_ids"]
    assert prompt == version.tokens.prompt([USER])
    with torch.inference_mode():
        logits = version.model(input_ids=torch.tensor([prompt + spoken])).logits[0, len(prompt) - 1 : -1]
    want = torch.log_softmax(logits / 0.8, -1).gather(-1, torch.tensor(spoken)[:, None])[:, 0]
    got = torch.tensor([entry["logprob"] for entry in choice["logprobs"]["content"]])
    torch.testing.assert_close(got, want, atol=1e-4, rtol=0)
    assert body["object"] == "chat.completion"
    assert body["model"] == "v1"
    assert body["usage"] == {
        "prompt_tokens": len(prompt),
        "completion_tokens": len(spoken),
        "total_tokens": len(prompt) + len(spoken),
    }
    text = version.tokens.decode(spoken[:-1] if choice["finish_reason"] == "stop" else spoken)
    assert choice["message"] == {"role": "assistant", "content": text}


def test_the_next_turn_starts_with_exactly_what_was_said(client: httpx.Client) -> None:
    first = ask(client, seed=1).json()
    answer = first["choices"][0]
    messages = [USER, answer["message"], USER]
    second = ask(client, messages=messages, seed=2).json()
    held = first["prompt_token_ids"] + answer["token_ids"]
    assert second["prompt_token_ids"][: len(held)] == held


def test_seeds_do_not_depend_on_who_else_asks(client: httpx.Client) -> None:
    alone = ask(client, seed=77).json()["choices"][0]["token_ids"]
    with ThreadPoolExecutor(32) as pool:
        seeds = [77 if i == 20 else i for i in range(64)]
        together = list(pool.map(lambda seed: ask(client, seed=seed).json()["choices"][0]["token_ids"], seeds))
    assert together[20] == alone
    assert len({tuple(tokens) for tokens in together}) > 30


def test_greedy_answers_repeat(client: httpx.Client) -> None:
    assert ask(client, temperature=0).json()["choices"] == ask(client, temperature=0).json()["choices"]


def test_text_parts_are_joined(client: httpx.Client) -> None:
    parts = [{"type": "text", "text": "You see: "}, {"type": "text", "text": "wall 4 ahead"}]
    body = ask(client, messages=[{"role": "user", "content": parts}], seed=3).json()
    assert body["prompt_token_ids"] == ask(client, seed=3).json()["prompt_token_ids"]


@pytest.mark.parametrize(
    ("fields", "status", "message", "param"),
    [
        ({"model": "nobody"}, 404, "`nobody` does not exist", None),
        ({"stream_options": {}}, 400, "they need stream = true", "stream_options"),
        ({"n": 2}, 400, "n = 2", "n"),
        ({"stop": list("abcde")}, 400, "stop = ", "stop"),
        ({"stop": ""}, 400, "stop.0 = ''", "stop.0"),
        ({"tools": [{"type": "function"}]}, 400, "the model's chat template knows no tools", "tools"),
        ({"messages": []}, 400, "messages = ", "messages"),
        ({"messages": [{"content": "x"}]}, 400, "needs a role", "messages.role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "only text", "messages.content"),
        ({"max_tokens": 5000}, 400, "max_tokens = 5000: the context holds 2048 tokens", "max_tokens"),
        ({"max_completion_tokens": 2040}, 400, "ask for at most 20", "max_tokens"),
        ({"max_tokens": 0}, 400, "max_tokens = 0", "max_tokens"),
        ({"seed": 2**63}, 400, "seed = 9223372036854775808", "seed"),
        ({"seed": -(2**63) - 1}, 400, "seed = -9223372036854775809", "seed"),
        ({"seed": "five"}, 400, "seed = 'five'", "seed"),
        ({"top_k": 5}, 400, "top_k = 5", "top_k"),
        ({"temperature": -1}, 400, "temperature = -1", "temperature"),
    ],
)
def test_what_cannot_be_done_is_said(
    client: httpx.Client, fields: dict[str, Any], status: int, message: str, param: str | None
) -> None:
    answer = ask(client, **fields)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert message in error["message"]
    assert error["param"] == param
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["code"] == "context_length_exceeded") == ("the context holds" in error["message"])


@pytest.mark.parametrize("max_tokens", [1, None])
def test_a_prompt_longer_than_the_context_is_refused_with_its_length(
    client: httpx.Client, policy: Policy, max_tokens: int | None
) -> None:
    version = policy.version("v1")
    assert version is not None
    long = {"role": "user", "content": "wall 4 " * 1000}
    length = len(version.tokens.prompt([long]))
    assert length > 2048
    answer = ask(client, messages=[long], max_tokens=max_tokens)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert f"messages = '{length} tokens': the context holds 2048 tokens" in error["message"]
    assert (error["param"], error["code"]) == ("messages", "context_length_exceeded")


def test_the_context_can_be_filled_to_its_last_token(client: httpx.Client, policy: Policy) -> None:
    version = policy.version("v1")
    assert version is not None
    one, two = (len(version.tokens.prompt([{"role": "user", "content": "wall 4 " * count}])) for count in (1, 2))
    filled = {"role": "user", "content": "wall 4 " * ((2044 - one) // (two - one))}
    room = 2048 - len(version.tokens.prompt([filled]))
    assert 4 <= room < 20
    body = ask(client, messages=[filled], max_tokens=room, ignore_eos=True).json()
    assert body["usage"]["total_tokens"] == 2048


def test_seeds_of_either_sign_are_different_seeds(client: httpx.Client) -> None:
    said = [ask(client, seed=seed).json()["choices"][0]["token_ids"] for seed in (7, -7, -(2**63), 2**63 - 1)]
    assert len({tuple(tokens) for tokens in said}) == 4


def test_the_end_of_turn_can_be_ignored(client: httpx.Client, policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    free = ask(client, temperature=0, max_tokens=12, ignore_eos=True).json()["choices"][0]
    assert (len(free["token_ids"]), free["finish_reason"]) == (12, "length")
    monkeypatch.setattr("gpu.generate._stop_ids", lambda _: frozenset({free["token_ids"][2]}))
    policy.load("v2", policy.version("v1").path)  # type: ignore[union-attr]
    asked = {"model": "v2", "temperature": 0, "max_tokens": 12}
    stopped = ask(client, **asked).json()["choices"][0]
    assert (stopped["token_ids"], stopped["finish_reason"]) == (free["token_ids"][:3], "stop")
    assert ask(client, **asked, ignore_eos=True).json()["choices"][0]["token_ids"] == free["token_ids"]


def test_a_body_that_is_no_json_is_refused(client: httpx.Client) -> None:
    answer = client.post("/v1/chat/completions", content=b"{")
    assert answer.status_code == 400
    assert client.post("/v1/load_lora_adapter", content=b"[]").json()["error"]["param"] == "body"


def test_versions_come_and_go(client: httpx.Client, make_adapter: Callable[[int], Path]) -> None:
    load = {"lora_name": "v2", "lora_path": str(make_adapter(1))}
    assert client.post("/v1/load_lora_adapter", json=load).status_code == 200
    assert client.post("/v1/load_lora_adapter", json=load).status_code == 200
    listed = {model["id"]: model for model in client.get("/v1/models").json()["data"]}
    assert set(listed) == {"v1", "v2"}
    assert listed["v2"]["root"] == load["lora_path"]
    assert listed["v2"]["parent"] == listed["v1"]["root"]
    assert ask(client, model="v2", temperature=0).json()["choices"] != ask(client, temperature=0).json()["choices"]
    assert client.get("/health").json()["versions"] == ["v2", "v1"], "the one asked longest ago first"
    assert client.post("/v1/unload_lora_adapter", json={"lora_name": "v2"}).status_code == 200
    assert client.post("/v1/unload_lora_adapter", json={"lora_name": "v2"}).status_code == 404
    assert ask(client, model="v2").status_code == 404
    bad = client.post("/v1/load_lora_adapter", json={"lora_name": "v3", "lora_path": "/nowhere"})
    assert bad.status_code == 400


def test_the_key_is_asked_for(base: Path, policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLFLEET_ENGINE_KEY", "s3cret")
    policy.load("v1", str(base))
    server = EngineServer(policy)
    with httpx.Client(base_url=server.start()) as client:
        assert client.get("/health").status_code == 200
        assert client.get("/v1/models").status_code == 401
        assert client.get("/v1/models", headers={"Authorization": "Bearer wrong"}).status_code == 401
        assert client.get("/v1/models", headers={"Authorization": "Bearer s3cret"}).status_code == 200
    server.stop()


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
def test_without_a_key_no_web_page_is_answered(
    client: httpx.Client, make_adapter: Callable[[int], Path], headers: dict[str, str]
) -> None:
    load = json.dumps({"lora_name": "v2", "lora_path": str(make_adapter(1))})
    simple = {"Content-Type": "text/plain"}
    refused = client.post("/v1/load_lora_adapter", content=load, headers=simple | headers)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "not_local")
    assert "set RLFLEET_ENGINE_KEY" in refused.json()["error"]["message"]
    assert client.get("/health", headers=headers).status_code == 403
    assert client.get("/health", headers={"Host": "localhost"}).json()["versions"] == ["v1"]
    assert client.post("/v1/load_lora_adapter", content=load).status_code == 200


def test_with_a_key_the_key_alone_decides(base: Path, policy: Policy) -> None:
    policy.load("v1", str(base))
    server = EngineServer(policy, "s3cret")
    page = {"Host": "evil.example", "Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}
    with httpx.Client(base_url=server.start(), timeout=30) as client:
        assert client.get("/health", headers=page).status_code == 200
        assert client.get("/v1/models", headers=page).status_code == 401
        assert client.get("/v1/models", headers=page | {"Authorization": "Bearer s3cret"}).status_code == 200
    server.stop()


def test_production_needs_a_key(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLFLEET_ENV", "production")
    monkeypatch.delenv("RLFLEET_ENGINE_KEY", raising=False)
    with pytest.raises(StartError, match="RLFLEET_ENGINE_KEY = '': set a bearer key"):
        EngineServer(policy)
    monkeypatch.setenv("RLFLEET_ENV", "prod")
    with pytest.raises(StartError, match="RLFLEET_ENV = 'prod'"):
        EngineServer(policy, key="")


def test_answers_do_not_wait_for_delayed_acknowledgements(client: httpx.Client) -> None:
    client.get("/health")

    def seconds() -> float:
        began = time.perf_counter()
        client.get("/health")
        return time.perf_counter() - began

    assert min(seconds() for _ in range(20)) < 0.03


def test_a_full_queue_says_when_to_come_back(base: Path, policy: Policy) -> None:
    policy.load("v1", str(base))
    server = EngineServer(policy, max_waiting=2)
    url = server.start()
    body = json.dumps({"model": "v1", "messages": [USER], "max_tokens": 2}).encode()
    with ThreadPoolExecutor(8) as pool, httpx.Client(base_url=url, timeout=30) as client:
        refused = threading.Event()

        def post() -> int:
            answer = client.post("/v1/chat/completions", content=body)
            if answer.status_code == 429:
                assert answer.headers["retry-after"] == "1"
                assert answer.json()["error"]["code"] == "queue_full"
                refused.set()
            return answer.status_code

        with policy.lock:
            # The decoding thread waits for the device; what it is about to take still counts.
            asked = [pool.submit(post) for _ in range(8)]
            assert refused.wait(20)
            assert server.scheduler.waiting == 2
        codes = [one.result() for one in asked]
    server.stop()
    assert set(codes) == {200, 429}
    assert codes.count(200) >= 2


def test_the_setting_bounds_the_queue(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    for value, places in (("", 1024), ("7", 7)):
        monkeypatch.setenv("RLFLEET_ENGINE_QUEUE", value)
        server = EngineServer(policy)
        assert server.scheduler.max_waiting == places
        server.stop()
    monkeypatch.setenv("RLFLEET_ENGINE_QUEUE", "0")
    with pytest.raises(StartError, match="RLFLEET_ENGINE_QUEUE = '0'"):
        EngineServer(policy)


def test_a_broken_version_fails_its_requests_and_not_the_others(
    client: httpx.Client, policy: Policy, make_adapter: Callable[[int], Path]
) -> None:
    broken = policy.load("broken", str(make_adapter(2)))
    del broken.model.model.embed_tokens
    answer = ask(client, model="broken")
    assert answer.status_code == 500
    assert ask(client).status_code == 200
