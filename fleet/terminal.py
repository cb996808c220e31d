"""What the files of the ``rlfleet`` command share: where they print, their options, and the way to the servers."""

from __future__ import annotations

import os
from typing import Annotated

import typer
from rich.console import Console

from rl.errors import StartError

console = Console()
errors = Console(stderr=True)

AsJson = Annotated[bool, typer.Option("--json", help="one JSON object on stdout")]


def say(words: object) -> None:
    """Print one line as it is: nothing in it is markup, and it is not broken."""
    console.print(str(words), highlight=False, markup=False, soft_wrap=True)


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
        raise StartError("no fleet runs here: start one with `rlfleet up`, or set DATABASE_URL and REDIS_URL")
    os.environ.setdefault("DATABASE_URL", found.database_url)
    os.environ.setdefault("REDIS_URL", found.redis_url)
