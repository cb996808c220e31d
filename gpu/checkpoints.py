"""Checkpoint folders: safetensors only, complete or not there at all.

A folder is written under a temporary name, synced to disk and renamed. It holds

* ``model.safetensors`` with ``config.json`` and the tokenizer, or ``adapter_model.safetensors`` with
  ``adapter_config.json``: what any engine can load;
* ``optimizer.safetensors``: Adam's moments and step, from which the next job goes on;
* ``checkpoint.json``: schema, step, kind, base, parent, sha256 and the training config.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from safetensors.torch import load_file, save_file
from torch import Tensor

from gpu.device import named_failures
from rl import checkpoint_files
from rl.checkpoint_files import RECORD, is_hashed
from rl.errors import InvalidInput

OPTIMIZER = "optimizer.safetensors"
TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
)


def write(
    out: Path,
    model: Any,
    step: int,
    base: str,
    parent: str | None,
    config: Mapping[str, object],
    optimizer: Mapping[str, Tensor],
    weights: Mapping[str, Tensor] | None = None,
) -> tuple[Path, Literal["full", "adapter"], str]:
    """Write ``out/step-<step>`` and return its path, its kind and the SHA-256 of its contents.

    ``base`` is where full weights and tokenizer come from. ``weights`` are the model's by name, an adapter's only its
    own, where it does not hold the whole of them. A folder of that name from an attempt before is replaced.

    Raises:
        DiskFull: there was no room; nothing is left behind under the final name.
    """
    final = out / f"step-{step:06d}"
    kind: Literal["full", "adapter"] = "adapter" if hasattr(model, "peft_config") else "full"
    with whole(final, "writing a checkpoint") as writing:
        if kind == "adapter":
            write_adapter(writing, model, base, weights)
        else:
            write_full(writing, model, Path(base), weights)
        save_file(dict(optimizer), writing / OPTIMIZER)
        sha256 = digest(writing)
        record = {"schema": 1, "step": step, "kind": kind, "base": base, "parent": parent, "sha256": sha256}
        (writing / RECORD).write_text(json.dumps({**record, "config": config}, indent=1))
    return final, kind, sha256


@contextlib.contextmanager
def whole(final: Path, doing: str) -> Iterator[Path]:
    """A folder to fill, which becomes ``final`` once it is complete and on disk; one of that name is replaced.

    Raises:
        DiskFull: there was no room while ``doing`` that; nothing is left behind.
    """
    writing = final.with_name(f".{final.name}.{os.getpid()}.writing")
    try:
        with named_failures(doing):
            writing.mkdir(parents=True)
            yield writing
            _sync(writing)
            if final.exists():
                shutil.rmtree(final)
            writing.rename(final)
            _sync_folder(final.parent)
    finally:
        shutil.rmtree(writing, ignore_errors=True)


def write_full(
    folder: Path, model: Any, tokenizer_from: Path | None, weights: Mapping[str, Tensor] | None = None
) -> None:
    """Weights and config of a transformers model into ``folder``, with the tokenizer files of another."""
    model.save_pretrained(folder, state_dict=weights)
    for name in TOKENIZER if tokenizer_from else ():
        source = Path(tokenizer_from or folder) / name
        if source.is_file():
            shutil.copyfile(source, folder / name)


def write_adapter(folder: Path, model: Any, base: str, weights: Mapping[str, Tensor] | None = None) -> None:
    """An adapter in peft's format. Module names are sorted: peft keeps them in a set, and the hash must not vary."""
    from peft import get_peft_model_state_dict

    found = get_peft_model_state_dict(model, state_dict=weights)
    tensors = {name: tensor.detach().contiguous() for name, tensor in found.items()}
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = model.peft_config["default"].to_dict()
    config.update(base_model_name_or_path=base, inference_mode=True)
    plain = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
    (folder / "adapter_config.json").write_text(json.dumps(plain, indent=1, sort_keys=True, default=str))


def read_record(folder: Path) -> dict[str, Any]:
    """What ``checkpoint.json`` says; empty for a folder that another tool wrote."""
    path = folder / RECORD
    return dict(json.loads(path.read_text())) if path.is_file() else {}


def read_optimizer(folder: Path) -> dict[str, Tensor]:
    """Adam's state by name; empty where there is none."""
    path = folder / OPTIMIZER
    return load_file(path) if path.is_file() else {}


def base_of(adapter: Path) -> str:
    """The folder with the full weights that ``adapter`` was trained on.

    Raises:
        InvalidInput: it names none.
    """
    config = json.loads((adapter / "adapter_config.json").read_text())
    # Of the two only the config counts for the hash: what was fetched is what was trained.
    base = config.get("base_model_name_or_path") or read_record(adapter).get("base")
    found = base if base and Path(base).is_dir() else _beside(adapter, str(base))
    if not found:
        raise InvalidInput("base", base, f"{adapter} was trained on a folder that is not here; name the base")
    return str(found)


def _beside(adapter: Path, base: str) -> str | None:
    """The base, a checkpoint of ours, where it lies below the root of ``adapter``; None when it does not."""
    place, root = checkpoint_files.place_of(base), checkpoint_files.place_of(str(adapter.resolve()))
    if place is None or root is None:
        return None
    found = Path(str(adapter.resolve()).removesuffix(root)) / place
    return str(found) if found.is_dir() else None


def digest(folder: Path) -> str:
    """SHA-256 over names and contents of the safetensors, config and tokenizer files, in name order."""
    hashes = {}
    for path in folder.iterdir():
        if is_hashed(path.name):
            with path.open("rb") as file:
                hashes[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return checkpoint_files.digest(hashes)


def _sync(folder: Path) -> None:
    """Make sure that every file, and the folder that names them, is on disk."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
