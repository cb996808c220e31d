"""Mixes of environments, by name: ``sat-small+textcraft-small*2`` deals one scenario in three to ``sat-small``.

Seeds are dealt in blocks as long as the weights' sum. Scenario ``s`` has place ``s % sum`` in its block, and the member
whose places these are gets its own scenarios one after another: every block holds every member's share, and the
members' seeds begin at 0 and leave none out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from rl.errors import InvalidInput

MEMBER = re.compile(r"([^+*/\s]+)(?:\*([1-9][0-9]{0,2}))?")


class Member(NamedTuple):
    """One environment of a mix: it has the places ``first`` to ``first + weight - 1`` of each block."""

    environment: str
    weight: int
    first: int

    def seed_of(self, own: int, block: int) -> int:
        """The mix's seed of the member's scenario ``own``."""
        return own // self.weight * block + self.first + own % self.weight


class Dealt(NamedTuple):
    """The environment that a scenario of a mix belongs to, and its seed there."""

    environment: str
    seed: int


def members(name: str) -> tuple[Member, ...]:
    """The members of a mix in the order of its name. An environment that is no mix is its own only member.

    Raises:
        InvalidInput: the name is none, or has an environment twice.
    """
    found: list[Member] = []
    for part in name.split("+"):
        read = MEMBER.fullmatch(part)
        if read is None or read[2] == "1":
            remedy = "write environments with + between them, each with *2 to *999 behind it where it has more weight"
            raise InvalidInput("environment", name, remedy)
        if read[1] in (member.environment for member in found):
            remedy = f"{read[1]} is in it twice; name it once, with a weight: {read[1]}*2"
            raise InvalidInput("environment", name, remedy)
        first = found[-1].first + found[-1].weight if found else 0
        found.append(Member(read[1], int(read[2] or 1), first))
    if len(found) == 1 and found[0].weight > 1:
        raise InvalidInput("environment", name, "a weight says something beside other environments only; leave it out")
    return tuple(found)


def block_of(mixed: tuple[Member, ...]) -> int:
    """After so many seeds the places repeat."""
    return mixed[-1].first + mixed[-1].weight


def deal(mixed: tuple[Member, ...], seed: int) -> Dealt:
    """Whose scenario the mix's seed is."""
    owner, own = _owned(mixed, seed)
    return Dealt(owner.environment, own)


def around(mixed: tuple[Member, ...], sizes: Mapping[str, int | None], seed: int) -> int:
    """The mix's seed where a member that has only so many scenarios, one or more, begins anew at its own 0.

    The others' seeds go on, so that an endless member never repeats beside a small one.
    """
    owner, own = _owned(mixed, seed)
    least = sizes[owner.environment]
    return seed if least is None else owner.seed_of(own % least, block_of(mixed))


def size(mixed: tuple[Member, ...], sizes: Mapping[str, int | None]) -> int | None:
    """So many seeds, from 0 on, can be dealt before a member runs out; None where no member ever does."""
    block = block_of(mixed)
    ends = [member.seed_of(least, block) for member in mixed if (least := sizes[member.environment]) is not None]
    return min(ends, default=None)


def _owned(mixed: tuple[Member, ...], seed: int) -> tuple[Member, int]:
    """The member that has the mix's seed, and its own seed."""
    block, place = divmod(seed, block_of(mixed))
    owner = next(member for member in reversed(mixed) if member.first <= place)
    return owner, block * owner.weight + place - owner.first
