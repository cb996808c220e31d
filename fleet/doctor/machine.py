"""Ports, disk, memory, devices and the sandbox of this machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from fleet import gpus
from fleet.doctor.finding import Finding, fail, ok, warn
from fleet.home import holder, home_path
from fleet.ports import is_free
from fleet.processes import ADMIN_PORT
from fleet.settings import FleetSettings
from rl.errors import RlfleetError

GIB = 2**30
LEAST_DISK, ENOUGH_DISK = 1 * GIB, 10 * GIB
"""A full disk stops Postgres; a training writes its weights several times."""
LEAST_MEMORY, ENOUGH_MEMORY = 1 * GIB, 4 * GIB
"""About what the processes take before a model is loaded, and with a small one."""
TORCH_SECONDS = 120.0
TORCH = """
import json, torch
devices = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
print(json.dumps({"version": torch.__version__, "cuda": torch.version.cuda, "devices": devices}))
"""


def ports(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Whether those that a fleet would listen on are free, where none runs."""
    if pid := holder(environ):
        yield ok("ports", f"a fleet runs here (pid {pid}) and has them")
        return
    here = FleetSettings.read(environ)
    wanted: dict[str, int | None] = {"gateway": here.gateway_port, "flower": here.flower_port}
    wanted |= {"postgres": here.postgres_port, "redis": here.redis_port, "admin": here.admin_port}
    for name, port in wanted.items():
        variable = f"RLFLEET_{name.upper()}_PORT"
        if port and not is_free(port):
            remedy = f"stop what listens there, or set {variable} to a free one"
            yield fail(f"port {name}", f"{variable} = {port}: it is taken", remedy)
        elif port:
            yield ok(f"port {name}", f"{port} is free")
    if here.admin_port is None:
        free = "is free" if is_free(ADMIN_PORT) else "is taken: `rlfleet up` chooses a free one and prints it"
        yield ok("port admin", f"{ADMIN_PORT} {free}")


def disk(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Room where the home and the artifacts lie, or will."""
    home = home_path(environ)
    artifacts = Path(environ.get("RLFLEET_ARTIFACTS") or home / "artifacts")
    for name, path in {"home": home, "artifacts": artifacts}.items():
        there = next(one for one in (path.absolute(), *path.absolute().parents) if one.exists())
        free = shutil.disk_usage(there).free
        remedy = f"free some, or set {'RLFLEET_HOME' if name == 'home' else 'RLFLEET_ARTIFACTS'} to a larger disk"
        yield _room(f"disk {name}", free, LEAST_DISK, ENOUGH_DISK, f"free for {path}", remedy)


def memory() -> Finding:
    """What processes can still have."""
    free = int(psutil.virtual_memory().available)
    remedy = "stop other programs, or use a larger machine; `rlfleet memory` says what a training takes"
    return _room("memory", free, LEAST_MEMORY, ENOUGH_MEMORY, "free", remedy)


def devices(environ: Mapping[str, str], python: str = sys.executable) -> Iterator[Finding]:
    """GPUs, and whether the build of torch can use them: a child process asks it, as it never enters this one."""
    named = FleetSettings.read(environ).devices or ""
    if named.strip() == "cpu":
        yield ok("gpu", "none is used (RLFLEET_DEVICES=cpu)")
        yield _torch(python, has_gpu=False)
        return
    listed = gpus.ask("name,driver_version,memory.total")
    if listed:
        shown = ", ".join(f"{name} ({total} MiB, driver {driver})" for name, driver, total in listed)
        yield ok("gpu", shown)
    elif shutil.which("nvidia-smi"):
        remedy = "run `nvidia-smi`: it says what is wrong with the driver; RLFLEET_DEVICES=cpu does without"
        yield fail("gpu", "nvidia-smi is there and lists no device", remedy)
    else:
        yield ok("gpu", "none (no nvidia-smi): training and serving use the CPU")
    yield _torch(python, has_gpu=bool(listed))


def _torch(python: str, *, has_gpu: bool) -> Finding:
    argv = [python, "-c", TORCH]
    environ = dict(os.environ) | {"OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=TORCH_SECONDS, check=False, env=environ)
    except subprocess.TimeoutExpired:
        return fail("torch", f"was not imported in {TORCH_SECONDS:.0f} s", "see what the disk or the driver waits for")
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        remedy = "a GPU worker needs it: `pip install -c constraints.txt 'rlfleet[gpu]'`"
        return warn("torch", last, remedy) if "No module named" in last else fail("torch", last, remedy)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    build = f"CUDA {found['cuda']}" if found["cuda"] else "CPU build"
    if has_gpu and not found["devices"]:
        remedy = "install the CUDA build of the same version, for a driver as new as this one"
        return fail("torch", f"{found['version']}, {build}: it sees no GPU though there is one", remedy)
    return ok("torch", f"{found['version']}, {build}, {len(found['devices'])} GPUs")


def sandbox() -> Finding:
    """How code that a model wrote would be held."""
    from environments import sandbox as sandboxes
    from environments.settings import settings

    try:
        level, least = sandboxes.level().value, settings().sandbox
    except RlfleetError as error:
        remedy = "apt-get install bubblewrap, and allow user namespaces (docs/sandbox.md)"
        return warn("sandbox", f"none: code of models is refused ({error})", remedy)
    if level == "rlimits":
        return warn("sandbox", "rlimits alone: for development", "apt-get install bubblewrap (docs/sandbox.md)")
    return ok("sandbox", f"{level} (asked for: at least {least})")


def _room(check: str, free: int, least: int, enough: int, words: str, remedy: str) -> Finding:
    said = f"{free / GIB:.1f} GiB {words}"
    if free < least:
        return fail(check, said, remedy)
    return ok(check, said) if free >= enough else warn(check, said, remedy)
