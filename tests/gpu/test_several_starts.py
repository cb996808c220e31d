"""What the child does before the processes of a training run, and what belongs to it and to them."""

import contextlib
import errno
import gc
import logging
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef

from gpu import several
from gpu.device import free_unused
from gpu.locks import lock_device
from gpu.policy import Policy
from gpu.several import Rank
from gpu.trainer import train
from rl.config import Lora
from rl.errors import ChildLost, InvalidInput, StartError
from rl.protocol import TrainCommand
from tests.gpu.test_several_ends import listening, rank_processes

CPU = torch.device("cpu")
LORA = {"rank": 4, "alpha": 8}


@pytest.fixture
def policy() -> Policy:
    return Policy(CPU, devices=[CPU, CPU])


@pytest.fixture
def begin(policy: Policy, base: Path, dataset: str, tmp_path: Path) -> Callable[..., None]:
    """Trains by settings over two shares of a CPU."""

    def run(**fields: Any) -> None:
        config = {"objective": "sft", "optimizer": {"learning_rate": 1e-4}, "steps": 2, "devices": 2, "lora": LORA}
        where = {"dataset": dataset, "out": str(tmp_path / "out"), "base": str(base)}
        train(TrainCommand(job=1, fence=1, config=config | fields, **where), policy, lambda event: None)

    return run


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"devices": 3},
            "config.devices = 3: this worker has 2 of them; ask for no more, or give it others joined with +",
        ),
        (
            {"quantization": "4bit"},
            "config.quantization = '4bit': a base in four bits cannot be divided over 2 devices; "
            "leave it out, or set devices = 1",
        ),
    ],
)
def test_what_cannot_be_divided_is_refused_before_anything_is_dropped(
    policy: Policy, base: Path, begin: Callable[..., None], fields: dict[str, object], words: str
) -> None:
    policy.trainable(str(base), None, Lora(**LORA), seed=0)
    with pytest.raises(InvalidInput) as refused:
        begin(**fields)
    assert str(refused.value) == words
    assert policy.holds(str(base))


def test_only_what_is_served_stays_on_the_devices(
    policy: Policy, base: Path, make_adapter: Callable[[int], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = shutil.copytree(base, tmp_path / "other")
    policy.load("served", str(make_adapter(1)))
    model, _ = policy.trainable(str(other), None, Lora(**LORA), seed=0)
    idle = [StorageWeakRef(one.untyped_storage()) for one in model.parameters()]
    del model
    assert policy.holds(str(base))
    assert policy.holds(str(other))
    freed: list[torch.device] = []
    monkeypatch.setattr("gpu.policy.free_unused", lambda device: (freed.append(device), free_unused(device)))
    policy.drop_idle()
    assert policy.holds(str(base))
    assert not policy.holds(str(other))
    assert [one for one in idle if not one.expired()] == []
    assert freed == [CPU, CPU]
    assert policy.names() == ["served"]


def fails_at(number: int, call: Callable[..., Any], kind: int) -> Callable[..., Any]:
    """``call``, whose ``number``-th call fails, counted from 1."""
    calls: list[object] = []

    def counted(*args: Any, **named: Any) -> Any:
        calls.append(args)
        if len(calls) == number:
            raise OSError(kind, os.strerror(kind))
        return call(*args, **named)

    return counted


@pytest.mark.parametrize(
    ("what", "number", "kind", "words"),
    [
        ("subprocess.Popen", 2, errno.ENOMEM, r"process 2 of 2 could not be started: .*Cannot allocate memory"),
        ("os.pipe", 2, errno.EMFILE, r"process 1 of 2 could not be started: .*Too many open files"),
    ],
)
def test_a_process_that_cannot_be_started_ends_the_training_and_leaves_nothing(
    policy: Policy,
    base: Path,
    begin: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    number: int,
    kind: int,
    words: str,
) -> None:
    policy.trainable(str(base), None, Lora(**LORA), seed=0)
    module, _, name = what.partition(".")
    call = {"subprocess.Popen": subprocess.Popen, "os.pipe": os.pipe}[what]
    here = psutil.Process()
    with several._store():  # PyTorch keeps a pipe of the first one
        pass
    gc.collect()  # as the training will, so that nothing of other tests is closed in between
    before = here.num_fds()
    with monkeypatch.context() as patched:
        patched.setattr(getattr(several, module), name, fails_at(number, call, kind))
        with pytest.raises(ChildLost, match=words):
            begin()
    assert not policy.holds(str(base)), "what is idle was dropped for the processes"
    assert rank_processes(here.pid) == []
    assert here.num_fds() <= before


def test_a_device_stays_locked_until_the_last_process_that_uses_it_is_gone(tmp_path: Path) -> None:
    with contextlib.ExitStack() as ending:
        held = ending.enter_context(lock_device(tmp_path, "cpu0+cpu1"))
        rank = Rank(0, 2, CPU, 1)
        ending.callback(rank.close)
        rank.start()
        held.close()  # to the kernel, the end of the child is the same
        with pytest.raises(StartError, match=r"cpu0\+cpu1 is in use by process"):
            lock_device(tmp_path, "cpu0+cpu1", seconds=0)
        ending.pop_all().close()
    lock_device(tmp_path, "cpu0+cpu1", seconds=60).close()


def test_a_process_that_does_not_die_is_named_and_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Stuck:
        pid = 4711

        def poll(self) -> None:
            return None

        def send_signal(self, number: int) -> None:
            sent.append(number)

        def wait(self, seconds: float) -> int:
            raise subprocess.TimeoutExpired("rank", seconds)

    sent: list[int] = []
    monkeypatch.setattr(several, "KILL_SECONDS", 0.0)
    before = psutil.Process().num_fds()
    rank: Any = Rank(0, 2, CPU, 1)
    rank.process, (rank.events, rank.commands) = Stuck(), os.pipe()
    with caplog.at_level(logging.WARNING):
        rank.close()
    assert sent == [9]
    assert "process 4711 of a training runs 0 s after SIGKILL" in caplog.text
    assert psutil.Process().num_fds() <= before


def test_the_processes_meet_on_the_loopback_interface_alone() -> None:
    before = listening(psutil.Process())
    with several._store() as port:
        here = psutil.Process().net_connections("inet")
        assert [one.laddr.ip for one in here if one.status == psutil.CONN_LISTEN and one.laddr.port == port] == [
            "127.0.0.1"
        ]
        assert listening(psutil.Process()) == before | {"127.0.0.1"}
