"""Where the database is."""

from __future__ import annotations

from functools import cache

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings

from rl.errors import InvalidSettings


class DatabaseSettings(BaseSettings):
    """``DATABASE_URL``: a ``postgresql://`` or ``postgresql+psycopg2://`` URL."""

    database_url: str = Field(
        validation_alias="DATABASE_URL",
        pattern=r"^postgres(ql)?(\+psycopg2)?://",
        repr=False,
        description="Postgres; `rlfleet up` starts one where it is unset",
    )

    @property
    def sqlalchemy_url(self) -> str:
        """The same URL with the driver named, as SQLAlchemy wants it."""
        _, rest = self.database_url.split("://", 1)
        return f"postgresql+psycopg2://{rest}"


@cache
def settings() -> DatabaseSettings:
    """The settings of this process, read on first use.

    Raises:
        InvalidSettings: ``DATABASE_URL`` is missing or is not a Postgres URL. The URL itself is not shown.
    """
    try:
        return DatabaseSettings()
    except ValidationError:
        raise InvalidSettings(
            "DATABASE_URL", "<hidden>", "set it to postgresql://user:password@host:port/name, or run `rlfleet up`"
        ) from None
