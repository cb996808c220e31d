# ruff: noqa: D103 - what a family's program does is what its statement says
"""Programs about one or a few integers."""

from __future__ import annotations

from random import Random

from environments.programs.family import Made, fill, rows, whole


def digit_powers(chance: Random) -> Made:
    power, factor, add = chance.randint(1, 3), chance.randint(2, 9), chance.randint(1, 40)
    statement = (
        f"Read an integer n of 2 to 6 digits. Raise each of its digits to the power {power} and add these up. "
        f"Print the sum times {factor}, plus {add}."
    )
    program = """
        n = input().strip()
        total = 0
        for c in n:
            total += int(c) ** $power
        print(total * $factor + $add)
    """
    return Made(statement, fill(program, power=power, factor=factor, add=add), whole(10, 999_999))


def common_parts(chance: Random) -> Made:
    factor, add = chance.randint(2, 12), chance.randint(1, 30)
    statement = (
        f"Read two positive integers a and b on one line. Let x be a times {factor} and y be b plus {add}. "
        "Print the greatest common divisor and the least common multiple of x and y, separated by a space."
    )
    program = """
        from math import gcd
        a, b = map(int, input().split())
        x, y = a * $factor, b + $add
        g = gcd(x, y)
        print(g, x // g * y)
    """
    return Made(statement, fill(program, factor=factor, add=add), rows((2, 2), (1, 120)))


def factored(chance: Random) -> Made:
    add, sign = chance.randint(1, 60), chance.choice("*x.")
    statement = (
        f"Read an integer n from 2 to 5000. Print the prime factors of n + {add} in ascending order, each as often as "
        f"it divides, joined by '{sign}'."
    )
    program = """
        n = int(input()) + $add
        found = []
        d = 2
        while n > 1:
            while n % d == 0:
                found.append(str(d))
                n //= d
            d += 1
        print("$sign".join(found))
    """
    return Made(statement, fill(program, add=add, sign=sign), whole(2, 5000))


def written_in_base(chance: Random) -> Made:
    base, add = chance.randint(2, 9), chance.randint(1, 50)
    backwards = chance.random() < 0.5
    order = "least significant digit first" if backwards else "most significant digit first"
    statement = f"Read an integer n from 1 to 9999. Print n + {add} in base {base}, {order}."
    program = """
        n = int(input()) + $add
        out = ""
        while n:
            out $put
            n //= $base
        print(out)
    """
    put = f"+= str(n % {base})" if backwards else f"= str(n % {base}) + out"
    return Made(statement, fill(program, base=base, add=add, put=put), whole(1, 9999))


def up_and_down(chance: Random) -> Made:
    factor, add, limit = chance.choice([3, 5, 7]), chance.choice([1, 3, 5]), chance.choice([15, 20, 25])
    statement = (
        f"Read a positive integer n. Repeat until n is 1, but at most {limit} times: if n is even, halve it, otherwise "
        f"multiply it by {factor} and add {add}. Print how often this was done, and the largest value that n had."
    )
    program = """
        n = int(input())
        best, count = n, 0
        while n != 1 and count < $limit:
            n = n // 2 if n % 2 == 0 else n * $factor + $add
            best = max(best, n)
            count += 1
        print(count, best)
    """
    return Made(statement, fill(program, factor=factor, add=add, limit=limit), whole(2, 400))


def some_divisors(chance: Random) -> Made:
    step, wanted = chance.randint(2, 5), chance.random() < 0.5
    statement = (
        f"Read a positive integer n. Consider those of its divisors (1 and n included) that are "
        f"{'' if wanted else 'not '}divisible by {step}. Print how many there are and their sum."
    )
    program = """
        n = int(input())
        kept = [d for d in range(1, n + 1) if n % d == 0 and d % $step $sign 0]
        print(len(kept), sum(kept))
    """
    text = fill(program, step=step, sign="==" if wanted else "!=")
    return Made(statement, text, lambda chance: f"{step * chance.randint(2, 150)}\n")


def powers_and_rests(chance: Random) -> Made:
    modulus, add = chance.randint(50, 997), chance.randint(1, 99)
    statement = (
        "Read two integers a and b on one line. Print the rest of a to the power of b when it is divided by "
        f"{modulus}, and then, on a second line, that rest times a plus {add}."
    )
    program = """
        a, b = map(int, input().split())
        r = pow(a, b, $modulus)
        print(r)
        print(r * a + $add)
    """
    return Made(statement, fill(program, modulus=modulus, add=add), rows((2, 2), (2, 60)))


def two_before(chance: Random) -> Made:
    one, two, modulus = chance.randint(1, 4), chance.randint(1, 4), chance.choice([97, 101, 997, 1009])
    statement = (
        "Read three integers x, y and n on one line. A sequence begins with x, y; every later term is "
        f"{one} times the term before it plus {two} times the one before that, modulo {modulus}. Print the n-th term "
        "(x is term 1)."
    )
    program = """
        x, y, n = map(int, input().split())
        for _ in range(n - 1):
            x, y = y, ($one * y + $two * x) % $modulus
        print(x)
    """
    text = fill(program, one=one, two=two, modulus=modulus)
    return Made(
        statement,
        text,
        lambda chance: f"{chance.randint(0, 40)} {chance.randint(0, 40)} {chance.randint(3, 9)}\n",
    )


def happy_steps(chance: Random) -> Made:
    add, rounds = chance.randint(1, 30), chance.randint(2, 4)
    statement = (
        f"Read an integer n of 2 to 5 digits. Do this {rounds} times: reverse the digits of n (leading zeros are "
        f"dropped) and add {add}. After each time print n on a line."
    )
    program = """
        n = int(input())
        for _ in range($rounds):
            n = int(str(n)[::-1]) + $add
            print(n)
    """
    return Made(statement, fill(program, add=add, rounds=rounds), whole(10, 99_999))


FAMILIES = (
    digit_powers,
    common_parts,
    factored,
    written_in_base,
    up_and_down,
    some_divisors,
    powers_and_rests,
    two_before,
    happy_steps,
)
