"""`rlfleet doctor` on this machine, with real servers that are set up well and badly."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from typer.testing import CliRunner

from db import migrate
from db.session import transaction
from fleet import cli
from fleet.doctor import machine, secrets, servers, variables, versions
from fleet.doctor.finding import Finding
from fleet.doctor_cli import _made
from fleet.home import Home
from fleet.processes import ROOT
from tests.conftest_database import *  # noqa: F403
from tests.conftest_redis import broker, redis_url

__all__ = ["broker", "redis_url"]


def _levels(found: Iterable[Finding]) -> dict[str, str]:
    return {one.check: one.level for one in found}


def _words(found: Iterable[Finding], check: str) -> str:
    return next(f"{one.words}: {one.remedy}" for one in found if one.check == check)


def test_every_check_is_made_and_no_secret_is_shown(
    database: str, broker: Redis, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DATABASE_URL", database)
    monkeypatch.setenv("RLFLEET_HOME", str(tmp_path))
    monkeypatch.setenv("RLFLEET_JUDGE_KEY", "hunter2")
    monkeypatch.setattr(machine, "TORCH", """print('{"version": "2", "cuda": null, "devices": []}')""")
    done = CliRunner().invoke(cli.app, ["doctor", "--json"])
    found: dict[str, Any] = json.loads(done.stdout)
    checks = {one["check"]: one for one in found["checks"]}
    assert found["schema"] == 1
    assert found["ok"] is (done.exit_code == 0)
    wanted = {"python", "packages", "constraints", "disk home", "disk artifacts", "memory", "gpu", "torch", "sandbox"}
    wanted |= {"database", "schema", "clock", "broker", "broker eviction", "broker persistence", "lines"}
    assert wanted | {"judge key", "hub token", "secrets"} <= checks.keys()
    assert {checks[name]["level"] for name in ("database", "schema", "clock", "broker", "broker eviction")} == {"ok"}
    assert checks["judge key"]["words"] == "RLFLEET_JUDGE_KEY is set"
    assert "hunter2" not in done.output
    assert all(one["remedy"] for one in found["checks"] if one["level"] != "ok")
    said = CliRunner().invoke(cli.app, ["doctor"])
    assert "hub token" in said.stdout


def test_servers_that_strangers_could_listen_to_are_told() -> None:
    def told(environ: dict[str, str]) -> list[Finding]:
        return [one for one in servers.look(environ) if one.check in ("database network", "broker network")]

    here = {"DATABASE_URL": "postgresql://u:hush@127.0.0.1:1/n", "REDIS_URL": "redis://:hush@127.0.0.1:1/0"}
    elsewhere = {"DATABASE_URL": "postgresql://u:hush@db.invalid/n", "REDIS_URL": "redis://:hush@redis.invalid/0"}
    assert [one.level for one in told(elsewhere)] == ["warn", "warn"]
    assert all("hush" not in f"{one.words}{one.remedy}" for one in told(elsewhere))
    assert told(here) == told(elsewhere | {"RLFLEET_PRIVATE_NETWORK": "true"}) == []


def test_looking_loads_no_torch(tmp_path: Path) -> None:
    program = "import sys\nfrom typer.testing import CliRunner\nfrom fleet import cli\n"
    program += "CliRunner().invoke(cli.app, ['doctor'])\nprint('torch' in sys.modules, 'fleet.doctor' in sys.modules)"
    words = {"RLFLEET_HOME": str(tmp_path)} | {name: os.environ[name] for name in ("PATH",)}
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, cwd=ROOT, env=words, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1:] == ["False True"], done.stderr


def test_packages_are_compared_with_those_that_were_tested(tmp_path: Path) -> None:
    pins = tmp_path / "constraints.txt"
    pins.write_text("# tested\nredis==0.1\nno-such-package==1\n")
    found = list(versions.look(pins))
    assert _levels(found) == {"python": "ok", "packages": "ok", "constraints": "warn"}
    assert "1 of other versions: redis" in _words(found, "constraints")
    assert _levels(versions.look(tmp_path / "none", "no-such-distribution"))["packages"] == "warn"


def test_a_taken_port_fails_and_one_of_our_own_fleet_does_not(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        environ = {"RLFLEET_HOME": str(tmp_path), "RLFLEET_GATEWAY_PORT": str(other.getsockname()[1])}
        found = list(machine.ports(environ))
        assert _levels(found)["port gateway"] == "fail"
        assert "or set RLFLEET_GATEWAY_PORT to a free one" in _words(found, "port gateway")
        with Home.open(environ):
            assert _levels(machine.ports(environ)) == {"ports": "ok"}


def test_little_room_is_a_warning_and_none_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {"RLFLEET_HOME": str(tmp_path / "home"), "RLFLEET_ARTIFACTS": str(tmp_path / "a" / "b")}
    for least, enough, level in ((0, 0, "ok"), (0, 2**60, "warn"), (2**60, 2**60, "fail")):
        for name in ("DISK", "MEMORY"):
            monkeypatch.setattr(machine, f"LEAST_{name}", least)
            monkeypatch.setattr(machine, f"ENOUGH_{name}", enough)
        assert _levels([*machine.disk(environ), machine.memory()]) == {
            "disk home": level,
            "disk artifacts": level,
            "memory": level,
        }


@pytest.mark.parametrize(
    ("says", "gpu", "level", "words"),
    [
        ('print(\'{"version": "2", "cuda": null, "devices": []}\')', False, "ok", "2, CPU build, 0 GPUs"),
        ('print(\'{"version": "2", "cuda": null, "devices": []}\')', True, "fail", "sees no GPU"),
        ("import no_such_module", False, "warn", "rlfleet[gpu]"),
        ("raise OSError('libcuda is broken')", False, "fail", "libcuda is broken"),
    ],
)
def test_torch_is_asked_in_a_process_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, gpu: bool, level: str, words: str
) -> None:
    if gpu:
        smi = tmp_path / "nvidia-smi"
        smi.write_text("#!/bin/sh\necho 'H200, 580.1, 143771'\n")
        smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(machine, "TORCH", says)
    found = list(machine.devices({}))
    assert _levels(found) == {"gpu": "ok", "torch": level}
    assert words in _words(found, "torch")


def test_a_driver_that_is_broken_does_not_matter_where_the_cpu_is_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\nexit 9\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(machine, "TORCH", """print('{"version": "2", "cuda": null, "devices": []}')""")
    assert _levels(machine.devices({})) == {"gpu": "fail", "torch": "ok"}
    assert _levels(machine.devices({"RLFLEET_DEVICES": "cpu"})) == {"gpu": "ok", "torch": "ok"}


def test_variables_that_a_process_would_refuse_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {"RLFLEET_LEASE_SECONDS": "soon", "RLFLEET_ADMIN_PORT": "high", "RLFLEET_GATEWAY_PORT": "0x"}
    for name, value in wrong.items():
        monkeypatch.setenv(name, value)
    found = list(variables.look(os.environ))
    assert {one.level for one in found} == {"fail"}
    said = " ".join(one.words for one in found)
    assert all(f"{name} = " in said for name in wrong)
    for name in wrong:
        monkeypatch.delenv(name)
    assert _levels(variables.look(os.environ)) == {"variables": "ok"}


@pytest.mark.parametrize("name", ["DATABASE_URL", "REDIS_URL", "RLFLEET_ENGINE_KEY", "RLFLEET_PLAY_KEY", "HF_TOKEN"])
def test_a_secret_that_cannot_be_read_is_a_finding(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "TORCH", """print('{"version": "2", "cuda": null, "devices": []}')""")
    for one in ("DATABASE_URL", "REDIS_URL", name):
        monkeypatch.delenv(one, raising=False)
    monkeypatch.setenv("RLFLEET_HOME", str(tmp_path))
    monkeypatch.setenv(f"{name}_FILE", "/nowhere")
    done = CliRunner().invoke(cli.app, ["doctor", "--json"])
    assert done.exit_code == 1
    checks = json.loads(done.stdout)["checks"]
    words = f"{name}_FILE = '/nowhere': the file cannot be read"
    assert any(one["check"] == "variables" and one["words"].startswith(words) for one in checks)
    levels = {one["check"]: one["level"] for one in checks}
    assert {levels[one] for one in ("memory", "disk home", "secrets")} <= {"ok", "warn"}


def test_production_needs_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLFLEET_ENV", "production")
    for name in ("RLFLEET_GATEWAY_KEYS", "RLFLEET_ENGINE_KEY"):
        monkeypatch.delenv(name, raising=False)
    levels = {"variables": "ok", "gateway keys": "fail", "engine key": "warn"}
    assert _levels(variables.look(os.environ)) == levels
    monkeypatch.setenv("RLFLEET_GATEWAY_KEYS", "hunter2,")
    monkeypatch.setenv("RLFLEET_ENGINE_KEY", "hunter3")
    found = list(variables.look(os.environ))
    assert set(_levels(found).values()) == {"ok"}
    assert "hunter" not in str(found)


def test_a_check_that_breaks_is_a_finding() -> None:
    def breaks() -> list[Finding]:
        raise KeyError("pid of hunter2")

    (found,) = _made("secrets", breaks)
    assert (found.check, found.level, found.words) == ("secrets", "fail", "could not be looked at: KeyError")


def test_servers_that_are_not_set_are_those_that_up_would_start(tmp_path: Path) -> None:
    environ = {"RLFLEET_HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    found = list(servers.look(environ))
    assert _levels(found) == {"clock": "ok", "database": "ok", "broker": "ok"}
    assert "`rlfleet up` starts Valkey of its own" in _words(found, "broker")


def test_servers_that_are_away_fail_without_their_passwords(tmp_path: Path) -> None:
    environ = {"RLFLEET_HOME": str(tmp_path), "DATABASE_URL": "postgresql://me:hunter2@127.0.0.1:9/db"}
    found = list(servers.look(environ | {"REDIS_URL": "redis://:hunter2@127.0.0.1:9/0"}))
    assert _levels(found) == {"database": "fail", "broker": "fail"}
    assert "hunter2" not in str(found)


def test_a_broker_that_evicts_fails_and_an_older_schema_too(
    database: str, redis_url: str, broker: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = {"RLFLEET_HOME": str(tmp_path), "DATABASE_URL": database, "REDIS_URL": redis_url}
    stand = migrate.revision()
    assert stand.is_newest
    monkeypatch.setattr(migrate, "revision", lambda _: migrate.Revision("0001", stand.newest))
    before = broker.config_get("maxmemory-policy", "appendonly")
    broker.config_set("maxmemory-policy", "allkeys-lru")
    broker.config_set("appendonly", "no")
    try:
        found = list(servers.look(environ))
    finally:
        for name, value in before.items():
            broker.config_set(name, value)
    assert _levels(found) | {"clock": "ok"} == {
        "database": "ok",
        "schema": "fail",
        "clock": "ok",
        "broker": "ok",
        "broker eviction": "fail",
        "broker persistence": "warn",
    }
    assert "noeviction" in _words(found, "broker eviction")
    assert "`rlfleet migrate`" in _words(found, "schema")


def test_a_clock_that_is_off_is_found(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with transaction() as session:
        assert session is not None
    environ = {"RLFLEET_HOME": str(tmp_path), "DATABASE_URL": database}
    really = servers.time.time
    for off, level in ((0, "ok"), (20, "warn"), (-4000, "fail")):
        monkeypatch.setattr(servers.time, "time", lambda off=off: really() + off)
        assert _levels(servers.look(environ | {"PATH": os.environ["PATH"]}))["clock"] == level


def test_secrets_that_others_can_read_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    home = tmp_path / "home"
    with Home.open({"RLFLEET_HOME": str(home)}) as opened:
        opened.secret("engine.key")
    (tmp_path / ".env").write_text("A=b")
    (tmp_path / ".env").chmod(0o600)
    environ = {"RLFLEET_HOME": str(home)}
    assert _levels(secrets.look(environ))["secrets"] == "ok"
    (home / "engine.key").chmod(0o640)
    found = list(secrets.look(environ))
    assert _levels(found)["secrets"] == "fail"
    assert f"`chmod 600 {home / 'engine.key'}`" in _words(found, "secrets")
