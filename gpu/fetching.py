"""A checkpoint's folder on this host: a process that knows database and store looks for it, and fetches it.

The engine is told folders by the path that they had where they were trained. The process ends with this one: its
standard input does.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from gpu.checkpoints import base_of
from rl.checkpoint_files import place_of
from rl.errors import EngineUnavailable, InvalidInput

SECONDS = 3600.0
"""The longest wait for a store."""
COMMAND = (sys.executable, "-m", "tasks.stored")


def at_hand(path: str, base: str | None = None) -> str:
    """Where on this host the folder is that is called ``path``; what is no checkpoint of ours is left as it is.

    With ``base``, another folder than the one that it was trained on, that one is not fetched for its own sake.

    Raises:
        InvalidInput: it is not here and cannot be had; says why.
        EngineUnavailable: it cannot be had at the moment.
    """
    if place_of(path) is None or _is_here(Path(path), base is not None):
        return path
    with (
        tempfile.TemporaryFile("w+", errors="replace") as said,
        subprocess.Popen(
            [*COMMAND, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True
        ) as one,
    ):
        assert one.stdout is not None  # noqa: S101 - it is a pipe
        try:
            # Not communicate(): it would end the input, and with it the process. It says a line.
            code = one.wait(SECONDS)
            found = one.stdout.read().strip()
        except subprocess.TimeoutExpired:
            one.kill()
            raise EngineUnavailable(f"{path} was not fetched within {SECONDS:.0f} s") from None
        said.seek(0)
        why = said.read().strip().rpartition("\n")[2]
    if code == 0:
        return found
    if why.partition(":")[0] in ("InvalidInput", "InvalidSettings", "MissingDependency"):
        raise InvalidInput("lora_path", path, f"it is not on this host, and cannot be fetched: {why}")
    raise EngineUnavailable(f"{path} is not on this host, and is not fetched now: {why or f'exit code {code}'}")


def _is_here(folder: Path, has_base: bool) -> bool:
    """Whether the checkpoint is on this host, and the one of ours that it was trained on too, if that is needed."""
    if has_base or not (folder / "adapter_config.json").is_file():
        return folder.is_dir()
    try:
        return bool(base_of(folder))
    except InvalidInput as error:
        return place_of(str(error.value)) is None
    except (OSError, ValueError):  # whoever opens the folder says what is wrong with it
        return True
