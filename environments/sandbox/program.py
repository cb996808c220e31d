"""The last part of the launcher: a new process becomes the program. See ``launcher``, whose names it shares."""

from __future__ import annotations

import posix
import sys

LONG = 1 << 63


def open_streams() -> None:
    """Python's own streams, on the descriptors that are the program's."""
    sys.stdin = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115 - for its whole life
    sys.stdout = open(1, "w", encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115


def execute(program: bytes) -> None:
    """The program as ``__main__``; what it raises is shown as the interpreter would, without the launcher's frames."""
    module = type(sys)("__main__")
    sys.modules["__main__"], sys.argv = module, ["program.py"]
    status = 0
    try:
        exec(compile(program, "program.py", "exec", dont_inherit=True), module.__dict__)  # noqa: S102 - what this is for
    except SystemExit as error:
        status = exit_status(error.code)
    except BaseException as error:
        trace = error.__traceback__
        sys.excepthook(type(error), error.with_traceback(trace.tb_next if trace else None), None)
        status = 1
    leave(status)


def exit_status(code: object) -> int:
    """What ``sys.exit(code)`` means; a number that is no C long is -1."""
    if code is None or isinstance(code, int):
        return (code or 0) & 0xFF if code is None or -LONG <= code < LONG else 0xFF
    print(code, file=sys.stderr)  # noqa: T201
    return 1


def leave(status: int) -> None:
    """End as the interpreter does, but without taking every module apart, which takes longer than a short program."""
    if "threading" in sys.modules:
        sys.modules["threading"]._shutdown()
    if "atexit" in sys.modules:
        sys.modules["atexit"]._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        status = status or 120
    posix._exit(status)
