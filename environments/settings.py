"""The environments' environment variables, read on first use. An empty variable counts as unset."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from rl.errors import InvalidSettings


class EnvironmentSettings(BaseSettings):
    """How code is run that a model wrote, and where data is that environments play."""

    model_config = SettingsConfigDict(env_ignore_empty=True, frozen=True)

    sandbox: Literal["bubblewrap", "namespaces", "rlimits"] = Field(
        "namespaces",
        validation_alias="RLFLEET_SANDBOX",
        description="the least that a sandbox must be, or code is refused: bubblewrap, namespaces or rlimits",
    )
    webshop_data: Path | None = Field(
        None,
        validation_alias="RLFLEET_WEBSHOP_DATA",
        description="folder of the published WebShop files, for webshop-original",
    )
    alfworld_data: Path | None = Field(
        None,
        validation_alias="ALFWORLD_DATA",
        description="folder that alfworld-download filled, for alfworld-real; ~/.cache/alfworld where it is not set",
    )
    programs_data: Path | None = Field(
        None,
        validation_alias="RLFLEET_PROGRAMS_DATA",
        description="file of programs, JSON lines or Parquet as rl-python has, for abd-public and ded-public",
    )
    sciworld_jvms: int = Field(
        2,
        ge=1,
        le=64,
        validation_alias="RLFLEET_SCIWORLD_JVMS",
        description="Java processes at most for each process that plays sciworld; each takes 300 to 500 MB",
    )


@cache
def settings() -> EnvironmentSettings:
    """The settings of this process.

    Raises:
        InvalidSettings: a variable has a value that cannot be used.
    """
    try:
        return EnvironmentSettings()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InvalidSettings(str(first["loc"][0]), first.get("input"), str(first["msg"])) from None
