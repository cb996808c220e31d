"""How layouts of the forty levels are dealt out: the first of a seed's own that its split takes and the expert solves.

    python -m environments.babyai.layouts --count 100

prints for each level how many of its layouts the expert solves in time, and in how many turns.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import lru_cache
from random import Random
from typing import Any, NamedTuple

from environments.babyai.deeds import act
from environments.babyai.expert import advise
from environments.babyai.levels import NAMES, content, make
from environments.babyai.moves import Mission
from environments.dealing import deal, digest_of, split_of
from rl.records import ScenarioRef

MAX_TURNS = 20
SEEDS = 1 << 31
"""Of minigrid's, from which layouts are drawn."""


class Drawn(NamedTuple):
    """A level by its name and minigrid's seed, and what it holds."""

    level: str
    seed: int
    content: list[Any]


class Layout(NamedTuple):
    """A level by its name and minigrid's seed, and the hash of what it holds."""

    level: str
    seed: int
    digest: str


def turns_of_expert(name: str, seed: int) -> int | None:
    """Turns in which the expert completes the mission; None where it does not within the limit."""
    level = make(name, seed)
    for turn in range(1, MAX_TURNS + 1):
        mission = act(level, advise(level)).mission
        if mission is not Mission.OPEN:
            return turn if mission is Mission.DONE else None
    return None


@lru_cache(maxsize=65536)
def layout(split: str, seed: int) -> Layout:
    """What scenario ``(split, seed)`` is played on. Seeds take turns over the levels."""
    name = NAMES[seed % len(NAMES)]

    def draw(chance: Random) -> Drawn:
        """A layout of another split, which is passed over, or a solvable one."""
        while True:
            one = chance.randrange(SEEDS)
            held = content(make(name, one))
            if split_of(digest_of(held)) != split or turns_of_expert(name, one) is not None:
                return Drawn(name, one, held)

    ref = ScenarioRef.model_validate({"environment": "babyai", "split": split, "seed": seed})
    (name, drawn, _), digest = deal(ref, draw, lambda found: found.content)
    return Layout(name, drawn, digest)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print for each level how many of its layouts the expert solves in time, and in how many turns."""
    parser = argparse.ArgumentParser(prog="python -m environments.babyai.layouts", description=main.__doc__)
    parser.add_argument("--count", type=int, default=100, help="layouts of each level, minigrid's seeds 0 and up")
    count = parser.parse_args(arguments).count
    for name in NAMES:
        turns = [turns for seed in range(count) if (turns := turns_of_expert(name, seed)) is not None]
        mean = sum(turns) / len(turns) if turns else 0.0
        sys.stdout.write(f"{name:21} {len(turns):5} of {count}, {mean:5.2f} turns\n")


if __name__ == "__main__":
    main()
