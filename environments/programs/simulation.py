# ruff: noqa: D103 - what a family's program does is what its statement says
"""Programs that follow something through time: queues, accounts, caches."""

from __future__ import annotations

from random import Random

from environments.programs.family import Made, fill, ordinal, row, rows, word


def counters(chance: Random) -> Made:
    count, pause = chance.randint(2, 3), chance.randint(0, 4)
    statement = (
        f"There are {count} counters, all free at time 0. Read how long each of some customers takes, on one line. In "
        "this order each goes to the counter that is free first (of several the one with the smallest number)"
        f"{f'; a counter needs {pause} before its next customer' if pause else ''}. Print when each customer is done, "
        "separated by spaces."
    )
    program = """
        free = [0] * $count
        out = []
        for x in map(int, input().split()):
            i = free.index(min(free))
            out.append(free[i] + x)
            free[i] += x + $pause
        print(*out)
    """
    return Made(statement, fill(program, count=count, pause=pause), rows((4, 7), (1, 20)))


def account(chance: Random) -> Made:
    fee, share, start = chance.randint(1, 5), chance.choice([2, 4, 5, 10]), chance.randint(0, 100)
    statement = (
        f"An account holds {start}. Read orders on one line: '+x' pays x in; '-x' takes out x plus a fee of {fee}, or "
        f"nothing at all where that is more than there is; '%' adds a {ordinal_share(share)} of what there is, rounded "
        "down. Print what the account holds at the end, and how many times nothing was taken out."
    )
    program = """
        b, k = $start, 0
        for t in input().split():
            if t == "%":
                b += b // $share
            elif t[0] == "+":
                b += int(t[1:])
            elif int(t[1:]) + $fee <= b:
                b -= int(t[1:]) + $fee
            else:
                k += 1
        print(b, k)
    """

    def give(chance: Random) -> str:
        kinds = [chance.choice("++-%") for _ in range(chance.randint(4, 7))]
        return " ".join(kind if kind == "%" else f"{kind}{chance.randint(1, 60)}" for kind in kinds) + "\n"

    return Made(statement, fill(program, fee=fee, share=share, start=start), give)


def ordinal_share(share: int) -> str:
    """``fifth`` for 5."""
    return {2: "half", 4: "quarter", 5: "fifth", 10: "tenth"}[share]


def counted_out(chance: Random) -> Made:
    step, keep = chance.randint(2, 7), chance.randint(1, 2)
    statement = (
        f"Read different letters, written as one word; they stand in a circle in that order. Count from the first one: "
        f"every {ordinal(step)} letter leaves, and counting goes on with the next one, until {keep} remain(s). Print "
        "the letters that left, in that order, and on a second line those that remain, in the order of the word."
    )
    program = """
        c, out, i = list(input().strip()), "", 0
        while len(c) > $keep:
            i = (i + $step - 1) % len(c)
            out += c.pop(i)
        print(out)
        print("".join(c))
    """
    return Made(
        statement,
        fill(program, step=step, keep=keep),
        lambda chance: "".join(chance.sample("abcdefghijklmnop", chance.randint(5, 8))) + "\n",
    )


def ring(chance: Random) -> Made:
    size, factor = chance.randint(3, 6), chance.randint(2, 5)
    statement = (
        f"{size} cells hold 0; the mark stands at cell 0. Read integers on one line. For each integer x, add x to the "
        f"marked cell and move the mark on by x times {factor} cells, from the last cell on to cell 0. Print the "
        "cells, separated by spaces, and on a second line where the mark stands."
    )
    program = """
        c, i = [0] * $size, 0
        for x in map(int, input().split()):
            c[i] += x
            i = (i + x * $factor) % $size
        print(*c)
        print(i)
    """
    return Made(statement, fill(program, size=size, factor=factor), rows((4, 8), (1, 30)))


def remembered(chance: Random) -> Made:
    size, oldest = chance.randint(2, 4), chance.random() < 0.5
    rule = "that came in first" if oldest else "whose last use is longest ago"
    statement = (
        f"A memory holds at most {size} letters. Read a word and use its letters in turn. A letter that is in the "
        f"memory is a hit; any other comes in, and where there is no room the letter {rule} leaves before. Print the "
        "number of hits, the letters that left in that order (or '-'), and the letters in the memory in alphabetical "
        "order, each on a line."
    )
    program = """
        m, out, k = [], "", 0
        for c in input().strip():
            if c in m:
                k += 1
                $touch
            else:
                if len(m) == $size:
                    out += m.pop(0)
                m.append(c)
        print(k)
        print(out or "-")
        print("".join(sorted(m)))
    """
    touch = "pass" if oldest else "m.append(m.pop(m.index(c)))"
    return Made(statement, fill(program, size=size, touch=touch), lambda chance: word(chance, (7, 12), "abcdef") + "\n")


def bounced(chance: Random) -> Made:
    length, lost = chance.randint(7, 30), chance.randint(0, 1)
    statement = (
        f"A ball rolls between walls at 0 and {length}. It starts at 0 and rolls to the right. Read integers on one "
        "line: for each it rolls so many places, one at a time, and turns round whenever it is at a wall"
        f"{'; after each integer it turns round once more' if lost else ''}. Print where it is after each integer, "
        "separated by spaces, and then how often it has met a wall."
    )
    program = """
        x, d, k, out = 0, 1, 0, []
        for n in map(int, input().split()):
            for _ in range(n):
                x += d
                if x in (0, $length):
                    d = 1 if x == 0 else -1
                    k += 1
            $turn
            out.append(x)
        print(*out)
        print(k)
    """
    turn = f"d = -d if 0 < x < {length} else d" if lost else "pass"
    if lost:
        statement = statement.replace("once more", "once more, unless it is at a wall")
    return Made(statement, fill(program, length=length, turn=turn), rows((3, 6), (2, 40)))


def stock(chance: Random) -> Made:
    order, least, start = chance.randint(5, 20), chance.randint(2, 8), chance.randint(5, 20)
    statement = (
        f"A shop has {start} pieces. Read what customers want on one line, in turn. Each gets as many pieces as are "
        f"there, at most what they want. When fewer than {least} are left after a customer, {order} pieces are added. "
        "Print the pieces left at the end, the pieces sold, and the pieces that were wanted in vain."
    )
    program = """
        n, sold, lost = $start, 0, 0
        for x in map(int, input().split()):
            y = min(n, x)
            n -= y
            sold += y
            lost += x - y
            if n < $least:
                n += $order
        print(n, sold, lost)
    """
    return Made(
        statement,
        fill(program, order=order, least=least, start=start),
        lambda chance: row(chance, (4, 7), (1, 18)) + "\n",
    )


FAMILIES = (counters, account, counted_out, ring, remembered, bounced, stock)
