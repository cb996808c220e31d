"""`rlfleet reproduce`: train a version again from what is stored alone, and compare the hashes of the checkpoints.

The frozen rows, the config with what attempts changed because memory ran out, the parent's checkpoint, the base and
the seed are all that a training reads. Each is checked against its stored hash before anything is trained. An
interrupted version is trained in one go: going on from a saved state changes no byte.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleet import differences
from fleet.differences import Difference, Outcome
from fleet.folders import sha256_of
from rl.errors import ChildLost, InvalidInput, PermanentError, StartError
from rl.objectives import is_on_policy
from rl.protocol import BackendName, CheckpointWritten, Done, Failed, Progress, TrainCommand
from rl.remote import is_remote
from worker.child import Child
from worker.settings import settings

if TYPE_CHECKING:
    from db.versions import Made
    from tasks.frozen import Frozen, Start

Say = Callable[[str], None]
Show = Callable[[Progress], None]


@dataclass(frozen=True)
class Stored:
    """All that the rows say of how a version was trained. Hashes are None where none was stored."""

    made: Made
    frozen: Frozen
    start: Start
    base_sha256: str | None
    adapter_sha256: str | None


def reproduce(name: str, line: str, folder: Path, warn: Say, show: Show) -> Outcome:
    """Train the version called ``name`` again in ``folder``. A short name such as ``v1.0.3`` is one of ``line``.

    ``warn`` is told what differs before the training starts, and ``show`` each step.

    Raises:
        InvalidInput: there is no such version, or what it was trained on is gone or was changed.
        ChildLost, StartError, PermanentError: the training could not be carried out; says why.
    """
    from tasks.stored import here

    started = time.monotonic()
    stored = _read(name, line)
    dataset = _dataset(stored, folder)
    with _device(stored.made.version.manifest.get("environment") or {}) as device:
        found = _compare(stored, device)
        for one in found:
            warn(str(one))
        child = Child(device, folder / "child", settings().child)
        written = _train(_command(stored, dataset), stored.made.checkpoint.step, child, show)
        reproduced = _as_stored(stored, written, device, folder)
    checkpoint = stored.made.checkpoint
    if reproduced != checkpoint.sha256:
        found += differences.of_files(Path(here(checkpoint.uri)), Path(written.path))
    seconds = time.monotonic() - started
    return Outcome(stored.made.version.name, checkpoint.sha256, reproduced, seconds, tuple(found))


def _read(name: str, line: str) -> Stored:
    """The version's rows, and the frozen ones that it was trained on, as they were; its parent's weights on this host.

    Raises:
        InvalidInput: there is no such version, or rows are gone or were changed.
        StoreUnavailable, StoreRefused: weights are not here, and the store does not give them.
    """
    from db import datasets, erasure, lines, versions
    from db.session import transaction
    from tasks import frozen
    from tasks.stored import at_hand

    with transaction() as session:
        if re.fullmatch(r"v\d+\.\d+\.\d+", name):
            name = f"{lines.prefix_of(lines.named(session, line))}-{name}"
        made = versions.made(session, name)
        if is_remote(made.checkpoint.uri):
            remedy = f"a service trained it, which does not give the same bytes again: {made.checkpoint.uri}"
            raise InvalidInput("version", name, remedy)
        if made.dataset is None:
            raise InvalidInput("version", name, "its dataset is gone; restore a backup")
        if reason := erasure.reason_gone(session, made.dataset):
            raise InvalidInput("dataset", made.dataset.id, f"{reason}: {name} cannot be trained again")
        datasets.check(made.dataset, datasets.rows_of(session, made.dataset.id))
        step = made.version.manifest.get("parent_step")
        start = frozen.start_from(session, made.version.base_model, made.parent, made.config, step)
        own = versions.places(session, made.version.line_id)
        kept = frozen.Frozen(made.dataset.id, own, is_on_policy(made.config["objective"]), start.parent)
        base = made.version.manifest.get("base_sha256") or versions.sha256_of(session, start.base)
        adapter = versions.sha256_of(session, start.folder) if start.folder else None
    folder = at_hand(start.folder) if start.folder else None
    return Stored(made, kept, replace(start, base=at_hand(start.base), folder=folder), base, adapter)


def _dataset(stored: Stored, folder: Path) -> Path:
    """Write the file that the child reads, and make sure that it is the one that the version was trained on.

    Raises:
        InvalidInput: calls were removed or changed since.
    """
    from tasks import frozen

    path, sha256 = frozen.write(folder, stored.frozen)
    recorded = stored.made.version.manifest.get("dataset_file")
    if recorded in (None, sha256):
        return path
    original = Path(stored.made.checkpoint.uri).with_name(frozen.DATASET)
    place = None
    if original.is_file() and sha256_of(original) == recorded:
        place = differences.first_other_line(original, path)
    where = f", first in row {place} of {original}" if place else ""
    remedy = f"calls of its trajectories were changed or removed since{where}; restore a backup"
    raise InvalidInput("dataset", stored.made.dataset and stored.made.dataset.id, remedy)


def _command(stored: Stored, dataset: Path) -> TrainCommand:
    """What the child was told; with the token budget that it came to when memory ran out on the way."""
    from tasks import frozen

    version, config = stored.made.version, dict(stored.made.config)
    if differences.lowered(version.manifest):
        config["token_budget"] = version.manifest["token_budget"]
    curated = _curated(stored, dataset.parent, config["ptx"]["source"]) if config.get("ptx") else None
    start, backend = stored.start, _backend(stored)
    return frozen.command_for(version.job_id, version.fence, start, dataset, config, curated=curated, backend=backend)


def _backend(stored: Stored) -> BackendName:
    """What trained the version: our own trainer where its manifest names none."""
    from backends.choose import named

    return named((stored.made.version.manifest.get("backend") or {}).get("used", "local")).name


def _curated(stored: Stored, folder: Path, url: str) -> Path:
    """The rows that were cloned beside the objective: the file that was, or one like it from their source.

    Raises:
        InvalidInput: the file is gone, and its source holds other rows by now.
    """
    from db import versions
    from db.session import transaction
    from tasks import frozen

    manifest = stored.made.version.manifest
    recorded = manifest.get("curated_file")
    original = Path(stored.made.checkpoint.uri).with_name(frozen.CURATED)
    if original.is_file() and sha256_of(original) == recorded:
        return original
    with transaction() as session:
        own = versions.places(session, stored.made.version.line_id)
    written = frozen.curate(folder, url, own, manifest.get("curated_held_out"))
    if recorded not in (None, written.sha256):
        raise InvalidInput("config.ptx.source", url, f"its rows are others by now, and {original} is gone")
    return written.path


def _compare(stored: Stored, device: str) -> list[Difference]:
    """What differs from when the version was trained.

    Raises:
        InvalidInput: the base or the parent is gone, or its contents are others.
        StartError: torch cannot be asked.
    """
    manifest, start = stored.made.version.manifest, stored.start
    wanted = {"base": (start.base, stored.base_sha256)}
    if start.folder:
        wanted["parent"] = (start.folder, stored.adapter_sha256)
    for name, (folder, _) in wanted.items():
        if not Path(folder).is_dir():
            raise InvalidInput(name, folder, "this folder is gone; put it back, or restore a backup")
    here = _ask(device, *(folder for folder, _ in wanted.values()), backend=_backend(stored))
    found = differences.of_environment(manifest.get("environment"), here["environment"])
    found += differences.of_memory(manifest, stored.made.adjust)
    for name, (folder, sha256) in wanted.items():
        actual = here["folders"][folder]
        if sha256 is None:
            found.append(Difference(f"{name}_sha256", None, actual))
        elif actual != sha256:
            remedy = f"its SHA-256 is {actual}, it was {sha256}: it was changed since; put the old one back"
            raise InvalidInput(name, folder, remedy)
    if manifest.get("base", start.base) != start.base:
        found.append(Difference("base", manifest["base"], start.base))
    return found


def _ask(device: str, *folders: str, backend: str = "local") -> dict[str, Any]:
    """What this machine trains with, and the hashes of folders of weights, from a process that has torch."""
    argv = [sys.executable, "-m", "gpu.provenance", "--device", device, "--backend", backend, *folders]
    run = subprocess.run(argv, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        said = run.stderr.strip().splitlines() or ["it said nothing"]
        raise StartError(f"python -m gpu.provenance exited with {run.returncode}: {said[-1]}; install rlfleet[gpu]")
    answer: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return answer


def _train(command: TrainCommand, step: int, child: Child, show: Show) -> CheckpointWritten:
    """Have a child of our own carry out the command; it is gone afterwards. The checkpoint of ``step``, or the last.

    Raises:
        ChildLost: it died or stalled, with the last line of its log.
        OutOfMemory: the kernel killed it because memory ran out.
        PermanentError: it said that the command failed.
    """
    try:
        return _follow(command, step, child, show)
    except ChildLost as error:
        lines = child.log.read_text(errors="replace").strip().splitlines() if child.log.exists() else []
        raise ChildLost(f"{error}, which ends with: {lines[-1]}" if lines else str(error)) from error
    finally:
        child.kill()


def _follow(command: TrainCommand, step: int, child: Child, show: Show) -> CheckpointWritten:
    written: CheckpointWritten | None = None
    moved = time.monotonic()
    for event in child.train(command):
        if event is not None:
            moved = time.monotonic()
        elif time.monotonic() - moved > settings().stall_seconds:
            raise ChildLost(f"no progress for {settings().stall_seconds:.0f} s; see {child.log}")
        if isinstance(event, Progress):
            show(event)
        elif isinstance(event, CheckpointWritten):
            written = event if written is None or written.step != step else written
        elif isinstance(event, Failed):
            raise PermanentError(f"{event.error}: {event.message}")
        elif isinstance(event, Done) and written is not None:
            return written
    raise ChildLost(f"the child ended without a checkpoint; see {child.log}")


def _as_stored(stored: Stored, written: CheckpointWritten, device: str, folder: Path) -> str:
    """The hash of what was written. An adapter names its base, which may lie elsewhere since a restore."""
    base = stored.made.version.manifest.get("base", stored.start.base)
    if written.kind == "full" or base == stored.start.base:
        return written.sha256
    renamed = folder / "renamed"
    shutil.copytree(written.path, renamed, copy_function=os.link)
    config = renamed / "adapter_config.json"
    said = json.loads(config.read_text()) | {"base_model_name_or_path": base}
    config.unlink()  # a link: the one in the checkpoint must stay as it is
    config.write_text(json.dumps(said, indent=1, sort_keys=True))
    sha256 = str(_ask(device, str(renamed))["folders"][str(renamed)])
    shutil.rmtree(renamed)
    return sha256


@contextmanager
def _device(recorded: dict[str, Any]) -> Iterator[str]:
    """The device to train on: this worker's, else a CPU if the version was trained on one, else the first GPU.

    Processes that start meanwhile see that one, and serve nobody: nobody has the key that their engine asks for.
    """
    from fleet import processes

    variables = {"RLFLEET_ENGINE_KEY": secrets.token_urlsafe(24)}
    device = settings().device or "cpu"
    if not settings().device and recorded.get("device") != "cpu":
        first = processes.devices(os.environ)[0].partition("+")[0]
        if first != "cpu":
            device, variables["CUDA_VISIBLE_DEVICES"] = "gpu0", first
    before = {name: os.environ[name] for name in variables if name in os.environ}
    os.environ.update(variables)
    try:
        yield device
    finally:
        for name in variables:
            del os.environ[name]
        os.environ.update(before)
