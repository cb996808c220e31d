"""Where a base model's folder is: on this machine, or fetched from the Hugging Face Hub once."""

from __future__ import annotations

import re
from pathlib import Path

from rl.errors import InvalidInput, MissingDependency, StartError

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
NEITHER = "there is no such folder, and a hub id looks like Qwen/Qwen3-0.6B"
WANTED = ("*.json", "*.safetensors", "*.jinja", "tokenizer.model", "merges.txt", "vocab.*")
"""Files of a model: neither other formats of its weights nor code."""


def folder_of(base: str) -> Path:
    """The folder that ``base`` names, absolute; a hub id's files are fetched into the hub's own cache.

    Raises:
        InvalidInput: it is neither a folder nor a hub id, or the hub has no such model.
        MissingDependency: the hub's client is not installed here.
        StartError: the hub cannot be reached.
    """
    path = Path(base).expanduser()
    if path.is_dir():
        return path.resolve()
    if not HUB_ID.fullmatch(base):
        raise InvalidInput("model.base", base, NEITHER)
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError
    except ModuleNotFoundError:
        raise MissingDependency("huggingface_hub is not installed here; install rlfleet[gpu]") from None
    try:
        return Path(snapshot_download(base, allow_patterns=list(WANTED))).resolve()
    except HFValidationError:
        raise InvalidInput("model.base", base, NEITHER) from None
    except RepositoryNotFoundError:
        raise InvalidInput("model.base", base, "the hub has no such model, or HF_TOKEN may not read it") from None
    except (LocalEntryNotFoundError, OSError) as error:
        said = type(error).__name__
        remedy = "see that this machine reaches it, or name a folder"
        raise StartError(f"model.base = {base}: the hub did not give it ({said}); {remedy}") from error
