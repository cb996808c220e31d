# ruff: noqa: D103 - what a family's program does is what its statement says
"""Programs about nodes and the edges between them."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from environments.programs.family import Made, fill

INPUT = "Read the number of nodes n and the number of edges m on one line, then m lines"


def _edges(weighted: bool = False, onward: bool = False) -> Callable[[Random], str]:
    """Different edges between 4 to 7 nodes from 1; ``onward`` ones go from smaller to larger numbers."""

    def give(chance: Random) -> str:
        nodes = chance.randint(4, 7)
        every = [(a, b) for a in range(1, nodes + 1) for b in range(a + 1, nodes + 1)]
        chosen = chance.sample(every, chance.randint(nodes - 2, nodes + 2))
        lines = []
        for a, b in chosen:
            ends = f"{a} {b}" if onward or chance.random() < 0.5 else f"{b} {a}"
            lines.append(f"{ends} {chance.randint(1, 20)}\n" if weighted else f"{ends}\n")
        return f"{nodes} {len(chosen)}\n{''.join(lines)}"

    return give


def _parents(chance: Random) -> str:
    """A tree: for each node but the root, its parent, which has a smaller number."""
    nodes = chance.randint(5, 9)
    return f"{nodes}\n{' '.join(str(chance.randint(1, node - 1)) for node in range(2, nodes + 1))}\n"


def component_sums(chance: Random) -> Made:
    factor, add = chance.randint(1, 9), chance.randint(0, 9)
    statement = (
        f"{INPUT} with two nodes each that are joined. Nodes are numbered from 1; node i weighs {factor} times i"
        f"{f' plus {add}' if add else ''}. Nodes that are joined, directly or through others, form a group. Print the "
        "total weights of the groups in ascending order, separated by spaces."
    )
    program = """
        n, m = map(int, input().split())
        p = list(range(n + 1))
        def f(x):
            while p[x] != x:
                x = p[x]
            return x
        for _ in range(m):
            a, b = map(int, input().split())
            p[f(a)] = f(b)
        t = {}
        for i in range(1, n + 1):
            t[f(i)] = t.get(f(i), 0) + i * $factor + $add
        print(*sorted(t.values()))
    """
    return Made(statement, fill(program, factor=factor, add=add), _edges())


def distances(chance: Random) -> Made:
    start, away, factor = chance.randint(1, 4), chance.choice([-1, 0, 99]), chance.randint(1, 5)
    statement = (
        f"{INPUT} with two nodes each that are joined. Print for each node, from 1 to n, {factor} times the least "
        f"number of edges on a way to it from node {start}, or {away} if there is none, separated by spaces."
    )
    program = """
        n, m = map(int, input().split())
        e = [tuple(map(int, input().split())) for _ in range(m)]
        d = {$start: 0}
        todo = [$start]
        for x in todo:
            for a, b in e + [(b, a) for a, b in e]:
                if a == x and b not in d:
                    d[b] = d[x] + $factor
                    todo.append(b)
        print(*[d.get(i, $away) for i in range(1, n + 1)])
    """
    return Made(statement, fill(program, start=start, away=away, factor=factor), _edges())


def order_of_work(chance: Random) -> Made:
    largest, sign = chance.random() < 0.5, chance.choice([" ", ",", ">", "-"])
    statement = (
        f"{INPUT} 'a b' that say that a has to be done before b. Do the nodes one after the other: of those that may "
        f"be done, always the one with the {'largest' if largest else 'smallest'} number. Print their order, joined by "
        f"'{sign}'."
    )
    program = """
        n, m = map(int, input().split())
        e = [tuple(map(int, input().split())) for _ in range(m)]
        left, out = set(range(1, n + 1)), []
        while left:
            x = $pick(v for v in left if not any(b == v and a in left for a, b in e))
            left.remove(x)
            out.append(str(x))
        print("$sign".join(out))
    """
    return Made(statement, fill(program, pick="max" if largest else "min", sign=sign), _edges(onward=True))


def below_each(chance: Random) -> Made:
    factor, add = chance.randint(1, 6), chance.randint(1, 9)
    statement = (
        "Read n, then on the next line the parents of the nodes 2 to n of a tree whose root is node 1; parents have "
        f"smaller numbers. A node without children is worth {add}; any other is worth {factor} more than all of its "
        "children together. Print the worth of each node from 1 to n, separated by spaces."
    )
    program = """
        n = int(input())
        p = [0, 0] + list(map(int, input().split()))
        w = [0] * (n + 1)
        for i in range(n, 0, -1):
            w[i] = w[i] + $factor if i in p else $add
            w[p[i]] += w[i]
        print(*w[1:])
    """
    return Made(statement, fill(program, factor=factor, add=add), _parents)


def cheapest_ways(chance: Random) -> Made:
    toll, target = chance.randint(0, 9), chance.choice(["first", "last"])
    start = "1" if target == "last" else "n"
    goal = "n" if target == "last" else "1"
    statement = (
        f"{INPUT} 'a b c': from a one can go to b and from b to a, for c coins"
        f"{f', and each use of an edge costs {toll} coins more' if toll else ''}. Print the least cost of going from "
        f"node {start} to node {goal}, or 'none' if there is no way."
    )
    program = """
        n, m = map(int, input().split())
        e = []
        for _ in range(m):
            a, b, c = map(int, input().split())
            e += [(a, b, c + $toll), (b, a, c + $toll)]
        d = {$start: 0}
        for _ in range(n):
            for a, b, c in e:
                if a in d and d[a] + c < d.get(b, 10 ** 9):
                    d[b] = d[a] + c
        print(d.get($goal, "none"))
    """
    return Made(statement, fill(program, toll=toll, start=start, goal=goal), _edges(weighted=True))


def by_degree(chance: Random) -> Made:
    count, least = chance.randint(2, 4), chance.random() < 0.5
    statement = (
        f"{INPUT} with two nodes each that are joined. Print the {count} nodes with the "
        f"{'fewest' if least else 'most'} edges, each as 'node:edges', separated by spaces, beginning with the "
        f"{'fewest' if least else 'most'}; of equals the one with the larger number first."
    )
    program = """
        n, m = map(int, input().split())
        d = [0] * (n + 1)
        for _ in range(m):
            for x in input().split():
                d[int(x)] += 1
        v = sorted(range(1, n + 1), key=lambda x: ($sign, -x))[:$count]
        print(*[str(x) + ":" + str(d[x]) for x in v])
    """
    return Made(statement, fill(program, count=count, sign="d[x]" if least else "-d[x]"), _edges())


FAMILIES = (component_sums, distances, order_of_work, below_each, cheapest_ways, by_degree)
