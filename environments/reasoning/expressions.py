"""What of a model's text reaches ``eval``, as reasoning-gym and SymPy read lists and formulas by evaluating them.

Text is read as a syntax tree first. A list must be a literal; a formula has numbers, names of one letter, the four
operations, powers, and known functions. Neither has a way to a file, an attribute or a name of Python's.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

LONGEST = 2000
"""Characters of a formula."""

LARGEST_EXPONENT = 100

FUNCTIONS = frozenset(
    (
        *("Abs", "acos", "acosh", "acot", "asin", "asinh", "atan", "atanh", "cos", "cosh", "cot", "csc", "exp", "ln"),
        *("log", "sec", "sin", "sinh", "sqrt", "tan", "tanh"),
    )
)
CONSTANTS = frozenset(("pi",))
PARTS = (
    *(ast.Expression, ast.BinOp, ast.UnaryOp, ast.Load, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow),
    *(ast.USub, ast.UAdd),
)


class NoFormula(ValueError):
    """Text that is not evaluated, because it is more than a formula."""


def check(text: str) -> None:
    """Raises ``NoFormula`` where ``text`` is not a formula."""
    if len(text) > LONGEST:
        raise NoFormula(f"longer than {LONGEST} characters")
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise NoFormula("not a formula") from error
    for part in ast.walk(tree):
        if not _belongs(part):
            raise NoFormula(f"a formula has no {type(part).__name__}")
        if isinstance(part, ast.BinOp) and isinstance(part.op, ast.Pow):
            _check_power(part)


def _belongs(part: ast.AST) -> bool:
    if isinstance(part, ast.Constant):
        return type(part.value) in (int, float)
    if isinstance(part, ast.Name):
        return part.id in FUNCTIONS | CONSTANTS or (len(part.id) == 1 and part.id.isascii() and part.id.isalpha())
    if isinstance(part, ast.Call):
        return isinstance(part.func, ast.Name) and part.func.id in FUNCTIONS and not part.keywords
    return isinstance(part, PARTS)


def _check_power(power: ast.BinOp) -> None:
    """Raises ``NoFormula`` where numbers could become so large that nothing else gets done."""
    if _powers(power.right) or _powers(power.left) > 1:
        raise NoFormula("powers of powers")
    numbers = [part.value for part in ast.walk(power.right) if isinstance(part, ast.Constant)]
    if any(isinstance(number, int | float) and number > LARGEST_EXPONENT for number in numbers):
        raise NoFormula(f"an exponent above {LARGEST_EXPONENT}")


def _powers(tree: ast.AST) -> int:
    return sum(isinstance(part, ast.Pow) for part in ast.walk(tree))


def checked(parse: Callable[..., Any], is_trusted: Callable[[str], bool]) -> Callable[..., Any]:
    """SymPy's ``parse_expr``, that evaluates nothing but formulas and what is trusted."""

    def parse_formula(text: str, *arguments: Any, **named: Any) -> Any:
        if not is_trusted(text):
            check(text)
        return parse(text, *arguments, **named)

    return parse_formula
