"""What `rlfleet up --detach` does before a fleet is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet import detach
from rl.errors import StartError


def test_a_home_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match=r"file/home cannot be used \(Not a directory\): set RLFLEET_HOME"):
        detach.start({"RLFLEET_HOME": str(tmp_path / "file" / "home")}, print)


def test_folders_of_where_it_is_called_are_not_taken_for_our_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server cannot be reached, which our own code says; a stranger's would say something else."""
    for name in ("fleet", "db", "rl"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('a stranger')")
    monkeypatch.chdir(tmp_path)
    environ = {"RLFLEET_HOME": str(tmp_path / "home"), "DATABASE_URL": "postgresql://me@127.0.0.1:9/db"}
    with pytest.raises(StartError, match=r"up\.log says:\n  rlfleet: DATABASE_URL"):
        detach.start(environ, print)
