# ruff: noqa: D103 - what a family's program does is what its statement says
"""Programs of one line, in few words: for small models."""

from __future__ import annotations

from random import Random

from environments.programs.family import LETTERS, Made, whole, word


def _number(rule: str, expression: str, low: int = 1, high: int = 20) -> Made:
    """What becomes of a number n."""
    return Made(f"Read n. Print {rule}.", f"print({expression.replace('n', 'int(input())')})\n", whole(low, high))


def _word(rule: str, expression: str, letters: str = LETTERS) -> Made:
    """What becomes of a word s."""
    text = f"print({expression.replace('$', 'input()')})\n"
    return Made(f"Read a word. Print {rule}.", text, lambda chance: word(chance, (2, 5), letters) + "\n")


def plus(chance: Random) -> Made:
    add = chance.randint(1, 60)
    return _number(f"n + {add}", f"n + {add}")


def minus(chance: Random) -> Made:
    add = chance.randint(1, 60)
    return _number(f"n - {add}", f"n - {add}", 1, 80)


def taken_from(chance: Random) -> Made:
    start = chance.randint(20, 90)
    return _number(f"{start} - n", f"{start} - n")


def times(chance: Random) -> Made:
    factor = chance.randint(2, 20)
    return _number(f"{factor} * n", f"{factor} * n")


def times_plus(chance: Random) -> Made:
    factor, add = chance.randint(2, 9), chance.randint(1, 9)
    return _number(f"{factor} * n + {add}", f"{factor} * n + {add}")


def squared(chance: Random) -> Made:
    add = chance.randint(1, 60)
    return _number(f"n * n + {add}", f"n ** 2 + {add}")


def backwards(chance: Random) -> Made:
    end = word(chance, (1, 2))
    return _word(f"it backwards, then {end}", f'$[::-1] + "{end}"')


def ended(chance: Random) -> Made:
    end = word(chance, (1, 3))
    return _word(f"it, then {end}", f'$ + "{end}"')


def begun(chance: Random) -> Made:
    start = word(chance, (1, 3))
    return _word(f"{start}, then it", f'"{start}" + $')


def capitals(chance: Random) -> Made:
    sign, count = chance.choice("!?.-+*"), chance.randint(1, 3)
    return _word(f"it in capitals, then {sign * count}", f'$.upper() + "{sign * count}"')


def replaced(chance: Random) -> Made:
    old, new = chance.sample("abcdefgh", 2)
    return _word(f"it with {new} for each {old}", f'$.replace("{old}", "{new}")', "abcdefgh")


def cut(chance: Random) -> Made:
    drop, end = chance.randint(1, 2), word(chance, (1, 1))
    what = "its first letter" if drop == 1 else "its first 2 letters"
    return _word(f"it without {what}, then {end}", f'$[{drop}:] + "{end}"')


def repeated(chance: Random) -> Made:
    count, end = chance.randint(2, 4), chance.choice("!?.-+*")
    return _word(f"it {count} times, then {end}", f'$ * {count} + "{end}"')


FAMILIES = (
    plus,
    minus,
    taken_from,
    times,
    times_plus,
    squared,
    backwards,
    ended,
    begun,
    capitals,
    replaced,
    cut,
    repeated,
)
