"""Code of a reply at work on a memory: in the sandbox, on a copy that is there for this turn alone.

The copy goes in and comes back through the sandbox's channel. No file of the host is written, so that nothing is left
behind when a worker is killed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import cache
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from environments import sandbox
from environments.sandbox import probe
from environments.sandbox.folder import room_for
from environments.sandbox.launch import Launch

Files = Mapping[bytes, bytes]
"""Path to content; the path of a folder ends in ``/``."""

LIMITS = sandbox.Limits(
    wall_seconds=5, cpu_seconds=3, memory_bytes=256 * 1024**2, output_bytes=65_536, file_bytes=256 * 1024, processes=8
)
MOST_BYTES = LIMITS.folder_bytes // 2
"""Of a memory, in whole blocks for each file: half of what the folder in the sandbox holds."""
MOST_SHOWN = 6000
"""Characters of variables, and of what was printed."""

ENDS = {
    "timeout": f"The code took longer than {LIMITS.wall_seconds:.0f} seconds.",
    "memory": "The code needed too much memory.",
    "output": "The code printed or wrote too much.",
    "killed": "The code was ended by a signal.",
    "error": "The code ended before it could be told what it did.",
}


class Turn(NamedTuple):
    """The memory after the code, and what is told of it."""

    files: Files
    told: str


Runner = Callable[[Files, str], Turn]


@cache
def _library() -> str:
    """The text of both files, with what is said of annotations at the top, as Python wants it."""
    here, future = Path(__file__), "from __future__ import annotations\n"
    texts = [here.with_name(f"{name}.py").read_text(encoding="utf-8") for name in ("functions", "reporting")]
    return "\n".join([future, *(text.replace(future, "") for text in texts)])


def program(code: str) -> str:
    """What runs in the sandbox."""
    functions = (
        "create_file read_file update_file delete_file check_if_file_exists create_dir list_files check_if_dir_exists "
        "get_size go_to_link"
    )
    return f"{_library()}\nrun_code({code!a}, {{name: globals()[name] for name in {functions.split()}}})\n"


def run(files: Files, code: str) -> Turn:
    """Run the code. Where it leaves too much, the memory stays as it was.

    Raises:
        SandboxUnavailable: code cannot be run as safely as is required here.
    """
    with Launch(probe.site(), LIMITS) as launch:
        ran, left = launch.run(program(code).encode(), b"", dict(files))
    after = files if left is None else dict(zip(left[::2], left[1::2], strict=True))
    if kept(after):
        return Turn(after, tell(ran))
    return Turn(files, f"The memory would be larger than {MOST_BYTES} bytes. Nothing is kept.\n{tell(ran)}")


def kept(files: Files) -> bool:
    """Whether it can be taken into a sandbox again: it is small enough, and no path leads out of it."""
    parts = {part for path in files for part in path.removesuffix(b"/").split(b"/")}
    return sum(map(room_for, files.values())) <= MOST_BYTES and not {b"", b".", b".."} & parts


def tell(ran: sandbox.Ran) -> str:
    """The next message: variables, what was printed, and what went wrong."""
    variables, error = reported(ran.result)
    if ran.outcome != "ok" or ran.result is None:
        error = f"{error} {ENDS['error' if ran.outcome == 'ok' else ran.outcome]}".strip()
    lines = [_cut(variables)]
    lines += [f"Printed: {_cut(ran.stdout.rstrip())}"] if ran.stdout.strip() else []
    lines += [f"Error: {_cut(error)}"] if error else []
    return "<result>\n{}\n</result>".format("\n".join(lines)).encode("utf-8", "replace").decode()


def reported(result: str | None) -> tuple[str, str]:
    """Variables, as JSON, and the error that the sandbox reports; whatever else is there, the code itself wrote."""
    try:
        match json.loads(result or ""):
            case {"variables": dict(variables), "error": str(error)}:
                return json.dumps(variables, ensure_ascii=False), error
    except (ValueError, RecursionError):
        pass
    return "{}", "" if result is None else "The code wrote to the result's descriptor."


def _cut(text: str) -> str:
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}... ({len(text)} characters)"


def digest(files: Files) -> str:
    """SHA-256, in hex, of a whole tree."""
    found = hashlib.sha256()
    for part in chain.from_iterable(sorted(files.items())):
        found.update(len(part).to_bytes(8, "big") + part)
    return found.hexdigest()
