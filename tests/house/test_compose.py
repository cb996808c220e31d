from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError
from redis.retry import Retry

from fleet.binaries import find_valkey
from worker.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
SECRETS = {
    "POSTGRES_PASSWORD": "pw1",
    "REDIS_PASSWORD": "pw2",
    "FLOWER_BASIC_AUTH": "me:pw3",
    "RLFLEET_GATEWAY_KEY": "key4",
    "RLFLEET_ENGINE_KEY": "key5",
}
SERVERS = {"postgres", "valkey"}
WORKERS = {"worker-collect", "worker-score", "worker-maint", "worker-gpu"}
OURS = WORKERS | {"migrate", "beat", "beat-2", "flower", "gateway", "admin"}


def _client() -> list[str]:
    plugin = ["docker", "compose"]
    if (
        shutil.which("docker")
        and subprocess.run([*plugin, "version"], capture_output=True, check=False).returncode == 0
    ):
        return plugin
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    pytest.skip("no Compose client: apt-get install docker-compose")


def _config(folder: Path, secrets: dict[str, str], *files: str) -> subprocess.CompletedProcess[str]:
    shutil.copy(ROOT / "docker-compose.yml", folder)
    shutil.copytree(ROOT / "docker", folder / "docker", dirs_exist_ok=True)
    (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in secrets.items()))
    chosen = [word for file in ("docker-compose.yml", *files) for word in ("-f", file)]
    argv = [*_client(), *chosen, "config"]
    environ = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(folder)}
    return subprocess.run(argv, cwd=folder, env=environ, capture_output=True, text=True, check=False)


def _services() -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    return services


def _seconds(text: str) -> float:
    return float(text.removesuffix("s"))


@pytest.mark.parametrize("files", [(), ("docker/gpu.yml",), ("docker/sandbox.yml",)])
def test_compose_accepts_the_file(tmp_path: Path, files: tuple[str, ...]) -> None:
    run = _config(tmp_path, SECRETS, *files)
    assert run.returncode == 0, run.stderr
    shown = yaml.safe_load(run.stdout)["services"]
    assert set(shown) == SERVERS | OURS | {"engine-net"}
    assert shown["gateway"]["environment"]["DATABASE_URL"] == "postgresql://rlfleet:pw1@postgres:5432/rlfleet"
    assert shown["gateway"]["environment"]["RLFLEET_GATEWAY_KEYS"] == "key4,"
    assert shown["beat"]["environment"]["REDIS_URL"] == "redis://:pw2@valkey:6379/0"


def test_compose_accepts_prometheus_and_grafana_beside_the_fleet(tmp_path: Path) -> None:
    run = _config(tmp_path, SECRETS, "docker/monitoring.yml")
    assert run.returncode == 0, run.stderr
    shown = yaml.safe_load(run.stdout)["services"]
    assert set(shown) >= SERVERS | OURS | {"prometheus", "grafana"}
    assert str(tmp_path / "docker/alerts.yml") in str(shown["prometheus"]["volumes"])


@pytest.mark.parametrize("name", sorted(SECRETS))
def test_no_password_has_a_default(tmp_path: Path, name: str) -> None:
    run = _config(tmp_path, {**SECRETS, name: ""})
    assert run.returncode != 0
    assert "in .env" in run.stderr


def test_every_lasting_process_is_checked_restarted_and_off_the_network() -> None:
    for name, service in _services().items():
        if name != "migrate":
            assert "healthcheck" in service or service["command"] == "sleep infinity", name
            assert service["restart"] == "unless-stopped", name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name


def test_only_who_plays_environments_may_make_namespaces(tmp_path: Path) -> None:
    shown = yaml.safe_load(_config(tmp_path, SECRETS, "docker/sandbox.yml").stdout)["services"]
    opened = {name for name, service in shown.items() if "seccomp=unconfined" in service.get("security_opt", [])}
    assert opened == {"worker-collect", "worker-gpu"}
    assert not any("security_opt" in service or service.get("privileged") for service in _services().values())


def test_the_gateway_and_the_gpu_worker_share_a_network_that_is_neither_ones() -> None:
    services = _services()
    joined = {name for name, service in services.items() if service.get("network_mode") == "service:engine-net"}
    assert joined == {"gateway", "worker-gpu"}
    assert services["engine-net"]["networks"]["default"]["aliases"] == ["gateway"]
    assert not {"env_file", "environment", "build"} & set(services["engine-net"]), "it is not replaced with ours"


