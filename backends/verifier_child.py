"""The process that calls the user's verifier: questions in on stdin, what it returned out on stdout, JSON a line.

What the function prints goes to stderr. Of its exceptions only the type and the place are told, because their words
may quote a conversation.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1


def main(setting: str, parent: int) -> None:
    """Import the function, say so, and answer until stdin ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    _die_with(parent)
    try:
        function = _named(setting)
    except Exception as error:
        print(json.dumps({"refused": f"cannot be loaded ({type(error).__name__})"}), file=answers)
        return
    print(json.dumps({"ready": True}), file=answers)
    for line in sys.stdin:
        print(_answer(function, json.loads(line)), file=answers)


def _named(setting: str) -> Callable[[Any], object]:
    module, _, name = setting.partition(":")
    found = getattr(importlib.import_module(module), name)
    if not callable(found):
        raise TypeError(setting)
    function: Callable[[Any], object] = found
    return function


def _answer(function: Callable[[Any], object], question: object) -> str:
    try:
        return json.dumps({"returned": function(question)})
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(last.filename).name}:{last.lineno}"
        return json.dumps({"failed": f"it raised {type(error).__name__} ({where})"})


def _die_with(parent: int) -> None:
    """Be killed when the parent dies, also in the middle of a call."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
