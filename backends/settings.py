"""Which backend trains, and where versions are published. A variable set to nothing counts as unset."""

from __future__ import annotations

from functools import cache
from typing import Literal

from pydantic import AliasChoices, Field, ValidationError
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


class HubSettings(BaseSettings):
    """The Hugging Face Hub that versions are published to."""

    model_config = SettingsConfigDict(env_ignore_empty=True, frozen=True)

    token: str = Field(
        "",
        validation_alias=AliasChoices("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"),
        repr=False,
        description="token of the Hub: with write access for `rlfleet publish`, to read for models that are not public",
    )
    endpoint: str = Field(
        "https://huggingface.co",
        validation_alias="HF_ENDPOINT",
        pattern=r"^https?://",
        description="where the Hub is",
    )


def hub_settings() -> HubSettings:
    """Where to publish, and the token for it.

    Raises:
        InvalidSettings: no token is set, or the address is none.
    """
    try:
        here = HubSettings()
    except ValidationError as error:
        value = error.errors(include_url=False)[0].get("input")
        raise InvalidSettings("HF_ENDPOINT", value, "set a URL that begins with https://, or leave it unset") from None
    if not here.token:
        raise InvalidSettings(
            "HF_TOKEN", "", f"set it to a token with write access, from {here.endpoint}/settings/tokens"
        )
    return here
