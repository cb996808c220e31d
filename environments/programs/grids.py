# ruff: noqa: D103 - what a family's program does is what its statement says
"""Programs about grids of numbers or signs."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from environments.programs.family import Made, fill


def _numbers(height: tuple[int, int], width: tuple[int, int], most: int) -> Callable[[Random], str]:
    def give(chance: Random) -> str:
        across = chance.randint(*width)
        lines = [[str(chance.randint(0, most)) for _ in range(across)] for _ in range(chance.randint(*height))]
        return "".join(" ".join(line) + "\n" for line in lines)

    return give


def _signs(height: tuple[int, int], width: tuple[int, int], filled: float) -> Callable[[Random], str]:
    def give(chance: Random) -> str:
        across = chance.randint(*width)
        lines = [
            ["#" if chance.random() < filled else "." for _ in range(across)] for _ in range(chance.randint(*height))
        ]
        return "".join("".join(line) + "\n" for line in lines)

    return give


def sums_over(chance: Random) -> Made:
    least = chance.randint(2, 7)
    statement = (
        f"Read a grid of integers, one row a line. Only integers of at least {least} count. Print the sums of the rows "
        "on one line and the sums of the columns on the next, separated by spaces."
    )
    program = """
        import sys
        g = [[int(x) for x in line.split()] for line in sys.stdin]
        print(*[sum(x for x in r if x >= $least) for r in g])
        print(*[sum(x for x in c if x >= $least) for c in zip(*g)])
    """
    return Made(statement, fill(program, least=least), _numbers((2, 3), (2, 4), 9))


def turned(chance: Random) -> Made:
    turns, add = chance.randint(1, 3), chance.randint(0, 20)
    statement = (
        f"Read a grid of integers, one row a line. Turn it clockwise by a quarter turn {turns} time(s), add {add} to "
        "each integer, and print it, one row a line, separated by spaces."
    )
    program = """
        import sys
        g = [list(map(int, line.split())) for line in sys.stdin]
        for _ in range($turns):
            g = [list(c) for c in zip(*g[::-1])]
        for r in g:
            print(*[x + $add for x in r])
    """
    return Made(statement, fill(program, turns=turns, add=add), _numbers((2, 3), (2, 4), 30))


def islands(chance: Random) -> Made:
    corners, least = chance.random() < 0.5, chance.randint(1, 3)
    statement = (
        "Read a map of '#' and '.', one row a line. Signs '#' that touch at a side"
        f"{' or a corner' if corners else ''} belong to one island. Print how many islands there are, and on a second "
        f"line the sizes of those of at least {least} signs, the largest first, separated by spaces."
    )
    program = """
        import sys
        g = sys.stdin.read().split()
        left = {(i, j) for i, r in enumerate(g) for j, c in enumerate(r) if c == "#"}
        found = []
        while left:
            todo, n = [left.pop()], 0
            while todo:
                i, j = todo.pop()
                n += 1
                for a in (-1, 0, 1):
                    for b in (-1, 0, 1):
                        p = (i + a, j + b)
                        if p in left and abs(a) + abs(b) <= $reach:
                            left.remove(p)
                            todo.append(p)
            found.append(n)
        found.sort(reverse=True)
        print(len(found))
        print(*[n for n in found if n >= $least])
    """
    return Made(statement, fill(program, reach=2 if corners else 1, least=least), _signs((4, 5), (5, 8), 0.5))


def generations(chance: Random) -> Made:
    birth, stay, steps = chance.choice([2, 3]), chance.choice([(2, 3), (1, 2), (3, 4)]), chance.randint(1, 3)
    statement = (
        "Read a map of '#' (alive) and '.' (dead), one row a line. The eight cells around a cell are its neighbours; "
        f"outside of the map all are dead. In a step, all at once, a dead cell with {birth} living neighbours comes "
        f"alive, a living cell with {stay[0]} or {stay[1]} stays alive, and all others are dead. Print the map after "
        f"{steps} step(s), and on a last line how many cells are alive."
    )
    program = """
        import sys
        g = sys.stdin.read().split()
        h, w = len(g), len(g[0])
        s = {(i, j) for i in range(h) for j in range(w) if g[i][j] == "#"}
        for _ in range($steps):
            t = set()
            for i in range(h):
                for j in range(w):
                    n = sum((a, b) in s for a in range(i - 1, i + 2) for b in range(j - 1, j + 2)) - ((i, j) in s)
                    if n in ($stay if (i, j) in s else [$birth]):
                        t.add((i, j))
            s = t
        for i in range(h):
            print("".join("#" if (i, j) in s else "." for j in range(w)))
        print(len(s))
    """
    return Made(statement, fill(program, birth=birth, stay=list(stay), steps=steps), _signs((3, 5), (4, 6), 0.45))


def around_and_in(chance: Random) -> Made:
    step, start = chance.randint(1, 4), chance.randint(0, 2)
    statement = (
        "Read a grid of integers, one row a line. Walk through it in a spiral: along the first row to the right, down "
        "the last column, back along the last row, up the first column, and so on inwards. Of the integers in the "
        f"order of the walk, leave out the first {start}, then print the next one and every {step}-th after it, "
        "separated by commas."
    )
    program = """
        import sys
        g = [line.split() for line in sys.stdin]
        out = []
        while g:
            out += g.pop(0)
            g = [list(c) for c in zip(*g)][::-1]
        print(",".join(out[$start::$step]))
    """
    return Made(statement, fill(program, step=step, start=start), _numbers((3, 4), (3, 4), 20))


def steps_to_corner(chance: Random) -> Made:
    cost, jumps = chance.randint(2, 9), chance.random() < 0.5
    move = "to a cell at a side or a corner" if jumps else "to a cell at a side"
    statement = (
        f"Read a map of '#' and '.', one row a line. Start at the top left cell; a step goes {move}. Entering a '.' "
        f"costs 1, entering a '#' costs {cost}. Print the least cost of reaching the bottom right cell, and the number "
        "of '#' on the map."
    )
    program = """
        import heapq, sys
        g = sys.stdin.read().split()
        h, w = len(g), len(g[0])
        best = {(0, 0): 0}
        todo = [(0, 0, 0)]
        while todo:
            d, i, j = heapq.heappop(todo)
            for a in (-1, 0, 1):
                for b in (-1, 0, 1):
                    x, y = i + a, j + b
                    if 0 <= x < h and 0 <= y < w and abs(a) + abs(b) <= $reach:
                        e = d + ($cost if g[x][y] == "#" else 1)
                        if e < best.get((x, y), 10 ** 9):
                            best[x, y] = e
                            heapq.heappush(todo, (e, x, y))
        print(best[h - 1, w - 1], sum(r.count("#") for r in g))
    """
    return Made(statement, fill(program, cost=cost, reach=2 if jumps else 1), _signs((3, 5), (4, 7), 0.5))


def walked(chance: Random) -> Made:
    width, height, around = chance.randint(4, 8), chance.randint(4, 8), chance.random() < 0.5
    edge = (
        "leaving at one side enters at the opposite one" if around else "a step that would leave the board is not made"
    )
    statement = (
        f"A piece stands at column 0, row 0 of a board of {width} columns and {height} rows; {edge}. Read a line of "
        "letters: R and L go a column up and down in number, U and D a row. Print the column and the row at the end, "
        "and how many different cells the piece has stood on."
    )
    program = """
        x = y = 0
        seen = {(0, 0)}
        for c in input().strip():
            a = x + (c == "R") - (c == "L")
            b = y + (c == "U") - (c == "D")
            $move
            seen.add((x, y))
        print(x, y, len(seen))
    """
    move = (
        f"x, y = a % {width}, b % {height}"
        if around
        else f"x, y = (a, b) if 0 <= a < {width} and 0 <= b < {height} else (x, y)"
    )
    return Made(
        statement,
        fill(program, move=move),
        lambda chance: "".join(chance.choice("RRRUUULD") for _ in range(chance.randint(8, 16))) + "\n",
    )


FAMILIES = (sums_over, turned, islands, generations, around_and_in, steps_to_corner, walked)
