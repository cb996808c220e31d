"""A version's weights on the Hugging Face Hub: which files, what its card says, and where full weights are merged.

An adapter is sent as the trainer wrote it, but for its config: that names the base's repository, where the one on disk
names a folder. Merging needs torch, and so has a process of its own; its result waits in ``RLFLEET_STATE/publish``
until it is published, so that a run which was killed finds it there.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from backends.settings import hub_settings
from fleet.folders import sha256_of
from fleet.noted import actor
from fleet.publish_rows import HUB_ID, Stored, read
from rl import checkpoint_files
from rl.errors import InvalidInput, Later, PermanentError, StartError
from rl.model_card import written
from worker.bounded import bounded
from worker.crash import crash_point
from worker.settings import settings

if TYPE_CHECKING:
    from backends.hub import Published, Show, Source

CARD = "README.md"
ADAPTER, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
FULL = (
    *("config.json", "generation_config.json", "model*.safetensors", "model.safetensors.index.json", "tokenizer*"),
    *("chat_template.jinja", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt"),
)
"""What loading needs. The optimizer's state and our record, which names folders, stay here."""


@dataclass(frozen=True)
class Wanted:
    """What is asked for. ``base`` is the base's repository where nothing else tells it."""

    version: str
    line: str | None
    repository: str
    base: str | None = None
    private: bool = False
    merged: bool = False
    anything: bool = False
    asked: str | None = None
    """When it was left to the fleet: it is done only while that still waits."""


def publish(wanted: Wanted, show: Show, begins: Callable[[str], None]) -> tuple[str, Published]:
    """Publish a version, and check that the Hub has it. Returns its whole name, and what is there.

    ``begins`` is called with the name before the Hub is asked for any change.

    Raises:
        InvalidInput: the version may not be published, is not to be had here, or the repository is not fit for it.
        InvalidSettings: there is no token.
        Later: another publication goes to the repository, or it waits no more.
        DatabaseUnavailable: the database went away, and with it what keeps others from the repository.
        HubRefused, HubUnavailable: see ``backends.hub``.
        MissingDependency, PermanentError, StartError: the Hub's client is missing, or merging failed; says why.
    """
    from backends.hub import Hub
    from backends.hub_licence import licence_of

    _check_names(wanted)
    here = hub_settings()
    with _alone(wanted, show) as step:
        stored, base, is_adapter = checked(wanted)
        hub = Hub(here.endpoint, here.token.strip())
        licence = licence_of(hub, stored.base if is_adapter else stored.root, base, step)
        begins(stored.version)
        hub.open(wanted.repository, private=wanted.private, show=step)
        card = written(stored.card(wanted.repository, base, licence, is_adapter=is_adapter)).encode()
        with _weights(stored, base, step, is_adapter=is_adapter) as files:
            message = f"{stored.version}, published by rlfleet"
            published = hub.put(wanted.repository, {**files, CARD: card}, message, step)
            _write_down(wanted, stored, published.revision)
            return stored.version, published


@contextmanager
def _alone(wanted: Wanted, show: Show) -> Iterator[Show]:
    """Nobody else publishes to the repository meanwhile. What it gives shows a step, unless the lock was lost."""
    from db import hub_lock, publications
    from db.session import transaction

    with hub_lock.alone(wanted.repository, f"{wanted.version} by {actor()}@{socket.gethostname()}") as look:
        if wanted.asked is not None:
            with transaction() as session:
                if not publications.waits(session, wanted.version, wanted.repository, wanted.asked):
                    raise Later(f"{wanted.version} waits to be published in {wanted.repository} no more")

        def step(doing: str, done: int, total: int) -> None:
            look()
            show(doing, done, total)

        yield step


def _write_down(wanted: Wanted, stored: Stored, revision: str) -> None:
    """What was left to the fleet waits no more before the lock is let go, so that nobody begins it again."""
    from db import publications
    from db.session import transaction

    crash_point("after-put", "mirror")
    if wanted.asked is not None:
        with transaction() as session:
            publications.done(session, stored.made.version.id, wanted.repository, wanted.asked, revision)


