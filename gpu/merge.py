"""An adapter and its base as one model: ``python -m gpu.merge --adapter DIR --base DIR --sha256 HASH --out DIR``.

The sums are computed in the base's own data type on a CPU, so the same two folders give the same bytes. What is written
is what any engine loads: config, safetensors and the base's tokenizer.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from gpu import checkpoints
from gpu.settings import checked
from rl.errors import InvalidInput, RlfleetError


def merge(adapter: Path, base: Path, out: Path, sha256: str, base_sha256: str | None = None) -> None:
    """Write the merged weights to ``out``, whole or not at all.

    ``sha256`` and ``base_sha256`` are the hashes of the two folders, as ``checkpoints.digest`` makes them.

    Raises:
        InvalidInput: a folder is not there, is not what its hash says, or gives weights that are not finite.
        DiskFull: there is no room for the result.
    """
    for name, folder, wanted in (("adapter", adapter, sha256), ("base", base, base_sha256)):
        if not folder.is_dir():
            raise InvalidInput(name, str(folder), "there is no such folder; put it back")
        if wanted is not None and (found := checkpoints.digest(folder)) != wanted:
            remedy = f"its SHA-256 is {found}, it was {wanted}: it was changed since; put the old one back"
            raise InvalidInput(name, str(folder), remedy)
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype="auto", local_files_only=True, use_safetensors=True)
    try:
        merged = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise InvalidInput("adapter", str(adapter), f"it cannot be merged: {error}") from error
    with checkpoints.whole(out, "merging an adapter") as writing:
        checkpoints.write_full(writing, merged, base)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m gpu.merge", description=__doc__)
    for name in ("adapter", "base", "out"):
        parser.add_argument(f"--{name}", required=True, type=Path)
    parser.add_argument("--sha256", required=True, help="of the adapter's folder")
    parser.add_argument("--base-sha256", help="of the base's folder")
    args = parser.parse_args()
    try:
        torch.set_num_threads(checked().torch_threads)
        merge(args.adapter, args.base, args.out, args.sha256, args.base_sha256)
    except RlfleetError as error:
        sys.exit(f"gpu.merge: {error}")


if __name__ == "__main__":
    main()
