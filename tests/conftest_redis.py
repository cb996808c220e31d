"""A real Redis-protocol server for tests.

A folder's conftest.py says ``from tests.conftest_redis import broker, redis_url``; its tests ask for ``broker``. The
server is the one in REDIS_URL (its database 15, which is emptied), else an embedded Valkey of our own.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
from redis import Redis

__all__ = ["broker", "redis_url"]


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """The URL of a database that belongs to the tests."""
    if given := os.environ.get("REDIS_URL"):
        yield urlunsplit(urlsplit(given)._replace(path="/15"))
        return
    with _own_valkey() as url:
        yield url


@pytest.fixture(scope="module")
def broker(redis_url: str) -> Iterator[Redis]:
    """An empty database that the Celery app publishes to while the module's tests run."""
    with pytest.MonkeyPatch.context() as patch, Redis.from_url(redis_url, decode_responses=True) as client:
        patch.setenv("REDIS_URL", redis_url)
        point_app_at(redis_url)
        client.flushdb()
        yield client
        client.flushdb()
    point_app_at(redis_url)


def point_app_at(url: str) -> None:
    """The app may have been configured by an earlier module, for another server."""
    from kombu import pools

    from worker import settings
    from worker.app import app

    settings.broker_url.cache_clear()
    app.conf.broker_url, app.conf.broker_use_ssl = settings.broker_tls(url)
    # Closes and forgets them: one that is only closed would be found again by its URL, and refuse.
    pools.reset()  # type: ignore[no-untyped-call]
    app._pool = app.amqp._producer_pool = None


@contextmanager
def _own_valkey() -> Iterator[str]:
    """Valkey alone, as `rlfleet up` starts it, in a folder of its own."""
    from fleet import binaries, valkey
    from fleet.account import server_account
    from fleet.home import Home
    from fleet.ports import free_port
    from fleet.settings import ServerSettings
    from fleet.supervisor import Supervisor

    folder = Path(tempfile.mkdtemp(prefix="rlfleet-test-"))
    folder.chmod(0o711)
    environ = {"PATH": os.environ["PATH"], "RLFLEET_HOME": str(folder / "home")}
    with Home.open(environ) as home:
        account = server_account(ServerSettings.read(environ).run_as)
        program = binaries.reachable(binaries.find_valkey(environ["PATH"]), account, home.path / "dist")
        password, port = home.secret("valkey.password"), free_port()
        supervisor = Supervisor(home)
        try:
            supervisor.start([valkey.process(account, program, home.folder("valkey", account), password, port)])
            yield valkey.url(password, port)
        finally:
            supervisor.stop()
            shutil.rmtree(folder, ignore_errors=True)
