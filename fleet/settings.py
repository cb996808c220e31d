"""Where the servers of one machine are, or should be started: the environment variables of this package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rl.errors import InvalidSettings
from rl.secret_files import SECRETS, resolve


class ServerSettings(BaseModel):
    """The variables, each under its own name. A variable that is set to the empty string counts as unset."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    home: Path | None = Field(None, alias="RLFLEET_HOME")
    run_as: str | None = Field(None, alias="RLFLEET_RUN_AS")
    database_url: str | None = Field(None, alias="DATABASE_URL", repr=False)
    redis_url: str | None = Field(None, alias="REDIS_URL", repr=False)
    private_network: bool = Field(False, alias="RLFLEET_PRIVATE_NETWORK")
    postgres_port: int | None = Field(None, alias="RLFLEET_POSTGRES_PORT", ge=1, le=65535)
    redis_port: int | None = Field(None, alias="RLFLEET_REDIS_PORT", ge=1, le=65535)
    postgres_bin: Path | None = Field(None, alias="PG_BIN")
    path: str | None = Field(None, alias="PATH")

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Self:
        """Raises ``InvalidSettings`` for the first variable that cannot be used."""
        try:
            given = dict(environ)
            resolve(given, [str(field.alias) for field in cls.model_fields.values() if field.alias in SECRETS])
            return cls.model_validate({name: value for name, value in given.items() if value})
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise InvalidSettings(str(first["loc"][0]), first["input"], first["msg"]) from None


class PlaySettings(ServerSettings):
    """What `rlfleet play` shows to the server of a model."""

    play_key: str = Field("", alias="RLFLEET_PLAY_KEY", repr=False, description="bearer key of the server played with")


class FleetSettings(ServerSettings):
    """What `rlfleet up` adds to the servers: the devices it uses and the ports that people visit."""

    devices: str | None = Field(
        None, alias="RLFLEET_DEVICES", description="cpu, or GPU UUIDs, comma-separated; + joins those of one worker"
    )
    drain_seconds: float = Field(30, alias="RLFLEET_DRAIN_SECONDS", gt=0)
    gateway_port: int = Field(8300, alias="RLFLEET_GATEWAY_PORT", ge=1, le=65535)
    gateway_drain_seconds: float = Field(20, alias="RLFLEET_GATEWAY_DRAIN_SECONDS", ge=0)
    flower_port: int = Field(
        5555, alias="RLFLEET_FLOWER_PORT", ge=1, le=65535, description="port on 127.0.0.1 where people find Flower"
    )
    flower_read_only: bool = Field(
        True, alias="RLFLEET_FLOWER_READ_ONLY", description="Flower shows, and refuses to change or send anything"
    )
    admin_port: int | None = Field(
        None,
        alias="RLFLEET_ADMIN_PORT",
        ge=1,
        le=65535,
        description="of the admin server; unset: 8400, or any free one where that is taken",
    )
