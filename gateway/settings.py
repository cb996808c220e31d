"""The gateway's environment variables, read on first use. An empty variable counts as unset."""

from __future__ import annotations

import os
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from gateway.configured import Server, Url, of_base, read
from rl.errors import InvalidSettings
from rl.secret_files import SecretFiles


class Capture(StrEnum):
    """When an answer counts as recorded. One that cannot be is not given: what nobody stored is lost for ever."""

    SPOOLED = "spooled"
    """Once it is in the spool, on this machine's disk; it is stored soon after."""
    REQUIRED = "required"
    """Once the database has committed it."""
    OFF = "off"
    """It is given, and nothing is recorded, whether or not the database answers."""


class GatewaySettings(SecretFiles, BaseSettings):
    """Who may call, where engines and the base model are, and which version answers.

    For a call of a line, in this order: ``USE_RL_MODEL`` off sends it to the base model; ``RL_MODEL_VERSION``
    pins it; otherwise the line's release rows decide. A call of an exact version gets that version.
    """

    model_config = SettingsConfigDict(env_ignore_empty=True, frozen=True, allow_inf_nan=False)

    env: Literal["development", "production", "test"] = Field("development", validation_alias="RLFLEET_ENV")
    log: Literal["text", "json"] = Field(
        "text", validation_alias="RLFLEET_LOG", description="how its log is written; json: one object a line"
    )
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
        description="bearer keys, comma-separated; none: programs on loopback only, and refused in production",
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
    upstream_base_url: Url = Field(
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
    upstreams: Path | None = Field(
        None,
        validation_alias="RLFLEET_UPSTREAMS",
        description="TOML file of servers that may answer beside our engines; its format is in docs/gateway.md",
    )
    openpipe_api_key: str = Field(
        "", validation_alias="OPENPIPE_API_KEY", repr=False, description="key of upstreams of kind openpipe"
    )
    wandb_api_key: str = Field(
        "", validation_alias="WANDB_API_KEY", repr=False, description="key of upstreams of kind wandb"
    )
    artifacts: Path = Field(
        Path(".state/artifacts"), validation_alias="RLFLEET_ARTIFACTS", description="folder of datasets and checkpoints"
    )
    capture: Capture = Field(
        Capture.SPOOLED,
        validation_alias="RLFLEET_CAPTURE",
        description="spooled: on disk before the answer, stored soon after; required: stored before it; off: never",
    )
    state: Path = Field(Path(".state"), validation_alias="RLFLEET_STATE", description="folder on this machine")
    spool_dir: Path | None = Field(
        None,
        validation_alias="RLFLEET_SPOOL_DIR",
        description="this gateway's own folder of calls that are not stored yet; unset: gateway in RLFLEET_STATE",
    )
    spool_mb: int = Field(
        1024,
        ge=1,
        validation_alias="RLFLEET_SPOOL_MB",
        description="MiB of calls that may wait for the database; beyond that a caller gets a 503",
    )
    drain_seconds: float = Field(
        20.0,
        ge=0,
        validation_alias="RLFLEET_GATEWAY_DRAIN_SECONDS",
        description="what answers under way get to end when the gateway is told to stop",
    )

    ingest_waiting: int = Field(
        32,
        ge=1,
        validation_alias="RLFLEET_INGEST_WAITING",
        description="reports of agents held in memory until they are stored; beyond that a caller gets a 429",
    )

    most_mb: int = Field(
        16,
        ge=1,
        validation_alias="RLFLEET_GATEWAY_MOST_MB",
        description="a request for a completion that is larger gets a 413: several times the longest context as text",
    )
    body_seconds: float = Field(
        60,
        gt=0,
        validation_alias="RLFLEET_GATEWAY_BODY_SECONDS",
        description="a request whose body takes longer gets a 408: 16 MiB come in 14 s at 10 Mbit/s",
    )
    first_byte_seconds: float = Field(
        30,
        gt=0,
        validation_alias="RLFLEET_FIRST_BYTE_SECONDS",
        description="an engine that says nothing for so long is given up: longer than a full queue, shorter than a "
        "caller's patience",
    )
    answer_seconds: float = Field(
        120,
        gt=0,
        validation_alias="RLFLEET_ANSWER_SECONDS",
        description="a whole answer takes no longer: an engine that hangs but says that it lives is given up then, "
        "while the caller still waits; raise it for generations that last longer",
    )
    breaker_failures: int = Field(
        5,
        ge=1,
        validation_alias="RLFLEET_BREAKER_FAILURES",
        description="an engine that fails a version so often in a row is not asked for a while: more than chance, and "
        "few callers wait",
    )
    breaker_seconds: float = Field(
        10,
        gt=0,
        validation_alias="RLFLEET_BREAKER_SECONDS",
        description="for how long; then one call at a time tries it again: about as long as an engine takes to start",
    )

    @property
    def keys(self) -> tuple[bytes, ...]:
        """The configured bearer keys."""
        return tuple(key.strip().encode() for key in self.gateway_keys.split(",") if key.strip())

    @property
    def spool_folder(self) -> Path:
        """Where captured calls wait for the database."""
        return self.spool_dir or self.state / "gateway"

    @property
    def releases_file(self) -> Path | None:
        """The last known releases, to begin with while the database is away; None where they are not kept."""
        return self.spool_folder / "releases.json" if self.capture is Capture.SPOOLED else None

    @property
    def use_rl_model(self) -> bool:
        """Whether a line may be answered by a version of ours at all."""
        return self.env != "production" if self.rl_model_switch is None else self.rl_model_switch

    def lacking(self) -> list[InvalidSettings]:
        """What production lacks: bearer keys, or the engines' key."""
        if self.env != "production":
            return []
        lacks = []
        if not self.keys:
            remedy = "set at least one bearer key; without one production would be open"
            lacks.append(InvalidSettings("RLFLEET_GATEWAY_KEYS", "", remedy))
        if not self.engine_key:
            remedy = "set the engines' bearer key; without one production's engines would be open"
            lacks.append(InvalidSettings("RLFLEET_ENGINE_KEY", "", remedy))
        return lacks

    def servers(self) -> tuple[Server, ...]:
        """The upstreams in their order: that of ``UPSTREAM_BASE_URL``, then those of the file.

        Raises:
            InvalidSettings: a URL or the file cannot be used, or a variable with a key is not set.
        """
        url, key, model = self.upstream_base_url, self.upstream_api_key, self.upstream_model
        first = (of_base(url, key, model),) if url else ()
        if self.upstreams is None:
            return first
        ours = {str(field.validation_alias): getattr(self, name) for name, field in type(self).model_fields.items()}
        given = {name: value for name, value in ours.items() if isinstance(value, str)}
        others = {name: value for name, value in os.environ.items() if name.removesuffix("_FILE") not in given}
        return first + read(self.upstreams, others | given)

    def unusable(self) -> list[InvalidSettings]:
        """What is wrong with the upstreams."""
        try:
            self.servers()
        except InvalidSettings as error:
            return [error]
        return []

    def checked(self) -> GatewaySettings:
        """These settings.

        Raises:
            InvalidSettings: production without bearer keys, or without the engines' key.
        """
        for lack in self.lacking():
            raise lack
        return self


@cache
def settings() -> GatewaySettings:
    """The settings of this process.

    Raises:
        InvalidSettings: a variable has a value that cannot be used, or production lacks a key.
    """
    for problem in problems():
        raise problem
    return GatewaySettings()


def problems() -> list[InvalidSettings]:
    """All that is wrong with the environment's variables, one by one; no secret is shown."""
    try:
        given = GatewaySettings()
        return given.lacking() + given.unusable()
    except InvalidSettings as error:  # of a file with a secret
        return [error]
    except ValidationError as error:
        fields = {str(field.validation_alias): field for field in GatewaySettings.model_fields.values()}
        wrong = {str(one["loc"][0]): one for one in error.errors(include_url=False)}
        found = []
        for name, one in wrong.items():
            found.append(
                InvalidSettings(name, _shown(one["input"]), f"{_said(one['msg'])} ({fields[name].description})")
            )
        # The defaults of what is wrong stand in for it, so that what else is wrong is seen too.
        return found + GatewaySettings(**{name: fields[name].default for name in wrong}).lacking()


def _said(message: str) -> str:
    return message.removeprefix("Value error, ")


def _shown(value: object) -> object:
    """The value, unless it may hold a password: an address can."""
    return "<hidden>" if "@" in str(value) else value
