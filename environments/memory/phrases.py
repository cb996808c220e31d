"""Whether a reply says what it should and nothing that it should not, by the phrases that it holds."""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

REFUSALS = (
    "may not",
    "must not",
    "cannot",
    "can not",
    "can t",
    "will not",
    "won t",
    "not allowed",
    "unable",
    "withheld",
)
"""A refusal has one of these, as ``normal`` makes them. A filter in the request has none, so it cannot be echoed."""


def normal(text: str) -> str:
    """Lower case, with one space for whatever is neither letter nor digit, and one at either end."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return f" {' '.join(''.join(sign if sign.isalnum() else ' ' for sign in plain).split())} "


class Terms(NamedTuple):
    """What a reply must hold and must not. All phrases are as ``normal`` makes them."""

    needed: frozenset[str] = frozenset()
    """All of these."""
    allowed: frozenset[str] = frozenset()
    """These may be there: names on the way to what was asked."""
    others: frozenset[str] = frozenset()
    """None of these: all else that the memory holds."""
    values: tuple[re.Pattern[str], ...] = ()
    """Nothing that looks like this, besides what is needed: other values of what was asked."""
    refuses: bool = False
    """One of ``REFUSALS``."""
    asks: bool = False
    """A question mark."""

    def hold(self, reply: str) -> bool:
        """Whether they hold for a reply."""
        text = normal(reply)
        if self.asks and "?" not in reply:
            return False
        if self.refuses and not any(f" {word} " in text for word in REFUSALS):
            return False
        return all(phrase in text for phrase in self.needed) and not self._says_more(text)

    def _says_more(self, text: str) -> bool:
        """A phrase that is part of a permitted one counts only where it stands outside of that."""
        permitted = self.needed | self.allowed
        rest = text
        for phrase in sorted(permitted, key=len, reverse=True):
            rest = re.sub(f"(?<= ){re.escape(phrase.strip())}(?= )", "|", rest)
        for other in self.others:
            part = any(other in phrase for phrase in permitted)
            if other in (rest if part else text):
                return True
        return any(values.search(rest) for values in self.values)
