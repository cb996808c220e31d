"""A real database and a real broker, a line whose source is a file, and children without a model."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
from redis import Redis

from db import settings as db_settings
from db.session import transaction
from rl.records import Call, Message, Trajectory
from rl.windows import parse
from tests.conftest_database import database, database_url, empty, postgres_url
from tests.conftest_redis import broker, point_app_at, redis_url
from tests.worker.doubles import PATIENT, make_child
from worker import settings as worker_settings

__all__ = ["broker", "database", "database_url", "fresh", "make_child", "postgres_url", "redis_url"]

HOUR = "2025-01-15T10:00"


@pytest.fixture(autouse=True)
def _broker_may_be_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller's haste is not what tests in this process are about; one that is away still refuses at once."""
    monkeypatch.setattr("worker.task._timeouts", PATIENT)


@pytest.fixture(autouse=True)
def _settings_read_anew() -> Iterator[None]:
    worker_settings.settings.cache_clear()
    yield
    worker_settings.settings.cache_clear()


@pytest.fixture
def fresh(database: str, broker: Redis) -> str:
    """The URL of the database, every table of it empty, and no message waits."""
    with transaction() as session:
        empty(session)
    broker.flushdb()
    return database


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port on which nobody listens, and nobody else can before the test is over."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.fixture
def broker_away(broker: Redis, redis_url: str, closed_port: int) -> Iterator[None]:
    """The app publishes to where nobody listens."""
    point_app_at(f"redis://:secret@127.0.0.1:{closed_port}/0")
    yield
    point_app_at(redis_url)


@pytest.fixture
def database_away(fresh: str, closed_port: int) -> Callable[[], AbstractContextManager[None]]:
    """While the block runs, the database is where nobody listens."""
    elsewhere = urlunsplit(urlsplit(fresh)._replace(netloc=f"a:b@127.0.0.1:{closed_port}"))

    @contextmanager
    def away() -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DATABASE_URL", elsewhere)
            db_settings.settings.cache_clear()
            yield
        db_settings.settings.cache_clear()

    return away


@pytest.fixture
def logs(tmp_path: Path) -> str:
    """The URL of a source that holds two trajectories, both of ``HOUR``."""
    path = tmp_path / "agent.jsonl"
    path.write_text("".join(trajectory(number).model_dump_json() + "\n" for number in range(2)))
    return f"jsonl://{path}"


def trajectory(number: int) -> Trajectory:
    moment = parse(HOUR).hour
    assert moment is not None
    call = Call(
        call_id=f"t{number}/0",
        turn=0,
        model="another-model",
        messages=[Message(role="user", content="red ball ahead")],
        response=Message(role="assistant", content="forward"),
    )
    return Trajectory(
        trajectory_id=f"t{number}",
        scenario_id="s",
        agent_id="a",
        started_at=moment,
        ended_at=moment,
        reward=float(number),
        calls=[call],
    )
