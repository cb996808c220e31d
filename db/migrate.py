"""``python -m db.migrate``: bring the database to the newest schema, safely from several processes at once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.exc import OperationalError, ProgrammingError

from db.session import INSUFFICIENT_PRIVILEGE, PATIENCE_SECONDS, transaction
from rl.errors import DatabaseUnavailable, InvalidSettings

LOCK_SECONDS = 10.0
"""How long a migration waits for each lock; while it does, everybody who comes later waits behind it."""
LOCK_NOT_AVAILABLE = "55P03"


def alembic_config() -> Config:
    """Alembic's settings, without an ini file."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    return config


@dataclass(frozen=True)
class Revision:
    """The schema's revision in the database, None without tables of ours, and the newest that this code knows."""

    current: str | None
    newest: str

    @property
    def is_newest(self) -> bool:
        """Whether there is nothing to do."""
        return self.current == self.newest


def revision(patience: float = PATIENCE_SECONDS) -> Revision:
    """Where the database stands.

    Raises:
        DatabaseUnavailable: it does not answer within ``patience`` seconds.
        DatabaseRefused: the login of ``DATABASE_URL`` may not read it.
    """
    with transaction(patience) as session:
        there = session.scalar(text("select to_regclass('rlfleet.alembic_version')"))
        current = session.scalar(text("select version_num from rlfleet.alembic_version")) if there else None
    return Revision(current, newest())


@cache
def newest() -> str:
    """The newest revision that this code knows."""
    return str(ScriptDirectory.from_config(alembic_config()).get_current_head())


def migrate() -> None:
    """Upgrade to the newest revision; does nothing when it is there already.

    Raises:
        DatabaseUnavailable: the server cannot be reached, or somebody holds a table for long; nothing was changed.
        InvalidSettings: who logs in by ``DATABASE_URL`` may not change the schema, or may not give the roles their
            rights where they had some; nothing was changed.
    """
    try:
        command.upgrade(alembic_config(), "head")
    except ProgrammingError as error:
        if getattr(error.orig, "pgcode", None) != INSUFFICIENT_PRIVILEGE:
            raise
        said = str(error.orig).strip().splitlines()[0]
        remedy = f"{said}: migrate as a member of rlfleet_migrate, or as who owns what it names (docs/perimeter.md)"
        raise InvalidSettings("DATABASE_URL", "<hidden>", remedy) from error
    except OperationalError as error:
        if getattr(error.orig, "pgcode", None) == LOCK_NOT_AVAILABLE:
            raise DatabaseUnavailable(
                f"somebody holds a table for longer than {LOCK_SECONDS:g} s, such as a backup; nothing was changed: "
                "run `rlfleet migrate` again when it is over"
            ) from error
        raise DatabaseUnavailable(f"the database did not answer: {str(error.orig).strip().splitlines()[0]}") from error


if __name__ == "__main__":
    migrate()
