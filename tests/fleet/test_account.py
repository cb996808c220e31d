from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from fleet.account import Account, server_account
from rl.errors import InvalidSettings


def test_an_ordinary_user_runs_the_servers_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = pwd.getpwnam("nobody")
    monkeypatch.setattr(os, "geteuid", lambda: nobody.pw_uid)
    assert server_account(None) == Account("nobody", nobody.pw_uid, os.getegid(), switch=False)
    assert server_account("nobody") == server_account(None)
    with pytest.raises(InvalidSettings, match="RLFLEET_RUN_AS = 'daemon': only root"):
        server_account("daemon")


def test_a_uid_without_a_name_is_known_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    assert server_account(None).name is None
    assert str(server_account(None)) == "uid 54321"


def test_root_switches_to_an_account_without_rights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert server_account(None).name == "nobody"
    assert server_account("daemon") == Account("daemon", pwd.getpwnam("daemon").pw_uid, 1, switch=True)
    with pytest.raises(InvalidSettings, match="RLFLEET_RUN_AS = 'root': Postgres refuses"):
        server_account("root")
    with pytest.raises(InvalidSettings, match="RLFLEET_RUN_AS = 'no-such-name': there is no such account"):
        server_account("no-such-name")


@pytest.mark.parametrize(
    ("mode", "owner", "group", "other"),
    [(0o700, True, False, False), (0o710, True, True, False), (0o711, True, True, True), (0o011, False, True, True)],
)
def test_reach_is_by_the_first_class_that_matches(
    folder: Path, mode: int, owner: bool, group: bool, other: bool
) -> None:
    inner = folder / "inner"
    inner.mkdir()
    status = inner.stat()
    inner.chmod(mode)
    # The uid of root passes every check, so the file's owner is one that is not.
    uid = status.st_uid or 54321
    if status.st_uid == 0:
        os.chown(inner, uid, status.st_gid)
    assert Account("o", uid, 54322, switch=True).may_enter(inner) is owner
    assert Account("g", 54323, status.st_gid, switch=True).may_enter(inner) is group
    assert Account("x", 54323, 54322, switch=True).may_enter(inner) is other
    inner.chmod(0o700)
