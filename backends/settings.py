"""Which backend trains. A variable set to nothing counts as unset."""

from __future__ import annotations

from functools import cache
from typing import Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from rl.errors import InvalidSettings

Asked = Literal["local", "trl", "auto"]
PLANNED = ("art-serverless",)
"""Names that documentation elsewhere knows, and that no backend answers to."""


class BackendSettings(BaseSettings):
    """The backend that GPU workers train with."""

    model_config = SettingsConfigDict(env_ignore_empty=True, frozen=True)

    backend: Asked = Field(
        "local", validation_alias="TRAIN_BACKEND", description="what trains: local, trl, or auto, which says its choice"
    )


@cache
def settings() -> BackendSettings:
    """The settings of this process, read on first use.

    Raises:
        InvalidSettings: no backend has that name.
    """
    try:
        return BackendSettings()
    except ValidationError as error:
        value = error.errors(include_url=False)[0].get("input")
        remedy = "not available yet in this version; set local, trl or auto" if value in PLANNED else None
        raise InvalidSettings("TRAIN_BACKEND", value, remedy or "set local, trl or auto") from None
