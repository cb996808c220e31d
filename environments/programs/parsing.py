# ruff: noqa: D103 - what a family's program does is what its statement says
"""Programs that read small languages: stacks, brackets, records."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from environments.programs.family import Made, fill, word


def stack_machine(chance: Random) -> Made:
    factor, add = chance.randint(2, 5), chance.randint(1, 9)
    statement = (
        "Read tokens on one line and work through them with a stack. A number is pushed. 'add' takes the two top "
        f"numbers and pushes their sum plus {add}; 'mul' takes two and pushes their product; 'dup' pushes the top "
        f"number again; 'up' replaces the top number by {factor} times itself. At the end print the stack from bottom "
        "to top, separated by spaces."
    )
    program = """
        s = []
        for t in input().split():
            if t == "add":
                s.append(s.pop() + s.pop() + $add)
            elif t == "mul":
                s.append(s.pop() * s.pop())
            elif t == "dup":
                s.append(s[-1])
            elif t == "up":
                s[-1] *= $factor
            else:
                s.append(int(t))
        print(*s)
    """
    return Made(statement, fill(program, factor=factor, add=add), _tokens)


def _tokens(chance: Random) -> str:
    said, height = [str(chance.randint(1, 9)), str(chance.randint(1, 9))], 2
    for _ in range(chance.randint(3, 6)):
        order = chance.choice([str(chance.randint(1, 9)), "dup", "up", *(["add", "mul"] if height > 1 else [])])
        height += -1 if order in {"add", "mul"} else 0 if order == "up" else 1
        said.append(order)
    return " ".join(said) + "\n"


def bracket_depth(chance: Random) -> Made:
    inner, outer = chance.choice(["()", "[]", "<>", "{}"]), chance.randint(2, 9)
    statement = (
        f"Read a line of letters and balanced '{inner[0]}' and '{inner[1]}'. A letter inside d pairs of these scores "
        f"{outer} to the power of d times its place in the alphabet (a is 1). Print the sum of all scores and the "
        "largest d that a letter has."
    )
    program = """
        d = t = m = 0
        for c in input().strip():
            if c == "$open":
                d += 1
            elif c == "$close":
                d -= 1
            else:
                t += $outer ** d * (ord(c) - 96)
                m = max(m, d)
        print(t, m)
    """
    opened, closed = inner[0], inner[1]

    def nested(chance: Random, depth: int = 0) -> str:
        parts = [word(chance, (1, 2), "abcdefg")]
        while depth < 3 and chance.random() < 0.55:
            parts.append(opened + nested(chance, depth + 1) + closed)
        return "".join(parts)

    return Made(
        statement,
        fill(program, open=opened, close=closed, outer=outer),
        lambda chance: nested(chance) + opened + nested(chance, 2) + closed + "\n",
    )


def left_to_right(chance: Random) -> Made:
    modulus, add = chance.choice([0, 100, 1000, 97]), chance.randint(1, 5)
    limit = f" After every operation keep the rest of division by {modulus}." if modulus else ""
    statement = (
        "Read an expression such as '3 + 4 * 2': numbers and operators with spaces between them. Work it out strictly "
        f"from left to right. '+' and '*' are as usual; 'a @ b' means a times {add} plus b.{limit} Print the result."
    )
    program = """
        t = input().split()
        x = int(t[0])
        for o, y in zip(t[1::2], map(int, t[2::2])):
            x = x + y if o == "+" else x * y if o == "*" else x * $add + y
            $limit
        print(x)
    """
    return Made(statement, fill(program, add=add, limit=f"x %= {modulus}" if modulus else "x = x"), _expression)


def _expression(chance: Random) -> str:
    said = [str(chance.randint(1, 20))]
    for _ in range(chance.randint(2, 5)):
        said += [chance.choice("+*@"), str(chance.randint(1, 20))]
    return " ".join(said) + "\n"


def _lines(line: Callable[[Random], str], count: tuple[int, int]) -> Callable[[Random], str]:
    """A count, and so many lines."""

    def give(chance: Random) -> str:
        lines = [line(chance) for _ in range(chance.randint(*count))]
        return f"{len(lines)}\n" + "".join(f"{one}\n" for one in lines)

    return give


def totals(chance: Random) -> Made:
    sign, least, down = chance.choice("=:,"), chance.choice([0, 10, 20, 30]), chance.random() < 0.5
    statement = (
        f"Read n, then n lines 'name{sign}number'. Add up the numbers of each name. Print the names whose sum is at "
        f"least {least}, each on a line with its sum after a space, the {'largest' if down else 'smallest'} sum first, "
        "equal sums by name; and on a last line how many names these are."
    )
    program = """
        d = {}
        for _ in range(int(input())):
            k, v = input().strip().split("$sign")
            d[k] = d.get(k, 0) + int(v)
        keys = [k for k in sorted(d, key=lambda k: ($order, k)) if d[k] >= $least]
        for k in keys:
            print(k, d[k])
        print(len(keys))
    """
    names = ("ann", "bob", "cat", "dan")
    return Made(
        statement,
        fill(program, sign=sign, least=least, order="-d[k]" if down else "d[k]"),
        _lines(lambda chance: f"{chance.choice(names)}{sign}{chance.randint(1, 40)}", (3, 6)),
    )


def clock_sums(chance: Random) -> Made:
    start, pause = chance.randint(0, 23 * 60), chance.randint(0, 30)
    statement = (
        f"The clock shows {start // 60:02}:{start % 60:02}. Read n, then n lines with durations such as '1:05' (hours "
        f"and minutes). One follows the other, with {pause} minutes after each. Print after each duration, before its "
        "pause, what a 24-hour clock shows, as hh:mm on a line of its own."
    )
    program = """
        t = $start
        for _ in range(int(input())):
            h, m = map(int, input().split(":"))
            t += h * 60 + m
            print("%02d:%02d" % (t // 60 % 24, t % 60))
            t += $pause
    """
    return Made(
        statement,
        fill(program, start=start, pause=pause),
        _lines(lambda chance: f"{chance.randint(0, 4)}:{chance.randint(0, 59):02}", (2, 4)),
    )


def numeral_sums(chance: Random) -> Made:
    factor, add = chance.randint(1, 5), chance.randint(0, 50)
    statement = (
        "Read Roman numerals between I and CCC on one line, separated by spaces. Print the sum of their values times "
        f"{factor}, plus {add}, as an ordinary number."
    )
    program = """
        v = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100}
        t = 0
        for w in input().split():
            for a, b in zip(w, w[1:] + "I"):
                t += v[a] if v[a] >= v[b] else -v[a]
        print(t * $factor + $add)
    """
    return Made(
        statement,
        fill(program, factor=factor, add=add),
        lambda chance: " ".join(_roman(chance.randint(1, 300)) for _ in range(chance.randint(2, 4))) + "\n",
    )


def _roman(number: int) -> str:
    signs = [(100, "C"), (90, "XC"), (50, "L"), (40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I")]
    out = ""
    for value, sign in signs:
        out += sign * (number // value)
        number %= value
    return out


def chosen_rows(chance: Random) -> Made:
    least, field = chance.randint(20, 60), chance.choice(["name", "age", "score"])
    statement = (
        "Read n, then n lines 'name,age,score' with integers for age and score. Keep those with age + score of at "
        f"least {least}. Print the names of these, sorted by {field}, largest or last in the alphabet first, equal "
        "ones in the order of the input, joined by '+', or 'nobody'. Print the sum of their scores on a second line."
    )
    program = """
        r = []
        for _ in range(int(input())):
            a, b, c = input().strip().split(",")
            if int(b) + int(c) >= $least:
                r.append((a, int(b), int(c)))
        r.sort(key=lambda x: x[$field], reverse=True)
        print("+".join(x[0] for x in r) or "nobody")
        print(sum(x[2] for x in r))
    """
    return Made(
        statement,
        fill(program, least=least, field=("name", "age", "score").index(field)),
        _lines(lambda chance: f"{word(chance, (3, 4))},{chance.randint(5, 60)},{chance.randint(0, 30)}", (3, 5)),
    )


FAMILIES = (stack_machine, bracket_depth, left_to_right, totals, clock_sums, numeral_sums, chosen_rows)
