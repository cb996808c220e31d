"""Where a pipeline is worked on when it need not start a fleet."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from db import engines
from db.session import transaction
from fleet.home import Endpoints, Home, write_private
from fleet.pipeline import place
from fleet.pipeline.place import at_hand, is_there
from rl.errors import StartError
from tests.conftest_database import *  # noqa: F403
from tests.conftest_database import empty


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    """No fleet anywhere."""
    monkeypatch.setenv("RLFLEET_HOME", str(tmp_path))
    for name in ("DATABASE_URL", "REDIS_URL", "RLFLEET_ENGINE_KEY"):
        monkeypatch.setenv(name, "")  # so that it is put back at the end, whatever the code sets
        monkeypatch.delenv(name)
    return dict(os.environ)


def test_a_fleet_is_there_when_it_runs_or_is_named(environ: dict[str, str]) -> None:
    assert not is_there(environ)
    assert is_there(environ | {"DATABASE_URL": "postgresql://h/d"})
    with Home.open(environ) as home:
        home.write_endpoints(Endpoints("postgresql://h/d", "redis://h/0"))
        assert is_there(environ)
    assert not is_there(environ)


def test_the_fleet_that_runs_here_lends_its_key(environ: dict[str, str], tmp_path: Path) -> None:
    with Home.open(environ) as home:
        home.write_endpoints(Endpoints("postgresql://h/d", "redis://h/0"))
        write_private(tmp_path / "engine.key", "secret")
        with at_hand(environ) as found:
            assert (found.path, found.environ["DATABASE_URL"]) == (tmp_path, "postgresql://h/d")
            assert (os.environ["REDIS_URL"], os.environ["RLFLEET_ENGINE_KEY"]) == ("redis://h/0", "secret")
            found.poll()


def test_half_a_fleet_is_refused(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://h/d")
    with pytest.raises(StartError, match="set DATABASE_URL and REDIS_URL"), at_hand(os.environ):
        pass


def test_an_engine_is_waited_for(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://h/0")
    monkeypatch.setattr(place, "ENGINE_SECONDS", 0.0)
    with transaction() as session:
        empty(session)
    with at_hand(os.environ) as found:
        with pytest.raises(StartError, match="no engine has announced itself"):
            found.wait_for_engine()
        with transaction() as session:
            engines.announce(session, "cpu@here", "http://127.0.0.1:9", "cpu", 1)
        found.wait_for_engine()