def test_only_the_gpu_worker_owns_a_device(tmp_path: Path) -> None:
    run = _config(tmp_path, SECRETS | {"RLFLEET_DEVICE": "cuda:3"})
    shown = yaml.safe_load(run.stdout)["services"]
    owned = {name: service["environment"]["RLFLEET_DEVICE"] for name, service in shown.items() if name in OURS}
    assert {name: device for name, device in owned.items() if device} == {"worker-gpu": "cuda:3"}


def test_the_variable_of_a_source_reaches_those_who_read_it(tmp_path: Path) -> None:
    """One that Compose knows nothing of: a line's source names it."""
    url = "postgresql://reader:pa$word@db.internal:5432/babylon"
    run = _config(tmp_path, SECRETS | {"BABYLON_URL": f"'{url}'"})
    shown = yaml.safe_load(run.stdout)["services"]
    # What is printed can be read again, so that it has each dollar twice.
    read = {shown[name]["environment"]["BABYLON_URL"].replace("$$", "$") for name in WORKERS}
    assert read == {url}


def test_valkey_asks_for_a_password_that_no_command_line_shows(tmp_path: Path) -> None:
    socket = tmp_path / "socket"
    entry_point = tmp_path / "docker-entrypoint.sh"
    valkey = find_valkey(os.environ["PATH"]).path
    entry_point.write_text(f'#!/bin/sh\nshift\nexec {valkey} "$@" --port 0 --unixsocket {socket}\n')
    entry_point.chmod(0o755)
    argv = [word.replace("$$", "$") for word in _services()["valkey"]["command"]]
    environ = {"PATH": f"{tmp_path}:/usr/bin:/bin", "REDISCLI_AUTH": "pw2"}
    with subprocess.Popen(argv, cwd=tmp_path, env=environ, stdout=subprocess.DEVNULL) as server:
        try:
            _await(socket.exists)
            with Redis(unix_socket_path=str(socket), password="pw2") as client:
                settings = client.config_get("appendonly", "appendfsync", "maxmemory-policy", "requirepass")
                pid = client.info("server")["process_id"]
            stranger = Redis(unix_socket_path=str(socket), retry=Retry(NoBackoff(), 0))
            with stranger as client, pytest.raises(AuthenticationError):
                client.ping()
            assert sorted(settings.values()) == ["everysec", "noeviction", "pw2", "yes"]
            assert pid == server.pid, "signals must reach the server, not a shell"
            assert "pw2" not in " ".join(argv) + Path(f"/proc/{pid}/cmdline").read_text()
        finally:
            server.terminate()
    assert server.returncode == 0


def _await(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


def test_a_worker_may_finish_its_soft_shutdown() -> None:
    services, usual = _services(), WorkerSettings.model_fields["drain_seconds"].default
    for name in WORKERS:
        drain = float(services[name]["environment"].get("RLFLEET_DRAIN_SECONDS", usual))
        assert _seconds(services[name]["stop_grace_period"]) >= drain + 30, name
        assert services[name]["environment"]["REMAP_SIGTERM"] == "SIGQUIT", name


def test_one_worker_consumes_each_queue() -> None:
    services = _services()
    queues = [re.findall(r"-Q (\S+)", services[name]["command"]) for name in sorted(WORKERS)]
    assert queues == [["collect"], ["gpu"], ["maint"], ["score"]]


def test_the_processes_are_started_from_modules_that_exist() -> None:
    commands = [service["command"] for name, service in _services().items() if name in OURS]
    modules = {match for line in commands for match in re.findall(r"-A (\S+)|-m (\S+)", line)}
    assert {name for names in modules for name in names if name} == {"admin", "db.migrate", "gateway", "worker.app"}
    for name in ("admin/__main__.py", "db/migrate.py", "gateway/__main__.py", "worker/app.py"):
        assert (ROOT / name).exists(), name


def test_everything_that_the_package_has_is_sent_to_the_builder() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    included = set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"])
    lines = (ROOT / ".dockerignore").read_text().split()
    assert included <= {line.removeprefix("!") for line in lines if line.startswith("!")}
