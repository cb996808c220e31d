from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SECRETS = {
    "POSTGRES_PASSWORD": "pw1",
    "REDIS_PASSWORD": "pw2",
    "FLOWER_BASIC_AUTH": "me:pw3",
    "RLFLEET_GATEWAY_KEY": "key4",
}
SERVERS = {"postgres", "valkey"}
WORKERS = {"worker-collect", "worker-score", "worker-maint", "worker-gpu"}
OURS = WORKERS | {"migrate", "beat", "beat-2", "flower", "gateway"}


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


@pytest.mark.parametrize("files", [(), ("docker/gpu.yml",)])
def test_compose_accepts_the_file(tmp_path: Path, files: tuple[str, ...]) -> None:
    run = _config(tmp_path, SECRETS, *files)
    assert run.returncode == 0, run.stderr
    shown = yaml.safe_load(run.stdout)["services"]
    assert set(shown) == SERVERS | OURS
    assert shown["gateway"]["environment"]["DATABASE_URL"] == "postgresql://rlfleet:pw1@postgres:5432/rlfleet"
    assert shown["gateway"]["environment"]["RLFLEET_GATEWAY_KEYS"] == "key4,"
    assert shown["beat"]["environment"]["REDIS_URL"] == "redis://:pw2@valkey:6379/0"


@pytest.mark.parametrize("name", sorted(SECRETS))
def test_no_password_has_a_default(tmp_path: Path, name: str) -> None:
    run = _config(tmp_path, {**SECRETS, name: ""})
    assert run.returncode != 0
    assert "in .env" in run.stderr


def test_every_lasting_process_is_checked_restarted_and_off_the_network() -> None:
    for name, service in _services().items():
        if name != "migrate":
            assert "healthcheck" in service, name
            assert service["restart"] == "unless-stopped", name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name


def test_a_worker_may_finish_its_soft_shutdown() -> None:
    setting = re.search(r"^worker_soft_shutdown_timeout = ([\d.]+)", (ROOT / "worker/config.py").read_text(), re.M)
    assert setting
    services = _services()
    for name in WORKERS:
        assert _seconds(services[name]["stop_grace_period"]) >= float(setting[1]) + 30, name
        assert services[name]["environment"]["REMAP_SIGTERM"] == "SIGQUIT", name


def test_one_worker_consumes_each_queue() -> None:
    services = _services()
    queues = [re.findall(r"-Q (\S+)", services[name]["command"]) for name in sorted(WORKERS)]
    assert queues == [["collect"], ["gpu"], ["maint"], ["score"]]


def test_the_processes_are_started_from_modules_that_exist() -> None:
    commands = [service["command"] for name, service in _services().items() if name in OURS]
    modules = {match for line in commands for match in re.findall(r"-A (\S+)|-m (\S+)", line)}
    assert {name for names in modules for name in names if name} == {"db.migrate", "gateway", "worker.app"}
    for module in (ROOT / name for name in ("db/migrate.py", "gateway/__main__.py", "worker/app.py")):
        assert module.exists(), module
