"""Where the broker is, and what this worker may use."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings

from rl.errors import InvalidSettings


class BrokerSettings(BaseSettings):
    """What anybody who enqueues needs."""

    redis_url: str = Field(validation_alias="REDIS_URL", pattern=r"^rediss?://")


class WorkerSettings(BaseSettings):
    """What a worker needs besides the broker."""

    env: str = Field("development", validation_alias="RLFLEET_ENV", description="development or production")
    artifacts: Path = Field(
        Path(".state/artifacts"), validation_alias="RLFLEET_ARTIFACTS", description="folder of datasets and checkpoints"
    )
    state: Path = Field(Path(".state"), validation_alias="RLFLEET_STATE", description="folder of device locks and logs")
    device: str = Field("", validation_alias="RLFLEET_DEVICE", description="the device this GPU worker owns")
    lease_seconds: float = Field(60, gt=0, validation_alias="RLFLEET_LEASE_SECONDS")
    stall_seconds: float = Field(
        300, gt=0, validation_alias="RLFLEET_STALL_SECONDS", description="no progress for this long is a stall"
    )
    tick_seconds: float = Field(10, gt=0, validation_alias="RLFLEET_TICK_SECONDS", description="reconciler's period")
    gateway_url: str = Field("http://127.0.0.1:8300", validation_alias="RLFLEET_GATEWAY_URL")
    gateway_key: str = Field("", validation_alias="RLFLEET_GATEWAY_KEY")
    engine_key: str = Field("", validation_alias="RLFLEET_ENGINE_KEY")


@cache
def broker_url() -> str:
    """The broker's URL.

    Raises:
        InvalidSettings: ``REDIS_URL`` is missing or is not a Redis URL. The URL itself is not shown.
    """
    try:
        return BrokerSettings().redis_url
    except ValidationError:
        raise InvalidSettings(
            "REDIS_URL", "<hidden>", "set it to redis://:password@host:port/0, or run `rlfleet up`"
        ) from None


@cache
def settings() -> WorkerSettings:
    """The settings of this process, read on first use.

    Raises:
        InvalidSettings: a variable has a value that cannot be used.
    """
    try:
        return WorkerSettings()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0])
        raise InvalidSettings(name, first.get("input"), str(first["msg"])) from None
