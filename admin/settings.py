"""The admin server's environment variables, read on first use. An empty variable counts as unset."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from rl.errors import InvalidSettings

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class AdminSettings(BaseSettings):
    """Where it listens, what it links to, and how much one caller may ask."""

    model_config = SettingsConfigDict(env_ignore_empty=True, frozen=True, allow_inf_nan=False)

    env: Literal["development", "production", "test"] = Field("development", validation_alias="RLFLEET_ENV")
    log: Literal["text", "json"] = Field(
        "text", validation_alias="RLFLEET_LOG", description="how its log is written; json: one object a line"
    )
    host: str = Field("127.0.0.1", validation_alias="RLFLEET_ADMIN_HOST", description="address to listen on")
    port: int = Field(8400, ge=0, le=65535, validation_alias="RLFLEET_ADMIN_PORT", description="port to listen on")
    state: Path = Field(
        Path(".state"),
        validation_alias="RLFLEET_STATE",
        description="folder of logs; those of workers on this machine are shown beside their jobs",
    )
    secure: bool = Field(
        False,
        validation_alias="RLFLEET_ADMIN_SECURE",
        description="browsers reach it by https alone: cookies are sent nowhere else",
    )
    proxy: str = Field(
        "",
        validation_alias="RLFLEET_ADMIN_PROXY",
        description="proxies, by address, whose word on who asks is taken (X-Forwarded-For); unset: nobody's",
    )
    requests_per_second: float = Field(
        20,
        gt=0,
        validation_alias="RLFLEET_ADMIN_RATE",
        description="what one token may ask for in the long run; ten seconds' worth at once",
    )
    flower_url: str = Field(
        "",
        pattern=r"^(https?://.+)?$",
        validation_alias="RLFLEET_FLOWER_URL",
        description="where people find Flower; unset: no link",
    )
    gateway_url: str = Field(
        "",
        pattern=r"^(https?://.+)?$",
        validation_alias="RLFLEET_GATEWAY_URL",
        description="where the gateway is, whose health is shown; unset: not looked at",
    )
    artifacts: Path = Field(
        Path(".state/artifacts"), validation_alias="RLFLEET_ARTIFACTS", description="folder of datasets and checkpoints"
    )

    def checked(self) -> AdminSettings:
        """These settings.

        Raises:
            InvalidSettings: production on an address that others reach, with cookies that travel in the clear.
        """
        if self.env == "production" and self.host not in LOOPBACK and not self.secure:
            remedy = "put TLS before it and set it to true, or listen on 127.0.0.1 (RLFLEET_ADMIN_HOST)"
            raise InvalidSettings("RLFLEET_ADMIN_SECURE", False, remedy)
        return self


@cache
def settings() -> AdminSettings:
    """The settings of this process.

    Raises:
        InvalidSettings: a variable has a value that cannot be used.
    """
    try:
        return AdminSettings().checked()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InvalidSettings(str(first["loc"][0]), first["input"], first["msg"]) from None
