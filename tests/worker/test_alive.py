"""What containers and pods ask of a worker is about the worker alone: neither its broker nor its pool decides it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import yaml
from redis import Redis
from redis.backoff import ConstantBackoff
from redis.exceptions import ConnectionError as Refused
from redis.retry import Retry

from fleet.binaries import find_valkey
from fleet.ports import free_port
from tests.tasks.real_worker import worker
from tests.worker.doubles import wait_until
from worker import alive

ROOT = Path(__file__).parents[2]
LONG_AGO = 600.0
PATIENCE = 180.0
"""Seconds after which the probe fails: what holds a worker that lives is shorter."""


def _probe() -> str:
    service = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["worker-score"]
    place: str = service["environment"]["RLFLEET_ALIVE_FILE"]
    return str(service["healthcheck"]["test"][1]).replace(place, '"$FILE"')


def _passes(file: Path) -> bool:
    environ = os.environ | {"FILE": str(file)}
    return subprocess.run(["sh", "-c", _probe()], env=environ, capture_output=True, check=False).returncode == 0


def _forget(file: Path) -> None:
    """Make the file as old as one that nobody touched for ten minutes."""
    os.utime(file, (time.time() - LONG_AGO,) * 2)


def _comes_back(file: Path) -> None:
    _forget(file)
    wait_until(lambda: _passes(file), PATIENCE)


@contextmanager
def _valkey(port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A broker that can be stopped."""
    program = str(find_valkey(os.environ["PATH"]).path)
    with subprocess.Popen([program, "--port", str(port), "--save", ""], stdout=subprocess.DEVNULL) as server:
        try:
            client = Redis(port=port, retry=Retry(ConstantBackoff(0.1), 600, (Refused,)))
            with client:
                client.ping()
            yield server
        finally:
            server.kill()


def _seen(log: Path, text: str, count: int) -> bool:
    return log.read_text().count(text) >= count


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_probe_passes_while_the_broker_is_away_and_fails_when_the_worker_hangs(tmp_path: Path) -> None:
    port, log, file = free_port(), tmp_path / "log", tmp_path / "alive"
    variables = {"REDIS_URL": f"redis://127.0.0.1:{port}/0", "RLFLEET_ALIVE_FILE": str(file)}
    assert not _passes(file), "before the worker starts"
    with _valkey(port) as first, worker(log, "score", **variables) as process:
        assert _passes(file)
        (pool,) = psutil.Process(process.pid).children()
        pool.send_signal(signal.SIGSTOP)
        _comes_back(file)
        pool.send_signal(signal.SIGCONT)

        first.send_signal(signal.SIGSTOP)  # it takes connections and says nothing
        wait_until(lambda: _seen(log, "Timeout reading from", 2), PATIENCE)
        _comes_back(file)
        first.kill()
        first.wait()
        wait_until(lambda: _seen(log, "Connection refused", 2), PATIENCE)
        _comes_back(file)
        with _valkey(port):
            wait_until(lambda: _seen(log, "Connected to redis", 2), PATIENCE)
            _comes_back(file)

            process.send_signal(signal.SIGSTOP)
            wait_until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED, PATIENCE)
            _forget(file)
            assert not _passes(file)
            before = file.stat().st_mtime
            process.send_signal(signal.SIGCONT)
            wait_until(lambda: file.stat().st_mtime > before, PATIENCE)
            assert _passes(file)


def test_no_file_is_touched_unless_one_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RLFLEET_ALIVE_FILE", "")
    alive.say()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_ends_no_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("RLFLEET_ALIVE_FILE", str(tmp_path / "missing" / "alive"))
    alive.say()
    assert "missing/alive cannot be written (No such file or directory)" in caplog.text


def test_the_timer_touches_it_for_as_long_as_the_loop_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLFLEET_ALIVE_FILE", str(tmp_path / "alive"))
    did: list[object] = []
    timer = SimpleNamespace(call_repeatedly=lambda *what: did.append(what) or "entry", cancel=did.append)
    with alive.said_by(timer):
        assert (tmp_path / "alive").exists()
        assert did == [(alive.SECONDS, alive.say)]
    assert did[1:] == ["entry"]
