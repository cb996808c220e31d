# ruff: noqa: D103 - what a family's program does is what its statement says
"""Programs about a list of integers."""

from __future__ import annotations

from random import Random

from environments.programs.family import Made, fill, rows


def weights_in_turn(chance: Random) -> Made:
    weights = [chance.randint(-3, 9) for _ in range(chance.randint(2, 4))]
    statement = (
        f"Read integers on one line. Multiply them by {', '.join(map(str, weights))} in turn, beginning again with "
        f"{weights[0]} when these are used up. Print the sum."
    )
    program = """
        w = $weights
        print(sum(int(x) * w[i % len(w)] for i, x in enumerate(input().split())))
    """
    return Made(statement, fill(program, weights=weights), rows((4, 7), (1, 40)))


def differences(chance: Random) -> Made:
    step, factor = chance.randint(1, 3), chance.randint(1, 4)
    statement = (
        f"Read integers on one line. Print, for each integer that has another {step} place(s) after it, that other one "
        f"minus {factor} times the integer, on one line separated by spaces."
    )
    program = """
        a = [int(x) for x in input().split()]
        print(*[y - $factor * x for x, y in zip(a, a[$step:])])
    """
    return Made(statement, fill(program, step=step, factor=factor), rows((5, 8), (0, 50)))


def by_rest(chance: Random) -> Made:
    modulus, down = chance.randint(3, 12), chance.random() < 0.5
    statement = (
        f"Read integers on one line. Sort them by their rest when divided by {modulus}, the smallest rest first; equal "
        f"rests by value, {'largest' if down else 'smallest'} first. Print them joined by commas, and on a second line "
        "the sum of the first three."
    )
    program = """
        a = sorted(map(int, input().split()), key=lambda x: (x % $modulus, $sign))
        print(",".join(map(str, a)))
        print(sum(a[:3]))
    """
    return Made(statement, fill(program, modulus=modulus, sign="-x" if down else "x"), rows((5, 8), (1, 99)))


def best_window(chance: Random) -> Made:
    width, last = chance.randint(2, 4), chance.random() < 0.5
    statement = (
        f"Read integers on one line. Among all {width} neighbouring ones find those with the largest sum; of several "
        f"the {'last' if last else 'first'}. Print the sum and the place of the window's first integer (places begin "
        "at 0)."
    )
    program = """
        a = list(map(int, input().split()))
        best = None
        for i in range(len(a) - $less):
            t = sum(a[i:i + $width])
            if best is None or t $sign best[0]:
                best = (t, i)
        print(*best)
    """
    return Made(
        statement, fill(program, width=width, less=width - 1, sign=">=" if last else ">"), rows((6, 9), (-20, 40))
    )


def smaller_before(chance: Random) -> Made:
    gap, larger = chance.randint(1, 6), chance.random() < 0.5
    statement = (
        "Read integers on one line. For each print how many of the integers before it are "
        f"{'larger' if larger else 'smaller'} by at least {gap}, on one line separated by spaces; on a second line "
        "print the sum of these numbers times the first integer."
    )
    program = """
        a = list(map(int, input().split()))
        c = [sum($test for y in a[:i]) for i, x in enumerate(a)]
        print(*c)
        print(sum(c) * a[0])
    """
    test = f"y - x >= {gap}" if larger else f"x - y >= {gap}"
    return Made(statement, fill(program, test=test), rows((5, 8), (1, 30)))


def pairs_with_sum(chance: Random) -> Made:
    total = chance.randint(12, 40)
    statement = (
        f"Read integers on one line. Count the pairs of places i < j whose integers add up to at least {total}. Print "
        "the count, and the largest product of such a pair, or 0 if there is none."
    )
    program = """
        a = list(map(int, input().split()))
        p = [x * y for i, x in enumerate(a) for y in a[i + 1:] if x + y >= $total]
        print(len(p), max(p, default=0))
    """
    return Made(statement, fill(program, total=total), rows((4, 7), (1, 25)))


def sums_by_rest(chance: Random) -> Made:
    modulus, factor = chance.randint(2, 6), chance.randint(1, 9)
    statement = (
        f"Read integers on one line. For each rest from 0 to {modulus - 1} that some of them leave when divided by "
        f"{modulus}, print a line with the rest, a colon and {factor} times the sum of those integers. Smallest rest "
        "first."
    )
    program = """
        d = {}
        for x in map(int, input().split()):
            d[x % $modulus] = d.get(x % $modulus, 0) + x
        for r in sorted(d):
            print(str(r) + ":" + str(d[r] * $factor))
    """
    return Made(statement, fill(program, modulus=modulus, factor=factor), rows((4, 8), (1, 60)))


def longest_calm(chance: Random) -> Made:
    step = chance.randint(2, 9)
    statement = (
        f"Read integers on one line. Find the longest stretch in which neighbours differ by at most {step}; of several "
        "the first. Print its length, its sum and its last integer."
    )
    program = """
        a = list(map(int, input().split()))
        best, now = [], []
        for x in a:
            now = now + [x] if now and abs(x - now[-1]) <= $step else [x]
            if len(now) > len(best):
                best = now
        print(len(best), sum(best), best[-1])
    """
    return Made(statement, fill(program, step=step), rows((6, 10), (1, 25)))


FAMILIES = (
    weights_in_turn,
    differences,
    by_rest,
    best_window,
    smaller_before,
    pairs_with_sum,
    sums_by_rest,
    longest_calm,
)
