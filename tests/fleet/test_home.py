from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from platformdirs import user_state_path

from fleet import home as home_module
from fleet.account import Account
from fleet.home import Endpoints, Home, holder, home_path, read_endpoints
from rl.errors import StartError


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_path_is_the_variable_or_the_users_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert home_path({"RLFLEET_HOME": str(tmp_path / "x" / ".." / "y")}) == tmp_path / "y"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert home_path({"RLFLEET_HOME": ""}) == Path("/var/lib/rlfleet")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert home_path({}) == user_state_path("rlfleet")


def test_a_new_home_is_private_and_existing_folders_keep_their_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / "outer").mkdir(mode=0o750)
    with Home.open({"RLFLEET_HOME": str(tmp_path / "outer" / "home")}) as home:
        assert _mode(home.path) == (0o711 if os.geteuid() == 0 else 0o700)
        assert _mode(home.logs) == 0o700
    home.path.chmod(0o700)
    with Home.open({"RLFLEET_HOME": str(home.path)}):
        assert [_mode(path) for path in (home.path, tmp_path / "outer", tmp_path)] == [0o700, 0o750, 0o700]


def test_a_held_home_is_refused_with_its_holder(tmp_path: Path) -> None:
    environ = {"RLFLEET_HOME": str(tmp_path)}
    with Home.open(environ), pytest.raises(StartError) as caught:
        Home.open(environ)
    assert str(caught.value).startswith(f"a fleet runs here (pid {os.getpid()}): `rlfleet status` says how it is, ")
    assert "`rlfleet down` ends it" in str(caught.value)
    Home.open(environ).close()


def test_a_home_is_free_when_the_last_process_that_was_given_the_lock_ends(
    tmp_path: Path, eventually: Callable[..., None]
) -> None:
    environ = {"RLFLEET_HOME": str(tmp_path)}
    home = Home.open(environ)
    leftover = subprocess.Popen(["sleep", "60"], pass_fds=(home.lock,))
    gone = subprocess.Popen(["true"])
    gone.wait()
    (tmp_path / ".lock").write_text(str(gone.pid))
    home.close()
    with pytest.raises(StartError, match=rf"process {gone.pid}, which is gone"):
        Home.open(environ, wait_seconds=0.2)
    leftover.kill()
    leftover.wait()
    Home.open(environ, wait_seconds=0).close()


def test_a_secret_is_made_once_and_must_stay_private(tmp_path: Path) -> None:
    with Home.open({"RLFLEET_HOME": str(tmp_path)}) as home:
        secret = home.secret("x.password")
        assert len(secret) == 32
        assert home.secret("x.password") == secret != home.secret("y.password")
        assert _mode(tmp_path / "x.password") == 0o600
        (tmp_path / "x.password").chmod(0o640)
        with pytest.raises(StartError, match=r"x\.password must be readable by uid \d+ alone"):
            home.secret("x.password")


def test_endpoints_are_private_and_count_while_their_process_lives(tmp_path: Path) -> None:
    with Home.open({"RLFLEET_HOME": str(tmp_path)}) as home:
        assert read_endpoints(tmp_path) is None
        home.write_endpoints(Endpoints("postgresql://u:secret@h/d", "redis://:secret@h/0"))
        assert read_endpoints(tmp_path) == Endpoints("postgresql://u:secret@h/d", "redis://:secret@h/0")
        assert "secret" not in repr(read_endpoints(tmp_path))
        assert _mode(tmp_path / "endpoints.json") == 0o600
        gone = subprocess.Popen(["true"])
        gone.wait()
        text = (tmp_path / "endpoints.json").read_text()
        (tmp_path / "endpoints.json").write_text(text.replace(f'"pid": {os.getpid()}', f'"pid": {gone.pid}'))
        assert read_endpoints(tmp_path) is None


def test_only_the_lock_says_that_a_fleet_runs(tmp_path: Path) -> None:
    environ = {"RLFLEET_HOME": str(tmp_path)}
    assert holder(environ) is None
    with Home.open(environ) as home:
        home.write_endpoints(Endpoints("postgresql://u@h/d", "redis://h/0"))
        assert holder(environ) == os.getpid()
        assert read_endpoints(tmp_path) is not None
    # What a crash leaves, whose pid another process (here: this one) has by now.
    assert (tmp_path / "endpoints.json").exists()
    assert (tmp_path / ".lock").read_text() == str(os.getpid())
    assert holder(environ) is None
    assert read_endpoints(tmp_path) is None


def test_an_unusable_home_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StartError, match=r"file/home cannot be used \(File exists\): set RLFLEET_HOME"):
        Home.open({"RLFLEET_HOME": str(tmp_path / "file" / "home")})


def test_a_folder_that_its_account_cannot_reach_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with Home.open({"RLFLEET_HOME": str(tmp_path / "home")}) as home:
        stranger = Account("stranger", 54321, 54321, switch=False)
        with pytest.raises(StartError, match=r"stranger cannot enter .*: set RLFLEET_HOME"):
            home.folder("pg", stranger)
    assert _mode(tmp_path) == 0o700


def test_a_folder_of_another_account_is_refused(folder: Path) -> None:
    with Home.open({"RLFLEET_HOME": str(folder)}) as home:
        home.path.chmod(0o711)
        (folder / "pg").mkdir()
        with pytest.raises(StartError, match=rf"belongs to uid {os.geteuid()}.*chown -R 54321:54321"):
            home.folder("pg", Account("stranger", 54321, 54321, switch=False))


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    full = home_module.cannot_use(tmp_path, OSError(28, "No space left on device"))
    assert str(full).startswith(f"there is no room left on the disk that holds {tmp_path} (")
