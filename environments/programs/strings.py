# ruff: noqa: D103 - what a family's program does is what its statement says
"""Programs about letters and words."""

from __future__ import annotations

from random import Random

from environments.programs.family import COMMON, LETTERS, Made, fill, ordinal, word, words


def shifted(chance: Random) -> Made:
    by, back = chance.randint(1, 25), chance.random() < 0.5
    statement = (
        f"Read a line of lower-case words. Replace every letter by the one {by} places later in the alphabet, going on "
        f"at a after z; spaces stay. Print the line{' backwards' if back else ''}."
    )
    program = """
        out = ""
        for c in input():
            out += chr((ord(c) - 97 + $by) % 26 + 97) if c != " " else c
        print(out$back)
    """
    return Made(statement, fill(program, by=by, back="[::-1]" if back else ""), words((1, 3), (3, 6), LETTERS))


def runs(chance: Random) -> Made:
    least, sign = chance.randint(1, 3), chance.choice(["", ":", "-", "*"])
    statement = (
        f"Read a word. Replace each run of equal letters that is at least {least} long by the letter"
        f"{', ' + repr(sign) if sign else ''} and the length of the run; leave shorter runs as they are. "
        "Print the result."
    )
    program = """
        from itertools import groupby
        out = ""
        for c, g in groupby(input().strip()):
            k = len(list(g))
            out += c + "$sign" + str(k) if k >= $least else c * k
        print(out)
    """
    return Made(
        statement,
        fill(program, least=least, sign=sign),
        lambda chance: "".join(chance.choice("abc") * chance.randint(1, 4) for _ in range(chance.randint(3, 6))) + "\n",
    )


def vowels_changed(chance: Random) -> Made:
    mark, back = chance.choice("*#+_"), chance.random() < 0.5
    how = chance.choice(["doubled", "upper", "marked"])
    told = {"doubled": "written twice", "upper": "written in upper case", "marked": f"followed by '{mark}'"}[how]
    statement = (
        f"Read a line of lower-case words. Print {'its words in reverse order' if back else 'it'} with every vowel "
        f"(a, e, i, o, u) {told}."
    )
    program = """
        out = ""
        for c in input():
            out += $change if c in "aeiou" else c
        print(" ".join(out.split()$back))
    """
    change = {"doubled": "c * 2", "upper": "c.upper()", "marked": f'c + "{mark}"'}[how]
    return Made(statement, fill(program, change=change, back="[::-1]" if back else ""), words((2, 4), (3, 6)))


def every_kth_word(chance: Random) -> Made:
    step, sign = chance.randint(2, 4), chance.choice([" ", "_", "/", ","])
    statement = (
        f"Read a line of words. Write every {ordinal(step)} word backwards (the words number {step}, {2 * step} and "
        f"so on), leave the others, and print all of them joined by '{sign}'."
    )
    program = """
        parts = input().split()
        for i in range($first, len(parts), $step):
            parts[i] = parts[i][::-1]
        print("$sign".join(parts))
    """
    return Made(statement, fill(program, first=step - 1, step=step, sign=sign), words((4, 7), (3, 5)))


def taken_in_turn(chance: Random) -> Made:
    one, two = chance.randint(1, 3), chance.randint(1, 3)
    statement = (
        f"Read two words, each on a line of its own. Take {one} letter(s) of the first, then {two} of the second, and "
        "so on in turn, until both are used up; take fewer where fewer are left. Print the letters taken, in that "
        "order."
    )
    program = """
        a, b = input().strip(), input().strip()
        out = ""
        while a or b:
            out += a[:$one] + b[:$two]
            a, b = a[$one:], b[$two:]
        print(out)
    """
    return Made(
        statement,
        fill(program, one=one, two=two),
        lambda chance: f"{word(chance, (3, 8))}\n{word(chance, (3, 8))}\n",
    )


def letter_values(chance: Random) -> Made:
    factor, modulus = chance.randint(2, 9), chance.choice([997, 1009, 10_007])
    statement = (
        "Letters are worth their place in the alphabet: a is 1, z is 26. Read a word and start from 0. For each "
        f"letter, multiply what you have by {factor}, add the letter's worth, and keep the rest of division by "
        f"{modulus}. Print what you have at the end."
    )
    program = """
        h = 0
        for c in input().strip():
            h = (h * $factor + ord(c) - 96) % $modulus
        print(h)
    """
    return Made(
        statement,
        fill(program, factor=factor, modulus=modulus),
        lambda chance: word(chance, (3, 7)) + "\n",
    )


def rotated_by_count(chance: Random) -> Made:
    group, step = chance.choice(["aeiou", "aei", "rst", "nlst"]), chance.randint(1, 3)
    statement = (
        f"Read a word. Count its letters that are among '{group}'. Rotate the word to the left by {step} times that "
        "count (a rotation by one moves the first letter to the end) and print it."
    )
    program = """
        s = input().strip()
        k = $step * sum(c in "$group" for c in s) % len(s)
        print(s[k:] + s[:k])
    """
    return Made(
        statement,
        fill(program, group=group, step=step),
        lambda chance: word(chance, (5, 9), COMMON) + "\n",
    )


def most_frequent(chance: Random) -> Made:
    count, last = chance.randint(2, 4), chance.random() < 0.5
    statement = (
        f"Read a line of lower-case words. Print the {count} letters that are there most often, each with its count "
        "after it, on one line separated by spaces, the most frequent first. Of letters that are there equally often, "
        f"the {'later' if last else 'earlier'} in the alphabet goes first. Spaces do not count."
    )
    program = """
        s = input().replace(" ", "")
        keys = sorted(set(s), key=lambda c: (-s.count(c), $order))
        print(" ".join(c + str(s.count(c)) for c in keys[:$count]))
    """
    return Made(
        statement, fill(program, count=count, order="-ord(c)" if last else "c"), words((3, 5), (4, 7), "aeinrst")
    )


def read_by_columns(chance: Random) -> Made:
    width, back = chance.randint(2, 5), chance.random() < 0.5
    statement = (
        f"Read a line and remove its spaces. Write what is left in rows of {width} letters (the last may be shorter). "
        f"Read the columns from top to bottom, the {'last' if back else 'first'} column first, and print the columns "
        "on one line, separated by spaces."
    )
    program = """
        s = input().replace(" ", "")
        cols = [s[i::$width] for i in range($width)]
        print(" ".join(cols$back))
    """
    return Made(statement, fill(program, width=width, back="[::-1]" if back else ""), words((2, 4), (3, 6)))


FAMILIES = (
    shifted,
    runs,
    vowels_changed,
    every_kth_word,
    taken_in_turn,
    letter_values,
    rotated_by_count,
    most_frequent,
    read_by_columns,
)
