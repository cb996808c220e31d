"""The gateway's environment variables, read on first use. An empty variable counts as unset."""

from __future__ import annotations

from enum import StrEnum
from functools import cache
from typing import Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from rl.errors import InvalidSettings


class Capture(StrEnum):
    """What becomes of an answer that cannot be recorded."""

    REQUIRED = "required"
    """It is not given: 503, because on-policy data that nobody stored is lost for ever."""
    OFF = "off"
    """It is given, and nothing is recorded, whether or not the database answers."""


class GatewaySettings(BaseSettings):
    """Who may call, where engines and the base model are, and which version answers.

    For a call of a line, in this order: ``USE_RL_MODEL`` off sends it to the base model; ``RL_MODEL_VERSION``
    pins it; otherwise the line's release rows decide. A call of an exact version gets that version.
    """

    model_config = SettingsConfigDict(env_ignore_empty=True, frozen=True)

    env: Literal["development", "production", "test"] = Field("development", validation_alias="RLFLEET_ENV")
    gateway_host: str = Field(
        "127.0.0.1", validation_alias="RLFLEET_GATEWAY_HOST", description="address to listen on, for the launcher"
    )
    gateway_port: int = Field(
        8300, ge=0, le=65535, validation_alias="RLFLEET_GATEWAY_PORT", description="port to listen on, for the launcher"
    )
    gateway_keys: str = Field(
        "",
        validation_alias="RLFLEET_GATEWAY_KEYS",
        repr=False,
        description="bearer keys, comma-separated; none: callers on loopback only, and refused in production",
    )
    engine_key: str = Field(
        "",
        validation_alias="RLFLEET_ENGINE_KEY",
        repr=False,
        description="bearer key that the engines ask for; refused when empty in production",
    )
    rl_model_switch: bool | None = Field(
        None,
        validation_alias="USE_RL_MODEL",
        description="kill switch: false sends every line to the base model; unset: on, but off in production",
    )
    pinned_version: str = Field(
        "", validation_alias="RL_MODEL_VERSION", description="answer this ready version's line with it alone"
    )
    fallback_to_base: bool = Field(
        True,
        validation_alias="RL_FALLBACK_TO_BASE",
        description="when no engine or no released version can answer, ask the base model, if one is configured",
    )
    rollout_percentage: float = Field(
        100,
        ge=0,
        le=100,
        validation_alias="RL_ROLLOUT_PERCENTAGE",
        description="no more than this percentage of agents gets our versions, whatever the releases say",
    )
    upstream_base_url: str = Field(
        "",
        pattern=r"^(https?://.+)?$",
        validation_alias="UPSTREAM_BASE_URL",
        description="OpenAI-compatible server of the base model, with its /v1; none: there is no base model",
    )
    upstream_api_key: str = Field(
        "", validation_alias="UPSTREAM_API_KEY", repr=False, description="bearer key of the base model's server"
    )
    upstream_model: str = Field(
        "", validation_alias="UPSTREAM_MODEL", description="the base model's name there; unset: the line's base model"
    )
    capture: Capture = Field(
        Capture.REQUIRED,
        validation_alias="RLFLEET_CAPTURE",
        description="required: an answer that cannot be recorded becomes a 503; off: nothing is recorded",
    )

    ingest_waiting: int = Field(
        32,
        ge=1,
        validation_alias="RLFLEET_INGEST_WAITING",
        description="reports of agents held in memory until they are stored; beyond that a caller gets a 429",
    )

    @property
    def keys(self) -> tuple[bytes, ...]:
        """The configured bearer keys."""
        return tuple(key.strip().encode() for key in self.gateway_keys.split(",") if key.strip())

    @property
    def use_rl_model(self) -> bool:
        """Whether a line may be answered by a version of ours at all."""
        return self.env != "production" if self.rl_model_switch is None else self.rl_model_switch

    def checked(self) -> GatewaySettings:
        """These settings.

        Raises:
            InvalidSettings: production without bearer keys, or without the engines' key.
        """
        if self.env == "production" and not self.keys:
            raise InvalidSettings(
                "RLFLEET_GATEWAY_KEYS", "", "set at least one bearer key; without one production would be open"
            )
        if self.env == "production" and not self.engine_key:
            raise InvalidSettings(
                "RLFLEET_ENGINE_KEY", "", "set the engines' bearer key; without one production's engines would be open"
            )
        return self


@cache
def settings() -> GatewaySettings:
    """The settings of this process.

    Raises:
        InvalidSettings: a variable has a value that cannot be used, or production lacks a key.
    """
    try:
        return GatewaySettings().checked()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InvalidSettings(str(first["loc"][0]), first.get("input"), str(first["msg"])) from None
