"""Code of a reply is run, and what it left in its variables is told. This file's text runs in the sandbox.

It follows ``functions`` in one namespace. The report is JSON of bounded size, on the descriptor of ``RESULT_FD``; the
code could write there too, and would deceive nobody but who wrote it. The modules json and typing are not imported,
because that takes as long as all the rest.
"""

from __future__ import annotations

import os
from _json import encode_basestring_ascii as quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MOST_TEXT, MOST_IN_ALL, MOST_DEPTH = 4000, 40_000, 6
"""Characters of one text; characters and items of all variables; containers in containers."""
MOST_BYTES = 60_000
WORDS = {None: "null", False: "false", True: "true"}
NUMBERS = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def run_code(code: str, names: dict[str, Any]) -> None:
    """Run code that has ``names``, and report its variables and its error."""
    space = {**names, "__name__": "__main__"}
    error = ""
    try:
        exec(compile(code, "<python>", "exec", dont_inherit=True), space)  # noqa: S102 - this is what it is for
    except SystemExit:
        pass
    except BaseException as raised:
        error = describe(raised)[:MOST_TEXT]
    report = f'{{"variables": {variables(space, names)}, "error": {quoted(error)}}}'
    if len(report) > MOST_BYTES:
        error = f"{error} The variables hold too much to be shown.".strip()
        report = f'{{"variables": {{}}, "error": {quoted(error)}}}'
    os.write(int(os.environ["RESULT_FD"]), report.encode())


def variables(space: dict[str, Any], names: dict[str, Any]) -> str:
    """JSON of what the code assigned, without names that begin with ``_``, functions, classes and modules."""
    hidden, left = {"function", "module", "type"}, [MOST_IN_ALL]
    assigned = {
        name: value
        for name, value in space.items()
        if type(name) is str
        and not name.startswith("_")
        and not (name in names and names[name] is value)
        and type(value).__name__ not in hidden
    }
    return shown(assigned, left)


def shown(value: Any, left: list[int], depth: int = -1) -> str:
    """JSON of a value; the type's name of what JSON does not have, and of what does not fit any more."""
    left[0] -= 1
    kind, fits = type(value), left[0] > 0
    if value is None or kind is bool:
        return WORDS[value]
    if kind is float or (kind is int and abs(value) < 10**15):
        return NUMBERS.get(repr(value), repr(value))
    if fits and kind is str:
        left[0] -= min(len(value), MOST_TEXT)
        whole = len(value) <= MOST_TEXT
        return quoted(value if whole else f"{value[:MOST_TEXT]}... ({len(value)} characters)")
    if fits and depth < MOST_DEPTH and kind in (list, tuple, set, frozenset):
        return f"[{', '.join([shown(item, left, depth + 1) for item in list(value)[: left[0]]])}]"
    if fits and depth < MOST_DEPTH and kind is dict:
        items = list(value.items())[: left[0]]
        pairs = [f"{key(one, left)}: {shown(item, left, depth + 1)}" for one, item in items]
        return f"{{{', '.join(pairs)}}}"
    return quoted(f"<{kind.__name__}>")


def key(value: Any, left: list[int]) -> str:
    """JSON of a dictionary's key, which is a text there."""
    text = shown(value, left, MOST_DEPTH)
    return text if text.startswith('"') else quoted(text)


def describe(error: BaseException) -> str:
    """The error, and the line of the code in which it was."""
    line, trace = getattr(error, "lineno", None), error.__traceback__
    while trace:
        if trace.tb_frame.f_code.co_filename == "<python>":
            line = trace.tb_lineno
        trace = trace.tb_next
    try:
        said = str(error)
    except Exception:
        said = ""
    return f"line {line}: {type(error).__name__}: {said}" if line else f"{type(error).__name__}: {said}"
