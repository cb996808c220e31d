"""``python -m db.migrate``: bring the database to the newest schema, safely from several processes at once."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy.exc import OperationalError

from rl.errors import DatabaseUnavailable

LOCK_SECONDS = 10.0
"""How long a migration waits for each lock; while it does, everybody who comes later waits behind it."""
LOCK_NOT_AVAILABLE = "55P03"


def alembic_config() -> Config:
    """Alembic's settings, without an ini file."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    return config


def migrate() -> None:
    """Upgrade to the newest revision; does nothing when it is there already.

    Raises:
        DatabaseUnavailable: the server cannot be reached, or somebody holds a table for long; nothing was changed.
    """
    try:
        command.upgrade(alembic_config(), "head")
    except OperationalError as error:
        if getattr(error.orig, "pgcode", None) == LOCK_NOT_AVAILABLE:
            raise DatabaseUnavailable(
                f"somebody holds a table for longer than {LOCK_SECONDS:g} s, such as a backup; nothing was changed: "
                "run `python -m db.migrate` again when it is over"
            ) from error
        raise DatabaseUnavailable(f"the database did not answer: {str(error.orig).strip().splitlines()[0]}") from error


if __name__ == "__main__":
    migrate()
