"""The servers of the harness: where they listen."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from redis import Redis

from bench.faults.ground import Ground
from fleet.home import Home
from fleet.watchdog import Watchdog

GONE = "198.18.255.1"


def test_valkey_listens_where_it_was_told_to_when_it_is_started_again() -> None:
    with tempfile.TemporaryDirectory(prefix="rlfleet-ground-") as folder:
        Path(folder).chmod(0o711)  # the servers' account must be able to enter
        _start_again(folder)


def _start_again(folder: str) -> None:
    watchdog = Watchdog()
    try:
        with Home.open({"RLFLEET_HOME": f"{folder}/home", "PATH": os.environ["PATH"]}) as home:
            ground = Ground(home, watchdog)
            try:
                ground.start_postgres()
                ground.start_valkey()
                for address in ("127.0.0.2", GONE):
                    ground.listen(address, "127.0.0.0/8")
                ground.kill_valkey()
                ground.start_valkey()
                there = Redis.from_url(ground.redis_url.replace("127.0.0.1", "127.0.0.2"), socket_timeout=60)
                with there:
                    assert there.ping()
            finally:
                ground.stop()
    finally:
        watchdog.close()
