"""The real Prometheus and promtool of Debian's package ``prometheus``, on the configuration of docker/."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
import pytest
import yaml

Found = TypeVar("Found")
DOCKER = Path(__file__).parents[2] / "docker"
PATIENCE = 120.0
INTERVAL = "2s"
"""Between two scrapes, and between two evaluations of the rules: not so long as in docker/prometheus.yml."""
LISTENING = re.compile(r'msg="Listening on".* address=(\S+)')
NOBODY = "127.0.0.1:9"
"""Where nobody listens."""


def tool(name: str) -> str:
    """The path of ``prometheus`` or ``promtool``; the test is skipped where this machine has none."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"no {name}: apt-get install prometheus")
    return found


def promtool(*words: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """What promtool says, run in docker/."""
    argv = [tool("promtool"), *words]
    return subprocess.run(argv, cwd=DOCKER, input=given, capture_output=True, text=True, check=False)


@dataclass(frozen=True)
class Prometheus:
    """A server that scrapes; ``folder`` has its configuration, and its token in the file ``rlfleet_token``."""

    api: httpx.Client
    folder: Path

    def get(self, path: str, **params: str) -> Any:
        """The data of an answer of its HTTP API."""
        answer = self.api.get(f"/api/v1/{path}", params=params)
        body = answer.json()
        assert (answer.status_code, body["status"]) == (200, "success"), (path, params, body)
        assert not body.get("warnings"), body
        return body["data"]

    def result(self, query: str) -> list[dict[str, Any]]:
        """The series that an expression has now."""
        found: list[dict[str, Any]] = self.get("query", query=query)["result"]
        return found

    def target(self, job: str) -> dict[str, Any]:
        """What it says of the one target of a job: ``health`` and ``lastError`` among others."""
        (found,) = [one for one in self.get("targets")["activeTargets"] if one["labels"]["job"] == job]
        return dict(found)


def wait_until(look: Callable[[], Found | None], seconds: float = PATIENCE) -> Found:
    """What ``look`` returns as soon as that is something."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.1)
    return found


@contextmanager
def scraping(url: str, token: str, folder: Path) -> Iterator[Prometheus]:
    """A Prometheus with our rules that scrapes the admin server at ``url`` as docker/prometheus.yml says, until the
    block ends. It is started with the flags of docker/monitoring.yml, with ``folder`` in place of the container's."""
    moved = {"/etc/prometheus": str(folder), "/run/secrets": str(folder), "=/prometheus": f"={folder}/data"}
    config = _config(url, moved)
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    (folder / "rlfleet_token").write_text(token + "\n")
    shutil.copy(DOCKER / "alerts.yml", folder)
    service = yaml.safe_load((DOCKER / "monitoring.yml").read_text())["services"]["prometheus"]
    argv = [tool("prometheus"), *(_moved(flag, moved) for flag in service["command"])]
    log = folder / "log"
    with log.open("wb") as said:
        process = subprocess.Popen([*argv, "--web.listen-address=127.0.0.1:0"], stderr=said, cwd=folder)
    try:
        address = wait_until(lambda: _address(process, log))
        with httpx.Client(base_url=f"http://{address}", trust_env=False, timeout=PATIENCE) as api:
            wait_until(lambda: api.get("/-/ready").status_code == 200)
            made = Prometheus(api, folder)
            wait_until(lambda: len(made.get("targets")["activeTargets"]) == len(config["scrape_configs"]))
            yield made
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _config(url: str, moved: dict[str, str]) -> dict[str, Any]:
    text = (DOCKER / "prometheus.yml").read_text()
    config: dict[str, Any] = yaml.safe_load(_moved(text, moved | {"admin:8400": urlsplit(url).netloc}))
    config["global"] = dict.fromkeys(config["global"], INTERVAL)
    ours, flower = config["scrape_configs"]
    ours["scrape_timeout"] = INTERVAL
    flower["static_configs"] = [{"targets": [NOBODY]}]
    return config


def _moved(text: str, moved: dict[str, str]) -> str:
    for old, new in moved.items():
        text = text.replace(old, new)
    return text


def _address(process: subprocess.Popen[bytes], log: Path) -> str | None:
    found = LISTENING.search(log.read_text())
    assert process.poll() is None, log.read_text()
    return found and found[1]
