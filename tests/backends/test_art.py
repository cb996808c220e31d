"""Trainings with ART's service in the real process that speaks with it, and what that process is told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from backends.art import ArtPlace, ArtServerless
from backends.art_account import account as own_account
from rl.errors import ChildLost, InvalidSettings
from rl.protocol import CheckpointWritten, Done, Event, Paused, Progress, RemoteNoted
from rl.remote import Artifact, sha256_of
from tests.art_stand_in import ENTITY, KEY, PROJECT, Service, serving
from tests.backends.art_double import NAME, account, carried_out, command, in_its_process, last_remote, noted, row

pytestmark = pytest.mark.usefixtures("art_alone")


@pytest.fixture
def service() -> Iterator[Service]:
    with serving() as made:
        yield made


def test_a_training_leaves_a_checkpoint_and_says_what_was_done(service: Service, tmp_path: Path) -> None:
    events = in_its_process(ArtPlace(account(service)), command(tmp_path))
    phases = noted(events)
    assert phases[:2] == ["intended", "submitted"]
    assert set(phases[2:]) == {"polled"}
    steps = [event for event in events if isinstance(event, Progress)]
    assert [(one.step, one.total, one.metrics["loss"]) for one in steps] == [(1, 2, 1.0), (2, 2, 0.5)]
    uri = Artifact(ENTITY, PROJECT, NAME, 1).uri
    written = next(event for event in events if isinstance(event, CheckpointWritten))
    assert (written.step, written.kind, written.path, written.sha256) == (1, "remote", uri, sha256_of(uri))
    assert written.metrics == {"loss": 0.75, "grad_norm": 1.0}
    assert isinstance(events[-1], Done)
    told = events[-1].manifest["backend"]
    assert isinstance(told, dict)
    assert (told["model"], told["training"], told["step"]) == ("model-1", "training-1", 1)
    assert events[-1].manifest["rows"] == {"read": 2, "used": 2, "groups": 1, "skipped": {}}
    assert service.posts == 1


def test_the_request_holds_what_is_trained_on_and_nothing_else(service: Service, tmp_path: Path) -> None:
    tool = {"type": "function", "function": {"name": "go", "parameters": {"type": "object", "properties": {}}}}
    asked = [{"id": "t1", "type": "function", "function": {"name": "go", "arguments": "{}"}}]
    second = {
        "messages": [
            {"role": "user", "content": "left or right?", "name": "secret-agent"},
            {"role": "assistant", "tool_calls": asked},
            {"role": "tool", "content": "done", "tool_call_id": "t1", "name": "go"},
        ],
        "prompt_token_ids": [1, 2, 3, 7, 8, 4],
        "token_ids": [9],
        "logprobs": [-1.0],
        "response": {"role": "assistant", "content": "there"},
        "turn": 1,
        "call_id": "secret-second",
        "tools": [tool],
    }
    first = row(0, 1.0, response={"role": "assistant", "tool_calls": asked}, tools=[tool], finish_reason="tool_calls")
    first["calls"].append(first["calls"][0] | second)
    carried_out(account(service), command(tmp_path, first, row(1, 0.0), row(2, 1.0, group="alone")))
    (job,) = service.jobs
    assert job.body["model_id"] == "model-1"
    assert job.body["experimental_config"] == {
        "learning_rate": 1e-5,
        "ppo": True,
        "epsilon": 0.2,
        "epsilon_high": 0.28,
        "importance_sampling_level": "token",
        "scale_rewards": True,
        "advantage_balance": 0.0,
        "mask_prob_ratio": False,
        "precalculate_logprobs": False,
    }
    (group,) = job.body["trajectory_groups"]
    sent = group["trajectories"]
    assert [one["reward"] for one in sent] == [1.0, 0.0]
    assert sent[0]["tools"] == [tool]
    user, said, tool_said, last = sent[0]["messages_and_choices"]
    assert user == {"role": "user", "content": "left or right?"}
    assert said["message"]["tool_calls"] == asked
    assert said["finish_reason"] == "tool_calls"
    assert [(one["token"], one["logprob"]) for one in said["logprobs"]["content"]] == [
        ("token_id:7", -0.25),
        ("token_id:8", -0.5),
    ]
    assert tool_said == {"role": "tool", "content": "done", "tool_call_id": "t1"}
    assert last["message"]["content"] == "there"
    assert [one["token"] for one in last["logprobs"]["content"]] == ["token_id:9"]
    whole = json.dumps(job.body)
    assert "secret" not in whole
    assert "w/s" not in whole
    assert (group["metadata"], group["logs"], group["metrics"]) == ({}, [], {})
    assert all((one["metadata"], one["logs"], one["metrics"]) == ({}, [], {}) for one in sent)


@pytest.mark.slow
def test_a_known_training_is_followed_from_the_last_event(service: Service, tmp_path: Path) -> None:
    service.held = True
    place = ArtPlace(account(service))
    told = command(tmp_path)
    events: list[Event] = []
    for event in place.train(told):
        events += [event] if event is not None else []
        if isinstance(event, RemoteNoted) and event.phase == "polled":
            break
    place.kill()
    remote = last_remote(events)
    assert remote is not None
    assert (remote.training, remote.after, remote.steps) == ("training-1", "training-1-event-0", 0)
    service.held = False
    service.asked.clear()
    service.looks = [500, 500, 500, 500, 429]
    found = carried_out(account(service), command(tmp_path, remote=remote))
    assert next(event for event in found if isinstance(event, CheckpointWritten)).step == 1
    asked = [query for _, path, query in service.asked if path.endswith("/events")]
    assert asked[0]["after"] == "training-1-event-0"
    assert (service.posts, len(service.jobs)) == (0, 1)


def test_a_pause_leaves_the_training_to_the_service(service: Service, tmp_path: Path) -> None:
    service.held = True
    place, told, events = ArtPlace(account(service)), command(tmp_path), []
    for event in place.train(told):
        events += [event] if event is not None else []
        if isinstance(event, RemoteNoted) and event.phase == "submitted":
            place.pause(told)
    assert isinstance(events[-1], Paused)
    assert (service.posts, len(service.jobs)) == (1, 1)


def test_the_process_is_killed_with_its_place_and_its_key_is_nowhere_to_be_seen(
    service: Service, tmp_path: Path
) -> None:
    service.held = True
    place, told = ArtPlace(account(service)), command(tmp_path)
    following = place.train(told)
    while not isinstance(next(following), RemoteNoted):
        pass
    (child,) = (one for one in psutil.Process().children() if "backends.art_child" in one.cmdline())
    seen = [*child.cmdline(), *child.environ().values()]
    assert not any(KEY in one for one in seen)
    os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(ChildLost, match=r"the process that speaks with ART ended; see .*art\.log"):
        list(following)
    assert KEY not in (tmp_path / "art.log").read_text()


def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    code = "import subprocess, sys, time, os\n"
    code += "end = os.pipe()\n"
    code += "words = [sys.executable, '-m', 'backends.art_child', '--events-fd', str(end[1])]\n"
    code += "words += ['--parent', str(os.getpid())]\n"
    code += "child = subprocess.Popen(words, stdin=subprocess.PIPE, pass_fds=(end[1],))\n"
    code += "print(child.pid, flush=True); time.sleep(600)\n"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    ) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    child.wait(30)


def test_a_key_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    def never() -> Any:
        raise AssertionError("the device's child")

    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    with pytest.raises(InvalidSettings, match="WANDB_API_KEY = '': set it to your key of Weights & Biases"):
        ArtServerless().place(never)
    monkeypatch.setenv("WANDB_API_KEY", "two words")
    with pytest.raises(InvalidSettings, match="WANDB_API_KEY = '<hidden>'"):
        ArtServerless().place(never)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert isinstance(ArtServerless().place(never), ArtPlace)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("ART_BASE_URL", "http://service.example/v1", "an https:// address without a user in it"),
        ("ART_DEADLINE_SECONDS", "0", "greater than 0"),
        ("WANDB_PROJECT", "a/b", "without slashes"),
        ("WANDB_ENTITY", "a:b", "without slashes"),
    ],
)
def test_what_cannot_be_used_is_said_by_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidSettings, match=f"{name} = '{value}': .*{words}"):
        own_account()


def test_the_key_goes_to_no_host_behind_a_users_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("ART_BASE_URL", "http://127.0.0.1:80@service.example/v1")
    with pytest.raises(InvalidSettings, match=r"ART_BASE_URL = .<hidden>.: .*without a user"):
        own_account()


def test_the_key_may_lie_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_API_KEY_FILE", str(tmp_path / "key"))
    assert own_account().api_key.get_secret_value() == KEY
