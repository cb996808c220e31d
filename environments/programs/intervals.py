# ruff: noqa: D103 - what a family's program does is what its statement says
"""Programs about stretches of a line of whole numbers."""

from __future__ import annotations

from random import Random

from environments.programs.family import Made, fill

INPUT = "Read n, then n lines 'a b' with a < b, each the stretch from a to b"


def _stretches(chance: Random) -> str:
    lines = []
    for _ in range(chance.randint(3, 6)):
        start = chance.randint(0, 30)
        lines.append(f"{start} {start + chance.randint(1, 9)}\n")
    return f"{len(lines)}\n{''.join(lines)}"


def joined(chance: Random) -> Made:
    gap, sign = chance.randint(0, 4), chance.choice("-:~")
    statement = (
        f"{INPUT}. Join stretches that overlap or have at most {gap} between the end of one and the start of the next. "
        f"Print what comes of it in ascending order, each as 'a{sign}b', separated by spaces."
    )
    program = """
        r = sorted(tuple(map(int, input().split())) for _ in range(int(input())))
        out = [list(r[0])]
        for a, b in r[1:]:
            if a - out[-1][1] <= $gap:
                out[-1][1] = max(out[-1][1], b)
            else:
                out.append([a, b])
        print(*["%d$sign%d" % (a, b) for a, b in out])
    """
    return Made(statement, fill(program, gap=gap, sign=sign), _stretches)


def most_at_once(chance: Random) -> Made:
    before, last = chance.randint(0, 3), chance.random() < 0.5
    grown = f", each made longer by {before} at its end" if before else ""
    statement = (
        f"{INPUT}{grown}. A stretch covers its start and all up to its end, but not the end itself. Print the largest "
        f"number of stretches that cover one whole number, the {'largest' if last else 'smallest'} such number, and "
        "how many whole numbers are covered at all."
    )
    program = """
        c = {}
        for _ in range(int(input())):
            a, b = map(int, input().split())
            for x in range(a, b + $before):
                c[x] = c.get(x, 0) + 1
        m = max(c.values())
        print(m, $pick(x for x in c if c[x] == m), len(c))
    """
    return Made(statement, fill(program, before=before, pick="max" if last else "min"), _stretches)


def free_between(chance: Random) -> Made:
    end, least = chance.randint(40, 60), chance.randint(1, 4)
    statement = (
        f"{INPUT} that is taken, between 0 and {end}. Print the stretches between 0 and {end} that are free and at "
        f"least {least} long, in ascending order, one a line as 'a b', and on a last line their total length."
    )
    program = """
        r = sorted(tuple(map(int, input().split())) for _ in range(int(input())))
        x = t = 0
        for a, b in r + [($end, $end)]:
            if a - x >= $least:
                print(x, a)
                t += a - x
            x = max(x, b)
        print(t)
    """
    return Made(statement, fill(program, end=end, least=least), _stretches)


def chosen_apart(chance: Random) -> Made:
    pause, first = chance.randint(0, 5), chance.randint(0, 4)
    statement = (
        f"{INPUT}. Take stretches one after the other, always the one that ends first among those that start at least "
        f"{pause} after the end of the last one taken (of several the one that starts first); the first one taken must "
        f"start at {first} or later. Print how many are taken and their total length, or '0 0'."
    )
    program = """
        r = sorted((tuple(map(int, input().split())) for _ in range(int(input()))), key=lambda p: (p[1], p[0]))
        x, k, t = $first, 0, 0
        for a, b in r:
            if a >= x:
                k += 1
                t += b - a
                x = b + $pause
        print(k, t)
    """
    return Made(statement, fill(program, pause=pause, first=first), _stretches)


FAMILIES = (joined, most_at_once, free_between, chosen_apart)
