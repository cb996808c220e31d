"""Which engines are asked, and in what order."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from db import engines
from db.session import transaction


@pytest.fixture
def session(database: str) -> Iterator[Session]:
    with transaction() as session:
        session.execute(text("delete from rlfleet.engines"))
        yield session


def announce(session: Session, *names: str) -> None:
    """In that order, a second apart, each on the loopback of its own host."""
    for number, name in enumerate(names):
        engines.announce(session, name, f"http://127.0.0.1:{9000 + number}/", "cpu", 1)
        session.execute(
            text("update rlfleet.engines set seen_at = now() + make_interval(secs => :n) where name = :name"),
            {"n": number, "name": name},
        )


def test_the_newest_comes_first(session: Session) -> None:
    announce(session, "there/gpu0", "there/gpu1")
    assert engines.known(session) == [
        engines.Address("there/gpu1", "http://127.0.0.1:9001"),
        engines.Address("there/gpu0", "http://127.0.0.1:9000"),
    ]


def test_engines_on_the_loopback_of_other_hosts_are_out_of_reach(session: Session) -> None:
    here = socket.gethostname()
    announce(session, f"{here}/gpu0", f"{here}/gpu1", "b/gpu0", f"{here}2/gpu0", "c/gpu0")
    assert [one.name for one in engines.known(session)] == ["c/gpu0", f"{here}2/gpu0", "b/gpu0"]
    assert [one.name for one in engines.reachable(session)] == [f"{here}/gpu1", f"{here}/gpu0"]
    assert [one.name for one in engines.reachable(session, 1)] == [f"{here}/gpu1"]


@pytest.mark.parametrize(
    ("url", "is_reachable"),
    [
        ("http://127.0.0.1:8000", False),
        ("http://127.1.2.3", False),
        ("https://localhost:8000", False),
        ("http://localhost", False),
        ("http://[::1]:8000", False),
        ("http://10.0.0.5:8000", True),
        ("http://localhost.example:8000", True),
        ("http://gpu1/127.0.0.1", True),
    ],
)
def test_what_leads_to_whoever_asks_is_of_no_use_elsewhere(session: Session, url: str, is_reachable: bool) -> None:
    engines.announce(session, "there/gpu0", url, "cpu", 1)
    assert bool(engines.reachable(session)) == is_reachable
    engines.announce(session, "by-hand", url, "cpu", 1)
    assert "by-hand" in [one.name for one in engines.reachable(session)], "a person knows where it is"


def test_a_row_that_lies_in_the_future_stays_first(session: Session) -> None:
    here = socket.gethostname()
    announce(session, f"{here}/gpu0", f"{here}/gpu1", f"{here}/gpu2")
    engines.announce(session, "vllm", "http://10.0.0.5:8000", "gpu", 0)
    session.execute(text("update rlfleet.engines set seen_at = now() + interval '10 years' where name = 'vllm'"))
    assert [one.name for one in engines.reachable(session)] == ["vllm", f"{here}/gpu2", f"{here}/gpu1"]
