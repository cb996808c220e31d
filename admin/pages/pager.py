"""Where the pages before and after one are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode


@dataclass(frozen=True)
class Pager:
    """Links to the pages ``before`` and ``after``; empty: there is none."""

    before: str
    after: str
    number: int
    pages: int


def pager(path: str, where: Mapping[str, str], at: int, of: int, size: int) -> Pager:
    """Page ``at``, from 1 on, of ``of`` things, ``size`` a page; ``where`` is what the query has besides."""
    pages = max(1, -(-of // size))
    kept = {key: value for key, value in where.items() if value}

    def link(number: int) -> str:
        return f"{path}?{urlencode(kept | {'page': number})}" if 1 <= number <= pages and number != at else ""

    return Pager(link(at - 1), link(at + 1), at, pages)
