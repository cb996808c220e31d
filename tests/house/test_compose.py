from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
import tomllib
from collections.abc import Callable
from itertools import combinations
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
MODEL = {"RLFLEET_VLLM_MODEL": "Qwen/Qwen3-4B"}
OVERLAYS = ("docker/gpu.yml", "docker/sandbox.yml", "docker/monitoring.yml")
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


def _all(folder: Path) -> dict[str, Any]:
    """Every container of all overlays together."""
    services: dict[str, Any] = yaml.safe_load(_config(folder, SECRETS | MODEL, *OVERLAYS).stdout)["services"]
    return services


def _mounts(service: dict[str, Any]) -> dict[str, tuple[str, bool]]:
    """By the place in the container: the volume or file, and whether it is read-only; clients show either form."""
    found = {}
    for one in service["volumes"]:
        if isinstance(one, str):
            source, target, mode = one.split(":")
            found[target] = (source, mode == "ro")
        else:
            found[one["target"]] = (one["source"], one.get("read_only", False))
    return found


def _seconds(text: str) -> float:
    return float(text.removesuffix("s"))


@pytest.mark.parametrize("files", [chosen for count in range(4) for chosen in combinations(OVERLAYS, count)])
def test_compose_accepts_the_file_and_each_set_of_overlays(tmp_path: Path, files: tuple[str, ...]) -> None:
    run = _config(tmp_path, SECRETS | MODEL, *files)
    assert run.returncode == 0, run.stderr
    shown = yaml.safe_load(run.stdout)["services"]
    more = {"docker/gpu.yml": {"vllm"}, "docker/monitoring.yml": {"prometheus", "grafana"}}
    assert set(shown) == (SERVERS | OURS | {"engine-net"}).union(*(more.get(file, set()) for file in files))
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


def test_vllm_has_a_model_or_does_not_start(tmp_path: Path) -> None:
    run = _config(tmp_path, SECRETS, "docker/gpu.yml")
    assert run.returncode != 0
    assert "the base model of your line" in run.stderr


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
    assert all("no-new-privileges:true" in service["security_opt"] for service in shown.values())
    assert not any(word.endswith("=unconfined") for one in _services().values() for word in one["security_opt"])


def test_no_container_is_root_writes_to_its_image_or_has_rights(tmp_path: Path) -> None:
    for name, service in _all(tmp_path).items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert not {"privileged", "cap_add", "pid", "ipc", "userns_mode"} & set(service), name
        assert service["user"].partition(":")[0] not in ("", "0", "root"), name
        assert name == "engine-net" or any(place.startswith("/tmp") for place in service["tmpfs"]), name
        assert name in SERVERS or service["pids_limit"] <= 4096, name


def test_images_are_pinned_and_ours_are_of_this_version(tmp_path: Path) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    images = {name: service["image"] for name, service in _all(tmp_path).items()}
    assert {images[name] for name in OURS} == {f"rlfleet-cpu:{version}", f"rlfleet-gpu:{version}"}
    assert [name for name in OURS if images[name].startswith("rlfleet-gpu")] == ["worker-gpu"]
    assert all(re.search(r":v?\d+\.\d+[^:]*$", image) for image in images.values()), images


def test_the_databases_have_no_way_out_and_vllm_none_to_them(tmp_path: Path) -> None:
    shown = yaml.safe_load(_config(tmp_path, SECRETS | MODEL, *OVERLAYS).stdout)
    assert shown["networks"]["data"]["internal"] is True
    for name, service in shown["services"].items():
        joined = set(service.get("networks") or ({"default"} if "network_mode" not in service else ()))
        assert ("default" not in joined) == (name in SERVERS or "network_mode" in service), name
        assert ("data" in joined) == (name not in {"vllm", "prometheus", "grafana", "gateway", "worker-gpu"}), name


def test_one_gpu_trains_and_vllm_answers_on_the_other(tmp_path: Path) -> None:
    run = _config(tmp_path, SECRETS | MODEL, "docker/gpu.yml")
    shown = yaml.safe_load(run.stdout)["services"]
    devices = {
        name: [one["device_ids"] for one in service["deploy"]["resources"]["reservations"]["devices"]]
        for name, service in shown.items()
        if "deploy" in service
    }
    assert devices == {"worker-gpu": [["0"]], "vllm": [["1"]]}
    assert shown["worker-gpu"]["environment"]["RLFLEET_DEVICE"] == "cuda:0"
    vllm = shown["vllm"]
    assert vllm["environment"]["VLLM_API_KEY"] == "key5"
    assert "key5" not in " ".join(vllm["command"])
    assert vllm["environment"]["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "True"
    most = {word.split("=")[0]: int(word.split("=")[1]) for word in vllm["command"] if "loras" in word}
    assert most["--max-cpu-loras"] >= most["--max-loras"]
    assert {"--enable-lora", "--logprobs-mode=processed_logprobs"} <= set(vllm["command"])
    gateway = shown["gateway"]
    where = gateway["environment"]["RLFLEET_ARTIFACTS"]
    assert _mounts(vllm)[where] == ("artifacts", True), "it finds a checkpoint where the row says, and changes none"
    assert _mounts(gateway)[where] == ("artifacts", False)
    source, is_read_only = _mounts(gateway)[gateway["environment"]["RLFLEET_UPSTREAMS"]]
    assert is_read_only
    assert Path(source).is_file()
    without = yaml.safe_load(_config(tmp_path, SECRETS | MODEL | {"RLFLEET_UPSTREAMS": ""}, "docker/gpu.yml").stdout)
    assert not without["services"]["gateway"]["environment"]["RLFLEET_UPSTREAMS"], "one GPU, and no vLLM"


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


def test_the_overlays_of_the_page_are_taken(tmp_path: Path) -> None:
    blocks = re.findall(r"(?ms)^```yaml\n(.*?)^```$", (ROOT / "docs" / "deployment.md").read_text())
    files = [f"own{number}.yml" for number in range(len(blocks))]
    for file, block in zip(files, blocks, strict=True):
        (tmp_path / file).write_text(block)
    urls = {f"{name}_URL": f"postgresql://{name[0]}@postgres/rlfleet" for name in ("WORKERS", "ADMIN", "GATEWAY")}
    run = _config(tmp_path, SECRETS | urls, *files)
    assert run.returncode == 0, run.stderr
    shown = yaml.safe_load(run.stdout)["services"]
    users = {name: shown[name]["environment"]["DATABASE_URL"].split("/")[2].split("@")[0] for name in OURS}
    own = dict.fromkeys(WORKERS, "W") | {"admin": "A", "gateway": "G"}
    assert users == dict.fromkeys(OURS, "rlfleet:pw1") | own
    upstreams = _mounts(shown["gateway"])[shown["gateway"]["environment"]["RLFLEET_UPSTREAMS"]]
    assert upstreams == (str(tmp_path / "upstreams.toml"), True)
    (secret,) = shown["worker-score"]["secrets"]
    asked = shown["worker-score"]["environment"]["RLFLEET_JUDGE_KEY_FILE"]
    assert asked == f"/run/secrets/{secret if isinstance(secret, str) else secret['source']}"


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