def checked(wanted: Wanted) -> tuple[Stored, str | None, bool]:
    """All that can be checked without the Hub. What is published, its base's repository, and whether as an adapter.

    Raises:
        InvalidInput: the version may not be published, is not to be had here, or a name is none.
        StoreUnavailable, StoreRefused: see ``fleet.publish_rows.read``.
    """
    _check_names(wanted)
    stored = read(wanted.version, wanted.line, anything=wanted.anything)
    is_adapter = stored.kind == "adapter" and not wanted.merged
    base = wanted.base or (stored.base_id if is_adapter else stored.root_id)
    if is_adapter and base is None:
        remedy = f"its base is the folder {stored.base}: name the base's repository with --base, or publish it --merged"
        raise InvalidInput("version", stored.version, remedy)
    _check_weights(stored, merges=stored.kind == "adapter" and not is_adapter)
    return stored, base, is_adapter


def _check_names(wanted: Wanted) -> None:
    for name, value in (("hub", wanted.repository), ("base", wanted.base)):
        if value is not None and not HUB_ID.fullmatch(value):
            raise InvalidInput(name, value, "a repository of the Hub is ORG/NAME")


def _check_weights(stored: Stored, *, merges: bool) -> None:
    """Refuse a checkpoint that is no longer what was evaluated, or to merge one whose base is gone."""
    if merges and not stored.base.is_dir():
        raise InvalidInput("version", stored.version, f"its base, the folder {stored.base}, is gone: put it back")
    found = digest(stored.checkpoint)
    if found != stored.sha256:
        remedy = f"its checkpoint {stored.checkpoint} has SHA-256 {found}, it was {stored.sha256}: put the old one back"
        raise InvalidInput("version", stored.version, remedy)


def digest(folder: Path) -> str:
    """The SHA-256 of a checkpoint's folder, as ``gpu.checkpoints.digest`` makes it."""
    names = [path.name for path in folder.iterdir() if checkpoint_files.is_hashed(path.name)]
    return checkpoint_files.digest({name: sha256_of(folder / name) for name in names})


@contextmanager
def _weights(stored: Stored, base: str | None, show: Show, *, is_adapter: bool) -> Iterator[Mapping[str, Source]]:
    """The files of the weights, by their path in the repository."""
    if is_adapter:
        config = json.loads((stored.checkpoint / ADAPTER_CONFIG).read_text())
        config["base_model_name_or_path"] = base
        told = json.dumps(config, indent=2, sort_keys=True) + "\n"
        yield {ADAPTER: stored.checkpoint / ADAPTER, ADAPTER_CONFIG: told.encode()}
    elif stored.kind == "full":
        yield _full(stored.checkpoint)
    else:
        with _merged(stored, show) as folder:
            yield _full(folder)


def _full(folder: Path) -> dict[str, Path]:
    found = {one.name: one for one in folder.iterdir() if any(fnmatch(one.name, pattern) for pattern in FULL)}
    if not any(name.endswith(".safetensors") for name in found):
        raise PermanentError(f"{folder} has no weights as model*.safetensors: there is nothing to publish")
    return found


@contextmanager
def _merged(stored: Stored, show: Show) -> Iterator[Path]:
    """The folder of the merged weights, made unless an earlier run left it; it is removed once all is done.

    The child holds the lock too: one whose parent was killed is not joined by another. What lies there unfinished is
    of one that was killed itself.
    """
    folder = settings().state.absolute() / "publish" / stored.sha256[:16]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartError(f"{stored.version} is being merged already; wait until that has ended") from None
        for unfinished in folder.parent.glob(f".{folder.name}.*.writing"):
            shutil.rmtree(unfinished)
        if not folder.is_dir():
            show("merging", 0, 0)
            _merge(stored, folder, lock.fileno())
        yield folder
        shutil.rmtree(folder)


def _merge(stored: Stored, folder: Path, lock: int) -> None:
    argv = bounded(0, "-m", "gpu.merge", "--adapter", str(stored.checkpoint), "--base", str(stored.base))
    argv += ["--out", str(folder), "--sha256", stored.sha256]
    argv += ["--base-sha256", stored.base_sha256] if stored.base_sha256 else []
    environ = {name: value for name, value in os.environ.items() if name not in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")}
    done = subprocess.run(
        argv, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False, pass_fds=(lock,)
    )
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        if "No module named" in said:
            raise StartError(f"{said}: merging needs torch; install rlfleet[gpu]")
        raise PermanentError(f"merging {stored.version} exited with {done.returncode}: {said}")
