"""What the files of the ``rlfleet`` command share: where they print, their options, and the way to the servers."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console

from rl.errors import StartError

console = Console()
errors = Console(stderr=True)

UNBROKEN = 1000
"""Characters a line may have where nobody looks at it: what is piped to a file or another program is not folded."""

BASE_ANSWERS = "the base model answers all agents, where the gateway has UPSTREAM_BASE_URL; else calls get 503"
"""Who answers where no version of a line does."""

NO_FLEET = "no fleet runs here: start one with `rlfleet up`, or set DATABASE_URL and REDIS_URL"

STOPPED = "stopped; the same command goes on from here"
"""The last words after ctrl-C."""

LARGEST_ID = 2**63 - 1
"""The largest id that a row can have."""

MOST_ROWS = 10_000
"""So many rows a list may be asked for."""

AsJson = Annotated[bool, typer.Option("--json", help="one JSON object on stdout")]


def say(words: object) -> None:
    """Print one line as it is: nothing in it is markup, and it is not broken."""
    console.print(str(words), highlight=False, markup=False, soft_wrap=True)


def tell(as_json: bool, found: Mapping[str, object], words: object) -> None:
    """Print what was found as one JSON object, or in words."""
    if as_json:
        typer.echo(json.dumps({"schema": 1, **found}))
    else:
        say(words)


def wide_console() -> Console:
    """Where tables and trees are printed: a terminal in its width, and without limit what is no terminal."""
    return console if console.is_terminal else Console(width=UNBROKEN)


@contextmanager
def said_on_stop(console: Console, words: str) -> Iterator[None]:
    """Print the words when ctrl-C comes; it goes on its way."""
    try:
        yield
    except KeyboardInterrupt:
        console.print(words, highlight=False, markup=False, soft_wrap=True)
        raise


def connect() -> None:
    """Point this process at the servers: ``DATABASE_URL`` and ``REDIS_URL``, or the fleet that runs here.

    Raises:
        StartError: neither is set and no fleet runs here.
    """
    from fleet.home import home_path, read_endpoints

    if os.environ.get("DATABASE_URL") and os.environ.get("REDIS_URL"):
        return
    found = read_endpoints(home_path(os.environ))
    if found is None:
        raise StartError(NO_FLEET)
    os.environ.setdefault("DATABASE_URL", found.database_url)
    os.environ.setdefault("REDIS_URL", found.redis_url)
