"""Whole-number arithmetic as a shell does it, for ``$((256 * 2))`` in scripts that are read and never run."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping

MOST_DIGITS = 18
"""A shell counts in 64 bits; larger values are not computed."""


def _quotient(one: int, other: int) -> int:
    """Rounded towards zero, as in C."""
    return abs(one) // abs(other) * (1 if (one < 0) == (other < 0) else -1)


OPERATIONS: Mapping[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: lambda one, other: one + other,
    ast.Sub: lambda one, other: one - other,
    ast.Mult: lambda one, other: one * other,
    ast.Div: _quotient,
    ast.Mod: lambda one, other: one - other * _quotient(one, other),
}


def whole(text: str) -> int | None:
    """The value of decimal numbers with ``+ - * / %``, signs and brackets; None for anything else."""
    try:
        return _value(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError, MemoryError):
        return None


def _value(node: ast.expr) -> int:
    match node:
        case ast.Constant(value=int() as number) if not isinstance(number, bool):
            found = number
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATIONS:
            found = OPERATIONS[type(op)](_value(left), _value(right))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            found = -_value(operand)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            found = _value(operand)
        case _:
            raise ValueError(ast.dump(node))
    if abs(found) >= 10**MOST_DIGITS:
        raise ValueError("too large")
    return found
