"""``python -m db.migrate``: bring the database to the newest schema, safely from several processes at once."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy.exc import OperationalError

from rl.errors import DatabaseUnavailable


def alembic_config() -> Config:
    """Alembic's settings, without an ini file."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    return config


def migrate() -> None:
    """Upgrade to the newest revision; does nothing when it is there already.

    Raises:
        DatabaseUnavailable: the server cannot be reached.
    """
    try:
        command.upgrade(alembic_config(), "head")
    except OperationalError as error:
        raise DatabaseUnavailable(f"the database did not answer: {str(error.orig).strip().splitlines()[0]}") from error


if __name__ == "__main__":
    migrate()
