"""The processes of a fleet on one machine: what `rlfleet up` and the demo start, and what a container runs."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fleet.home import Endpoints, Home
from fleet.ports import free_port, is_free
from fleet.process import Process
from fleet.settings import FleetSettings
from rl.errors import StartError

ADMIN_PORT = 8400
STOP_SLACK_SECONDS = 15.0
"""What a worker or the gateway needs besides its drain before its process group is killed."""

ROOT = Path(__file__).resolve().parent.parent
"""Where the packages lie; every process starts here, so that an uninstalled checkout works too."""


@dataclass(frozen=True)
class Plan:
    """What is started where: the environment that all processes share, the devices, and the addresses."""

    environ: Mapping[str, str]
    devices: tuple[str, ...]
    gateway_url: str
    flower_url: str
    state: Path
    drain_seconds: float = 30.0
    admin_url: str = f"http://127.0.0.1:{ADMIN_PORT}"

    def lines(self) -> list[str]:
        """The device plan, for people."""
        return [f"{device or 'cpu'}=serve+train" for device in self.devices]

    def device_uuids(self) -> dict[str, str]:
        """The UUID of each GPU, by the name that its worker gives it; nothing of a CPU."""
        return {name: uuid for number, device in enumerate(self.devices) for name, uuid in _gpus(number, device)}


def devices(environ: Mapping[str, str]) -> tuple[str, ...]:
    """``RLFLEET_DEVICES``, or the UUID of every NVIDIA GPU, or ``cpu``; ``+`` joins those that one worker owns."""
    named = FleetSettings.read(environ).devices
    if named:
        return tuple(part.strip() for part in named.split(",") if part.strip())
    if shutil.which("nvidia-smi") is None:
        return ("cpu",)
    listed = subprocess.run(
        ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        check=False,
    )
    return tuple(line.strip() for line in listed.stdout.splitlines() if line.strip()) or ("cpu",)


def plan(home: Home, endpoints: Endpoints, environ: Mapping[str, str]) -> Plan:
    """Everything that the processes need to know.

    Raises:
        StartError: a port is taken.
    """
    here = FleetSettings.read(environ)
    ports = {"gateway": here.gateway_port, "flower": here.flower_port, "admin": _admin_port(here)}
    for name, port in ports.items():
        _check_free(f"RLFLEET_{name.upper()}_PORT", port)
    gateway, flower, admin = (f"http://127.0.0.1:{port}" for port in ports.values())
    shared = dict(environ) | {
        "DATABASE_URL": endpoints.database_url,
        "REDIS_URL": endpoints.redis_url,
        "RLFLEET_STATE": str(home.path),
        "RLFLEET_ARTIFACTS": environ.get("RLFLEET_ARTIFACTS") or str(home.path / "artifacts"),
        "RLFLEET_GATEWAY_URL": gateway,
        "RLFLEET_FLOWER_URL": flower,
        "RLFLEET_GATEWAY_KEY": own_key(environ),
        "RLFLEET_DEVICE": "",  # only GPU workers have one; an exported one would reach the others too
        "RLFLEET_ENGINE_KEY": home.secret("engine.key"),
        "FLOWER_BASIC_AUTH": f"rlfleet:{home.secret('flower.password')}",
        "OMP_NUM_THREADS": environ.get("OMP_NUM_THREADS") or "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
    }
    return Plan(shared, devices(environ), gateway, flower, home.path, here.drain_seconds, admin)


def _admin_port(here: FleetSettings) -> int:
    """The one that is set; else the usual one, or a free one: people read where it is, and no program is told of it."""
    return here.admin_port or (ADMIN_PORT if is_free(ADMIN_PORT) else free_port())


TASKS_PER_CHILD = {"collect": 1_000, "score": 1_000, "maint": 100_000}
"""Pool processes of CPU work are replaced after so many tasks, because libraries leak; a GPU worker's owns the child.

