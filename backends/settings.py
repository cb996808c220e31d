"""Which backend trains, the services that it needs, and where versions are published.

A variable set to nothing counts as unset.
"""

from __future__ import annotations

from functools import cache
from typing import Final, Literal

from pydantic import AliasChoices, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from rl.errors import InvalidSettings
from rl.secret_files import SecretFiles

SAFE_FOR_KEYS: Final = r"(?i)^(https://[^/?#@\s]+|http://(127\.0\.0\.1|localhost)(:\d+)?)(/[^?#@\s]*)?$"
"""An address that a key may be sent to: over TLS, or on this machine; without a user, that some read as a host."""
Asked = Literal["local", "trl", "art-serverless", "auto"]


class BackendSettings(BaseSettings):
    """The backend that GPU workers train with."""

    model_config = SettingsConfigDict(env_ignore_empty=True, frozen=True)

    backend: Asked = Field(
        "local",
        validation_alias="TRAIN_BACKEND",
        description="what trains: local, trl, art-serverless, or auto, which says its choice",
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
        raise InvalidSettings("TRAIN_BACKEND", value, "set local, trl, art-serverless or auto") from None


class WandbSettings(SecretFiles, BaseSettings):
    """The account with Weights & Biases that trains (``art-serverless``) and that runs are mirrored to."""

    model_config = SettingsConfigDict(env_ignore_empty=True, frozen=True)

    api_key: str = Field(
        "", validation_alias="WANDB_API_KEY", repr=False, description="key of the account with Weights & Biases"
    )
    entity: str = Field(
        "",
        validation_alias="WANDB_ENTITY",
        pattern=r"^[^/:\s]*$",
        description="the team or user there; unset: the key's own",
    )
    project: str = Field(
        "babylon-rl-training",
        validation_alias="WANDB_PROJECT",
        pattern=r"^[^/:\s]+$",
        description="the project there",
    )


class ArtSettings(BaseSettings):
    """ART's serverless training service."""

    model_config = SettingsConfigDict(env_ignore_empty=True, frozen=True)

    base_url: str = Field(
        "https://api.training.wandb.ai/v1",
        validation_alias="ART_BASE_URL",
        pattern=SAFE_FOR_KEYS,
        description="where the service is that trains with art-serverless, and answers for what it trained",
    )
    deadline_seconds: float = Field(
        7200,
        gt=0,
        validation_alias="ART_DEADLINE_SECONDS",
        description="what the service gets to end a training; then the job fails, and says where to look",
    )


class HubSettings(SecretFiles, BaseSettings):
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
        pattern=SAFE_FOR_KEYS,
        description="where the Hub is: https://, or http:// on this machine alone, without a user's name",
    )


def hub_settings() -> HubSettings:
    """Where to publish, and the token for it.

    Raises:
        InvalidSettings: no token is set, or the address is none.
    """
    try:
        here = HubSettings()
    except ValidationError as error:
        value = str(error.errors(include_url=False)[0].get("input"))
        remedy = "set a URL that begins with https:// (http:// on this machine alone), without a user, or unset it"
        raise InvalidSettings("HF_ENDPOINT", "<hidden>" if "@" in value else value, remedy) from None
    if not here.token:
        raise InvalidSettings(
            "HF_TOKEN", "", f"set it to a token with write access, from {here.endpoint}/settings/tokens"
        )
    return here


class StoreSettings(BaseSettings):
    """The store of checkpoints that hosts share. Its credentials are the clouds' own variables, which it reads."""

    model_config = SettingsConfigDict(env_ignore_empty=True, frozen=True)

    url: str = Field(
        "",
        validation_alias="RLFLEET_STORE",
        pattern=r"^((s3|gs)://[\w.-]+(/[^@?#]*)?|file:///[^?#]*)?$",
        description="where checkpoints are kept for all hosts: s3://bucket/prefix, gs://bucket/prefix or file:///folder",
    )
    seconds: float = Field(
        120,
        gt=0,
        validation_alias="RLFLEET_STORE_SECONDS",
        description="what a training waits at its end for the store to take its checkpoints; the rest is sent later",
    )


def store_settings() -> StoreSettings:
    """Where the store is; ``url`` is empty where there is none.

    Raises:
        InvalidSettings: a variable has a value that cannot be used. A URL is not shown: it may hold a key by mistake.
    """
    try:
        return StoreSettings()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if first["loc"][0] == "RLFLEET_STORE":
            remedy = "set it to s3://bucket/prefix, gs://bucket/prefix or file:///folder, without credentials in it"
            raise InvalidSettings("RLFLEET_STORE", "<hidden>", remedy) from None
        raise InvalidSettings(str(first["loc"][0]), first.get("input"), str(first["msg"])) from None
