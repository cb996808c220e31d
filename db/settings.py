"""Where the database is."""

from __future__ import annotations

import os
from functools import cache
from typing import Self

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from rl.errors import InvalidSettings
from rl.perimeter import exposed
from rl.secret_files import SecretFiles


class DatabaseSettings(SecretFiles, BaseSettings):
    """``DATABASE_URL``: a ``postgresql://`` or ``postgresql+psycopg2://`` URL. One set to nothing counts as unset."""

    model_config = SettingsConfigDict(env_ignore_empty=True)

    database_url: str = Field(
        validation_alias="DATABASE_URL",
        pattern=r"^postgres(ql)?(\+psycopg2)?://",
        repr=False,
        description="Postgres; `rlfleet up` starts one where it is unset",
    )
    env: str = Field("development", validation_alias="RLFLEET_ENV")
    private_network: bool = Field(False, validation_alias="RLFLEET_PRIVATE_NETWORK")

    @model_validator(mode="after")
    def _is_safe_in_production(self) -> Self:
        if self.env == "production":
            said = exposed(self.database_url, private=self.private_network, environ=os.environ)
            if said is not None:
                raise ValueError(said)
        return self

    @property
    def sqlalchemy_url(self) -> str:
        """The same URL with the driver named, as SQLAlchemy wants it."""
        _, rest = self.database_url.split("://", 1)
        return f"postgresql+psycopg2://{rest}"


@cache
def settings() -> DatabaseSettings:
    """The settings of this process, read on first use.

    Raises:
        InvalidSettings: ``DATABASE_URL`` is missing or is not a Postgres URL, or production must not use it. The URL
            itself is not shown.
    """
    try:
        return DatabaseSettings()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        if not first["loc"]:
            remedy = f"{first['msg'].removeprefix('Value error, ')}; or set RLFLEET_PRIVATE_NETWORK=true"
        elif first["loc"] == ("RLFLEET_PRIVATE_NETWORK",):
            raise InvalidSettings("RLFLEET_PRIVATE_NETWORK", "<hidden>", "set it to true or false") from None
        else:
            remedy = "set it to postgresql://user:password@host:port/name, or run `rlfleet up`"
        raise InvalidSettings("DATABASE_URL", "<hidden>", remedy) from None
