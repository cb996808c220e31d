from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from rich.console import Console

from fleet import processes
from fleet.demo import play
from fleet.home import Endpoints, Home
from fleet.ports import free_port
from fleet.processes import Plan
from rl.errors import StartError


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with Home.open({"RLFLEET_HOME": str(tmp_path)}) as home:
        yield home


def _plan(home: Home, **environ: str) -> Plan:
    ports = {f"RLFLEET_{name}_PORT": str(free_port()) for name in ("GATEWAY", "FLOWER", "ADMIN")}
    return processes.plan(home, Endpoints("postgresql://h/d", "redis://h/0"), ports | environ)


def test_an_exported_device_reaches_gpu_workers_only(home: Home) -> None:
    plan = _plan(home, RLFLEET_DEVICE="cuda:7", RLFLEET_DEVICES="cpu,GPU-1")
    owned = {one.name: one.env["RLFLEET_DEVICE"] for one in processes.processes(plan)}
    assert {name: device for name, device in owned.items() if device} == {"worker-gpu0": "cpu", "worker-gpu1": "gpu1"}
    assert len(owned) == 10
    assert list(owned)[-1] == "admin"


def test_the_admin_server_finds_a_port_unless_it_is_told_one(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        monkeypatch.setattr(processes, "ADMIN_PORT", taken)
        found = _plan(home, RLFLEET_ADMIN_PORT="").admin_url
        with pytest.raises(StartError, match=f"RLFLEET_ADMIN_PORT = {taken}: the port is taken"):
            _plan(home, RLFLEET_ADMIN_PORT=str(taken))
    assert found.startswith("http://127.0.0.1:")
    assert found != f"http://127.0.0.1:{taken}"
    assert _plan(home, RLFLEET_ADMIN_PORT="").admin_url == f"http://127.0.0.1:{taken}", "it is free again"


def test_gpus_are_known_by_the_names_that_their_workers_give_them(home: Home) -> None:
    assert _plan(home, RLFLEET_DEVICES="cpu").device_uuids() == {}
    plan = _plan(home, RLFLEET_DEVICES="GPU-a+GPU-b,GPU-c")
    assert plan.device_uuids() == {"gpu0.0": "GPU-a", "gpu0.1": "GPU-b", "gpu1": "GPU-c"}


def test_a_worker_may_own_several_gpus_by_their_uuids(home: Home) -> None:
    found = {one.name: one.env for one in processes.processes(_plan(home, RLFLEET_DEVICES="GPU-a+GPU-b,GPU-c"))}
    shown = [
        (found[name]["RLFLEET_DEVICE"], found[name]["CUDA_VISIBLE_DEVICES"]) for name in ("worker-gpu0", "worker-gpu1")
    ]
    assert shown == [("gpu0.0+gpu0.1", "GPU-a,GPU-b"), ("gpu1", "GPU-c")]


def test_a_worker_may_own_shares_of_a_cpu(home: Home) -> None:
    plan = _plan(home, RLFLEET_DEVICES="cpu0+cpu1", CUDA_VISIBLE_DEVICES="")
    worker = next(one for one in processes.processes(plan) if one.name == "worker-gpu0")
    assert (worker.env["RLFLEET_DEVICE"], worker.env["CUDA_VISIBLE_DEVICES"]) == ("cpu0+cpu1", "")
    assert plan.device_uuids() == {}


def test_a_worker_is_killed_only_after_its_soft_shutdown(home: Home) -> None:
    plan = _plan(home, RLFLEET_DRAIN_SECONDS="90")
    assert {one.stop_timeout for one in processes.processes(plan) if "worker" in one.argv} == {105.0}


def test_pool_processes_of_cpu_work_are_replaced_and_those_of_a_device_are_not(home: Home) -> None:
    workers = {one.name: one.argv for one in processes.processes(_plan(home)) if "worker" in one.argv}
    flag = "--max-tasks-per-child="
    replaced = {name: word.removeprefix(flag) for name, argv in workers.items() for word in argv if flag in word}
    # What copies models elsewhere, for up to four hours, ends with the pool process of maint.
    assert replaced == {"worker-collect": "1000", "worker-score": "1000", "worker-maint": "100000"}
    assert set(workers) - set(replaced) == {"worker-gpu0"}


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({}, ""),
        ({"RLFLEET_GATEWAY_KEYS": ""}, ""),
        ({"RLFLEET_GATEWAY_KEYS": " , one , two"}, "one"),
        ({"RLFLEET_GATEWAY_KEYS": "one,two", "RLFLEET_GATEWAY_KEY": ""}, "one"),
        ({"RLFLEET_GATEWAY_KEYS": "one,two", "RLFLEET_GATEWAY_KEY": "two"}, "two"),
    ],
)
def test_our_own_agents_show_a_key_that_the_gateway_takes(home: Home, given: Mapping[str, str], key: str) -> None:
    assert _plan(home, **given).environ["RLFLEET_GATEWAY_KEY"] == key


@pytest.mark.parametrize(("exported", "used"), [(None, "cpu"), ("", "cpu"), ("GPU-1", "GPU-1")])
def test_the_demo_runs_on_the_cpu_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, exported: str | None, used: str
) -> None:
    monkeypatch.delenv("RLFLEET_DEVICES", raising=False)
    if exported is not None:
        monkeypatch.setenv("RLFLEET_DEVICES", exported)
    seen: list[str] = []

    def fleet(environ: Mapping[str, str]) -> None:
        seen.append(environ["RLFLEET_DEVICES"])
        raise InterruptedError

    monkeypatch.setattr(play, "Fleet", fleet)
    with pytest.raises(InterruptedError):
        play.play(Console(quiet=True), 0, None, fresh=False, quick=True)
    assert seen == [used]