That of ``maint`` has small tasks, 32 a minute with two beats, and what it copies elsewhere in the background, for hours
where that is large, ends with it.
"""


def own_key(environ: Mapping[str, str]) -> str:
    """The key that our own agents show: the one that is set, else the first that the gateway takes."""
    taken = (key.strip() for key in environ.get("RLFLEET_GATEWAY_KEYS", "").split(","))
    return environ.get("RLFLEET_GATEWAY_KEY") or next(filter(None, taken), "")


def processes(chosen: Plan) -> list[Process]:
    """CPU workers, a GPU worker for each device, two beats, Flower, gateway and admin, in the order of starting."""
    gpu = [_gpu_worker(chosen, number, device) for number, device in enumerate(chosen.devices)]
    cpu = [_worker(chosen, queue, queue, f"--max-tasks-per-child={tasks}") for queue, tasks in TASKS_PER_CHILD.items()]
    beats = [_beat(chosen, number) for number in (1, 2)]
    return [*gpu, _gateway(chosen), *cpu, *beats, _flower(chosen), _admin(chosen)]


def _celery(chosen: Plan, name: str, *words: str, env: Mapping[str, str] | None = None) -> Process:
    argv = [sys.executable, "-m", "celery", "-A", "worker.app", *words]
    stop_timeout = chosen.drain_seconds + STOP_SLACK_SECONDS
    return Process(name, argv, dict(chosen.environ) | dict(env or {}), stop_timeout=stop_timeout, cwd=ROOT)


def _worker(chosen: Plan, name: str, queue: str, *flags: str, env: Mapping[str, str] | None = None) -> Process:
    words = ["worker", "-Q", queue, "-n", f"{name}@%h", "-c", "1", "--include", "worker.lifecycle,tasks"]
    # SIGTERM leads to the soft shutdown, which gives a task its time and then lets it release its job.
    quiet = ["--without-mingle", "--without-gossip", "-l", "INFO"]
    return _celery(chosen, f"worker-{name}", *words, *flags, *quiet, env={"REMAP_SIGTERM": "SIGQUIT", **(env or {})})


def _gpu_worker(chosen: Plan, number: int, device: str) -> Process:
    if device.startswith("cpu"):
        return _worker(chosen, f"gpu{number}", "gpu", env={"RLFLEET_DEVICE": device})
    names, uuids = zip(*_gpus(number, device), strict=True)
    own = {"RLFLEET_DEVICE": "+".join(names), "CUDA_VISIBLE_DEVICES": ",".join(uuids)}
    return _worker(chosen, f"gpu{number}", "gpu", env=own)


def _gpus(number: int, device: str) -> list[tuple[str, str]]:
    """Name and UUID of the GPUs of worker ``number``."""
    uuids = [] if device.startswith("cpu") else device.split("+")
    return [(f"gpu{number}" if len(uuids) == 1 else f"gpu{number}.{place}", uuid) for place, uuid in enumerate(uuids)]


def _beat(chosen: Plan, number: int) -> Process:
    schedule = chosen.state / f"beat-{number}.db"
    return _celery(chosen, f"beat-{number}", "-q", "beat", "-s", str(schedule), "--pidfile=", "-l", "INFO")


def _flower(chosen: Plan) -> Process:
    port = chosen.flower_url.rsplit(":", 1)[1]
    words = ["flower", "--address=127.0.0.1", f"--port={port}", "--persistent=True"]
    words += [f"--db={chosen.state / 'flower.db'}", "--state_save_interval=60000"]
    return _celery(chosen, "flower", *words, f"--read_only={FleetSettings.read(chosen.environ).flower_read_only}")


def _gateway(chosen: Plan) -> Process:
    where = {"RLFLEET_GATEWAY_HOST": "127.0.0.1", "RLFLEET_GATEWAY_PORT": chosen.gateway_url.rsplit(":", 1)[1]}
    stop_timeout = FleetSettings.read(chosen.environ).gateway_drain_seconds + STOP_SLACK_SECONDS
    argv = [sys.executable, "-m", "gateway"]
    return Process("gateway", argv, dict(chosen.environ) | where, stop_timeout=stop_timeout, cwd=ROOT)


def _admin(chosen: Plan) -> Process:
    where = {"RLFLEET_ADMIN_HOST": "127.0.0.1", "RLFLEET_ADMIN_PORT": chosen.admin_url.rsplit(":", 1)[1]}
    # Nothing waits for it: settings that it refuses must not keep the fleet from working.
    return Process("admin", [sys.executable, "-m", "admin"], dict(chosen.environ) | where, cwd=ROOT)


def is_well(url: str) -> Callable[[], bool]:
    """Whether ``url`` answers 200; a health page answers 503 while something is missing."""

    def ask() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - our own loopback addresses
                return bool(answer.status == 200)
        except OSError:
            return False

    return ask


def _check_free(name: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise StartError(
                f"{name} = {port}: the port is taken ({os.strerror(error.errno or 0)}); stop what listens there, "
                f"or set {name} to a free one"
            ) from error
