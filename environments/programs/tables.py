# ruff: noqa: D103 - what a family's program does is what its statement says
"""Programs that are short with dynamic programming."""

from __future__ import annotations

from random import Random

from environments.programs.family import Made, fill, row, rows, whole, word


def ways_to_pay(chance: Random) -> Made:
    coins = sorted({1, *chance.sample(range(2, 13), 3)})
    statement = (
        f"Coins are worth {', '.join(map(str, coins))}, as many of each as one likes. Read an amount n from 1 to 60. "
        "Print in how many ways it can be paid (the order of coins does not matter), and the least number of coins for "
        "it."
    )
    program = """
        n = int(input())
        w = [1] + [0] * n
        f = [0] + [10 ** 9] * n
        for c in $coins:
            for x in range(c, n + 1):
                w[x] += w[x - c]
                f[x] = min(f[x], f[x - c] + 1)
        print(w[n], f[n])
    """
    return Made(statement, fill(program, coins=coins), whole(1, 60))


def climbing(chance: Random) -> Made:
    gap, down = chance.randint(1, 4), chance.random() < 0.5
    way = "smaller" if down else "larger"
    statement = (
        f"Read integers on one line. Leave some out so that each of the others is {way} than the one before it by at "
        f"least {gap}. Print how many can stay at most, and the largest sum of integers that can stay (which may be "
        "fewer of them)."
    )
    program = """
        a = list(map(int, input().split()))
        n, s = [], []
        for i, x in enumerate(a):
            ok = [j for j in range(i) if $test]
            n.append(1 + max([n[j] for j in ok], default=0))
            s.append(x + max([s[j] for j in ok], default=0))
        print(max(n), max(s))
    """
    test = f"a[j] - x >= {gap}" if down else f"x - a[j] >= {gap}"
    return Made(statement, fill(program, test=test), rows((5, 9), (1, 30)))


def packed(chance: Random) -> Made:
    room, add = chance.randint(10, 25), chance.randint(0, 5)
    statement = (
        f"Read n, then n lines with the weight and the value of a thing. Put things into a bag that holds a weight of "
        f"{room} at most, each at most once"
        f"{f'; every thing in it adds {add} to the value besides' if add else ''}. Print the largest value of a bag, "
        "and the least weight with which it is reached."
    )
    program = """
        best = {0: 0}
        for _ in range(int(input())):
            w, v = map(int, input().split())
            for x, y in list(best.items()):
                if x + w <= $room:
                    best[x + w] = max(best.get(x + w, 0), y + v + $add)
        top = max(best.values())
        print(top, min(x for x in best if best[x] == top))
    """

    def give(chance: Random) -> str:
        things = [f"{chance.randint(2, 12)} {chance.randint(1, 30)}\n" for _ in range(chance.randint(3, 6))]
        return f"{len(things)}\n{''.join(things)}"

    return Made(statement, fill(program, room=room, add=add), give)


def edited(chance: Random) -> Made:
    put, drop, change = chance.randint(1, 4), chance.randint(1, 4), chance.randint(1, 6)
    statement = (
        f"Read two words, each on a line. Putting a letter anywhere into the first costs {put}, taking one out costs "
        f"{drop}, replacing one by another costs {change}. Print the least cost of turning the first word into the "
        "second, and on a second line that of turning the second into the first."
    )
    program = """
        def f(a, b):
            d = [j * $put for j in range(len(b) + 1)]
            for x in a:
                e = [d[0] + $drop]
                for j, y in enumerate(b):
                    e.append(min(d[j] + (x != y) * $change, d[j + 1] + $drop, e[j] + $put))
                d = e
            return d[-1]
        a, b = input().strip(), input().strip()
        print(f(a, b))
        print(f(b, a))
    """
    return Made(
        statement,
        fill(program, put=put, drop=drop, change=change),
        lambda chance: f"{word(chance, (3, 7), 'abcde')}\n{word(chance, (3, 7), 'abcde')}\n",
    )


def down_a_triangle(chance: Random) -> Made:
    least, turn = chance.random() < 0.5, chance.randint(0, 5)
    statement = (
        "Read n, then n lines: the i-th has i integers. Go from the first line to the last; a step goes to the integer "
        f"right below, or to the one after that{f', which costs {turn}' if turn else ''}. Print the "
        f"{'smallest' if least else 'largest'} sum of integers on such a way"
        f"{' with the costs ' + ('added' if least else 'taken off') if turn else ''}, and the sum of the last line."
    )
    program = """
        n = int(input())
        d = {0: 0}
        for i in range(n):
            a = list(map(int, input().split()))
            e = {}
            for j, x in d.items():
                for k in ((j, j + 1) if i else (j,)):
                    y = x + a[k] $sign $turn * (k - j)
                    e[k] = $pick(e.get(k, y), y)
            d = e
        print($pick(d.values()), sum(a))
    """

    def give(chance: Random) -> str:
        height = chance.randint(3, 4)
        lines = [row(chance, (count, count), (1, 30)) for count in range(1, height + 1)]
        return f"{height}\n" + "".join(f"{line}\n" for line in lines)

    text = fill(program, turn=turn, sign="+" if least else "-", pick="min" if least else "max")
    return Made(statement, text, give)


def blocked_stairs(chance: Random) -> Made:
    steps = sorted(chance.sample(range(1, 6), 3))
    statement = (
        f"Stairs have n steps. One goes up {steps[0]}, {steps[1]} or {steps[2]} steps at a time, from the ground (0) "
        "to exactly n. Read n, then on a second line the steps that must not be stood on. Print in "
        "how many ways one can go up."
    )
    program = """
        n = int(input())
        bad = set(map(int, input().split()))
        w = [1] + [0] * n
        for x in range(1, n + 1):
            if x not in bad:
                w[x] = sum(w[x - s] for s in $steps if s <= x)
        print(w[n])
    """

    def give(chance: Random) -> str:
        high = chance.randint(6, 18)
        return f"{high}\n{' '.join(map(str, sorted(chance.sample(range(1, high), chance.randint(1, 3)))))}\n"

    return Made(statement, fill(program, steps=steps), give)


def shared_letters(chance: Random) -> Made:
    factor, lengths = chance.randint(2, 9), chance.choice(["sum", "difference"])
    statement = (
        "Read two words, each on a line. Find the longest row of letters that can be got from both by leaving letters "
        f"out. Print {factor} times its length, and then the {lengths} of the two words' lengths"
        f"{' (the first minus the second)' if lengths == 'difference' else ''} plus its length."
    )
    program = """
        a, b = input().strip(), input().strip()
        d = [0] * (len(b) + 1)
        for x in a:
            e = [0]
            for j, y in enumerate(b):
                e.append(d[j] + 1 if x == y else max(e[j], d[j + 1]))
            d = e
        print($factor * d[-1], len(a) $sign len(b) + d[-1])
    """
    return Made(
        statement,
        fill(program, factor=factor, sign="+" if lengths == "sum" else "-"),
        lambda chance: f"{word(chance, (4, 9), 'abc')}\n{word(chance, (4, 9), 'abc')}\n",
    )


FAMILIES = (ways_to_pay, climbing, packed, edited, down_a_triangle, blocked_stairs, shared_letters)
