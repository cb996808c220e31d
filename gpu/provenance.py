"""What the bytes of a checkpoint depend on besides its command: versions, threads, the device and torch's switches.

A version's manifest carries it. ``python -m gpu.provenance --device cpu FOLDER ...`` prints this machine's, and the
SHA-256 of each folder of weights, as one JSON object, so that a process without torch can compare both.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import sys
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import get_args

import torch

from gpu import checkpoints
from gpu.device import torch_device
from gpu.settings import checked
from rl.errors import StartError
from rl.protocol import BackendName, TrainCommand

PACKAGES = ("rlfleet", "bitsandbytes", "numpy", "peft", "safetensors", "tokenizers", "torch", "transformers")
OF_TRL = ("accelerate", "datasets", "trl")
"""What else the loop of TRL runs through."""
CODE = ("gpu", "rl")
"""Our own folders that a training runs through."""

Signature = tuple[tuple[str, int, int], ...]


def environment(device: torch.device, backend: BackendName = "local") -> dict[str, str | int]:
    """What this process trains with on ``device``. Equal ones give equal bytes on a CPU.

    ``code`` is a hash of our own sources, since a checkout changes while its version does not.
    """
    found: dict[str, str | int] = {name: _version(name) for name in PACKAGES + (OF_TRL if backend == "trl" else ())}
    found |= {
        "code": _code(Path(__file__).resolve().parent.parent),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "device": device.type,
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "deterministic": int(torch.are_deterministic_algorithms_enabled()),
        "matmul_precision": torch.get_float32_matmul_precision(),
    }
    return found | (_of_cuda(device) if device.type == "cuda" else {"device_name": _cpu_name()})


def recorded(command: TrainCommand, device: torch.device) -> dict[str, object]:
    """What the manifest of ``command`` says of where it was trained, and of the base it was given."""
    return {"environment": environment(device, command.backend), "base_sha256": sha256_of(Path(command.base))}


def sha256_of(folder: Path) -> str:
    """SHA-256 of a folder of weights, as ``checkpoints.digest`` makes it; computed again only when a file changed."""
    files = [(path.name, path.stat()) for path in sorted(folder.iterdir()) if path.is_file()]
    return _digest(folder, tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in files))


@lru_cache(maxsize=8)
def _digest(folder: Path, _: Signature) -> str:
    return checkpoints.digest(folder)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


@lru_cache(maxsize=1)
def _code(root: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(path for folder in CODE for path in (root / folder).rglob("*.py")):
        total.update(f"{path.relative_to(root)}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()[:16]


def _cpu_name() -> str:
    """Its libraries choose their kernels by model, and kernels differ in how they round."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or "unknown")


def _of_cuda(device: torch.device) -> dict[str, str | int]:
    cudnn = torch.backends.cudnn
    return {
        "device_name": torch.cuda.get_device_name(device),
        "cuda": str(torch.version.cuda),
        "cudnn": int(cudnn.version() or 0),  # type: ignore[no-untyped-call]
        "cudnn_deterministic": int(cudnn.deterministic),
        "cudnn_benchmark": int(cudnn.benchmark),
        "cudnn_tf32": int(cudnn.allow_tf32),
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m gpu.provenance", description=__doc__)
    parser.add_argument("--device", required=True, help="as the device's child has it")
    parser.add_argument("--backend", choices=get_args(BackendName), default="local")
    parser.add_argument("folders", nargs="*", type=Path, help="folders of weights")
    args = parser.parse_args()
    try:
        here = checked()  # the child refuses the same variables
    except StartError as error:
        sys.exit(f"gpu.provenance: {error}")
    os.environ.setdefault("OMP_NUM_THREADS", str(here.torch_threads))
    torch.set_num_threads(here.torch_threads)
    folders = {str(folder): checkpoints.digest(folder) for folder in args.folders}
    found = {"schema": 1, "environment": environment(torch_device(args.device), args.backend), "folders": folders}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
