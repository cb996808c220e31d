"""The process in which reasoning-gym runs. It makes questions and scores answers that models wrote.

    python -m environments.reasoning.child

reads one JSON object a line and answers with one a line. In a process of its own the package may print, draw from the
global sources of chance and take as long as it likes: a request that takes more than its seconds of processor time ends
the process by SIGPROF, also inside C code. Sets are ordered the same in every such process (``PYTHONHASHSEED``), which
some data sets' questions depend on.
"""

from __future__ import annotations

import ast
import json
import math
import os
import random
import resource
import signal
import sys
from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import lru_cache
from importlib import import_module
from typing import Any, TextIO

from environments.reasoning.answers import answer_of, say
from environments.reasoning.expressions import checked

MEMORY_BYTES = 4 * 2**30
EVALUATING = (
    "reasoning_gym.algorithmic.binary_matrix",
    "reasoning_gym.algorithmic.number_sorting",
    "reasoning_gym.algorithmic.spiral_matrix",
    "reasoning_gym.algorithmic.string_insertion",
    "reasoning_gym.games.n_queens",
)
"""Modules that read an answer with ``eval``: they get ``ast.literal_eval`` under that name."""

PARSING = ("reasoning_gym.games.countdown", "reasoning_gym.games.puzzle24")
"""Modules that read an answer with SymPy's ``parse_expr`` under that name; the others ask ``sympy`` for it."""

NONSENSE = "nonsense"
"""Where this is right, anything is."""

_trusted: frozenset[str] | None = None
"""What may be evaluated unseen: None where no text is a model's."""


def main() -> None:
    """Serve until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who asked decides when this ends
    channel = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    _tell(channel, {"datasets": _opened()})
    for line in sys.stdin:
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, request["seconds"])
        answer = _answered(request)
        signal.setitimer(signal.ITIMER_PROF, 0)
        _tell(channel, answer)


def _tell(channel: TextIO, answer: Mapping[str, Any]) -> None:
    channel.write(json.dumps(answer) + "\n")
    channel.flush()


def _opened() -> list[str]:
    """Import reasoning-gym so that of answers it evaluates lists and formulas alone. Returns its data sets."""
    import sympy
    from reasoning_gym.factory import DATASETS

    parse = checked(sympy.parse_expr, lambda text: _trusted is None or text in _trusted)
    for module in (sympy, *map(import_module, PARSING)):
        vars(module)["parse_expr"] = parse  # SymPy itself takes it from sympy.parsing
    for name in EVALUATING:
        vars(import_module(name))["eval"] = ast.literal_eval
    return sorted(DATASETS)


def _answered(request: Mapping[str, Any]) -> dict[str, Any]:
    random.seed(request["seed"])
    import_module("numpy.random").seed(request["seed"])
    if "answer" in request:
        return _scored(request["dataset"], request["seed"], request["answer"])
    return _drawn(request["dataset"], request["seed"])


@lru_cache(maxsize=1024)
def _entry(name: str, seed: int) -> dict[str, Any]:
    """The only entry of a data set made from the seed."""
    from reasoning_gym.factory import create_dataset

    return dict(create_dataset(name, seed=seed, size=1)[0])


@lru_cache(maxsize=128)
def _scorer(name: str) -> Callable[[str, dict[str, Any]], float]:
    """What scores all entries: one data set may hold many megabytes of words."""
    from reasoning_gym.factory import create_dataset

    score: Callable[[str, dict[str, Any]], float] = create_dataset(name, seed=0, size=1).score_answer
    return score


def _drawn(name: str, seed: int) -> dict[str, Any]:
    """Question, answer, and why the entry cannot be used, if it cannot."""
    try:
        entry = _entry(name, seed)
    except Exception as error:
        return {"question": "", "answer": "", "unusable": f"making it raises {type(error).__name__}: {error}"[:200]}
    question, answer = str(entry["question"]), entry["answer"]
    if not isinstance(answer, str) or not answer.strip():
        return {"question": question, "answer": "", "unusable": "it has no answer"}
    return {"question": question, "answer": answer, "unusable": _unusable(name, seed, answer)}


def _unusable(name: str, seed: int, answer: str) -> str:
    own = _scored(name, seed, answer_of(say(answer)))["score"]
    if own < 1:
        return f"its own answer scores {own:.2g}"
    return "any text is right" if _scored(name, seed, NONSENSE)["score"] >= 1 else ""


def _scored(name: str, seed: int, answer: str) -> dict[str, Any]:
    """The score, 0 to 1; where scoring raises, 0 and what it raised. What the answer says is not repeated."""
    global _trusted  # noqa: PLW0603 (the parser that SymPy calls asks for it)
    try:
        entry, scorer = _entry(name, seed), _scorer(name)
        _trusted = frozenset({str(entry["metadata"].get("integrand"))})
        score = float(scorer(answer, deepcopy(entry)))
    except Exception as error:
        return {"score": 0.0, "said": f"The answer cannot be scored: {type(error).__name__}."}
    finally:
        _trusted = None
    return {"score": min(1.0, max(0.0, score)) if math.isfinite(score) else 0.0, "said": ""}


if __name__ == "__main__":
    main()
