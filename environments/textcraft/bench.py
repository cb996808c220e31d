"""What an agent has, and what its actions do to it: get, craft, and look at the inventory."""

from __future__ import annotations

import re
from collections import Counter
from typing import NamedTuple

from environments.textcraft.book import Book

FORM = "Reply with one action: get NUMBER ITEM, craft NUMBER ITEM using NUMBER ITEM, NUMBER ITEM, or inventory."
NUMBER = "([1-9][0-9]{0,3})"
GET = re.compile(rf"get {NUMBER} (.+)")
CRAFT = re.compile(rf"craft (?:{NUMBER} )?(.+?) using (.+)")
PART = re.compile(rf"{NUMBER} (.+)")


class Bench(NamedTuple):
    """A book of recipes, and what there is to craft with."""

    book: Book
    have: Counter[str]

    def do(self, action: str) -> str:
        """Take an action, whatever it says, and tell what it led to."""
        said = " ".join(action.lower().split())
        if got := GET.fullmatch(said):
            return self._get(int(got[1]), got[2])
        if crafted := CRAFT.fullmatch(said):
            return self._craft(crafted[2], int(crafted[1] or 1), crafted[3])
        return self.inventory() if said == "inventory" else FORM

    def inventory(self) -> str:
        """What there is, in the order in which it came."""
        return f"You have: {', '.join(f'{number} {item}' for item, number in self.have.items()) or 'nothing'}"

    def _get(self, number: int, item: str) -> str:
        if item in self.book.kinds:
            return self._name_one(item)
        if item in self.book.base:
            self.have[item] += number
            return f"Got {number} {item}"
        return f"{item} has to be crafted" if item in self.book.depths else f"There is no {_short(item)}"

    def _craft(self, item: str, count: int, using: str) -> str:
        given: Counter[str] = Counter()
        for part in using.split(","):
            named = PART.fullmatch(part.strip())
            if named is None:
                return FORM
            given[named[2]] += int(named[1])
        if kinds := sorted(given.keys() & self.book.kinds.keys()):
            return self._name_one(kinds[0])
        if self.book.find(item, count, given) is None:
            return f"No recipe makes {count} {_short(item)} from that"
        if lacking := given - self.have:
            return f"You lack {', '.join(f'{number} {part}' for part, number in lacking.items())}"
        self.have.subtract(given)
        self.have[item] += count
        for part in [part for part, number in self.have.items() if not number]:
            del self.have[part]
        return f"Crafted {count} {item}"

    def _name_one(self, kind: str) -> str:
        return f"{kind} is a kind: name one of {', '.join(self.book.kinds[kind])}"


def _short(name: str) -> str:
    return name if len(name) <= 40 else f"{name[:40]}..."
