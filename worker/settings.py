"""Where the broker is, and what this worker may use."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Literal, Self
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from rl.errors import InvalidSettings
from rl.perimeter import exposed
from rl.secret_files import SecretFiles


class BrokerSettings(SecretFiles, BaseSettings):
    """What anybody who enqueues needs. A variable set to nothing counts as unset."""

    model_config = SettingsConfigDict(env_ignore_empty=True)

    redis_url: str = Field(
        validation_alias="REDIS_URL",
        pattern=r"^rediss?://",
        repr=False,
        description="Redis or Valkey; `rlfleet up` starts one where it is unset",
    )
    env: str = Field("development", validation_alias="RLFLEET_ENV")
    private_network: bool = Field(
        False,
        validation_alias="RLFLEET_PRIVATE_NETWORK",
        description="nobody else is on the network of the servers: production takes Postgres and Redis without TLS",
    )

    @model_validator(mode="after")
    def _is_safe_in_production(self) -> Self:
        if self.env == "production" and (said := exposed(self.redis_url, private=self.private_network)):
            raise ValueError(said)
        return self


class WorkerSettings(SecretFiles, BaseSettings):
    """What a worker needs besides the broker."""

    env: Literal["development", "production", "test"] = Field(
        "development",
        validation_alias="RLFLEET_ENV",
        description="production refuses insecure settings; test allows those that are for tests only",
    )
    artifacts: Path = Field(
        Path(".state/artifacts"), validation_alias="RLFLEET_ARTIFACTS", description="folder of datasets and checkpoints"
    )
    state: Path = Field(Path(".state"), validation_alias="RLFLEET_STATE", description="folder of device locks and logs")
    alive_file: str = Field(
        "",
        validation_alias="RLFLEET_ALIVE_FILE",
        description="file that this worker's main process touches while it goes round, one for each worker",
    )
    device: str = Field(
        "", validation_alias="RLFLEET_DEVICE", description="the device, or devices joined by +, that this worker owns"
    )
    lease_seconds: float = Field(60, gt=0, validation_alias="RLFLEET_LEASE_SECONDS")
    resend_seconds: float = Field(
        20, gt=0, validation_alias="RLFLEET_RESEND_SECONDS", description="a ring that got lost is repeated after this"
    )
    drain_seconds: float = Field(
        30, gt=0, validation_alias="RLFLEET_DRAIN_SECONDS", description="what a task gets to end when its worker stops"
    )
    save_seconds: float = Field(
        600, ge=0, validation_alias="RLFLEET_SAVE_SECONDS", description="a training's state is saved this often"
    )
    stall_seconds: float = Field(
        300, gt=0, validation_alias="RLFLEET_STALL_SECONDS", description="no progress for this long is a stall"
    )
    tick_seconds: float = Field(10, gt=0, validation_alias="RLFLEET_TICK_SECONDS", description="reconciler's period")
    gateway_url: str = Field(
        "http://127.0.0.1:8300",
        validation_alias="RLFLEET_GATEWAY_URL",
        description="where the gateway is that rollouts call",
    )
    gateway_key: str = Field("", validation_alias="RLFLEET_GATEWAY_KEY", repr=False)
    engine_key: str = Field("", validation_alias="RLFLEET_ENGINE_KEY", repr=False)
    log: Literal["text", "json"] = Field(
        "text", validation_alias="RLFLEET_LOG", description="json: one object a line, with job, fence, window and line"
    )
    crash_at: str | None = Field(None, validation_alias="RLFLEET_CRASH_AT", description="tests only: worker/crash.py")
    child: str = Field("gpu.child", validation_alias="RLFLEET_CHILD", description="tests only: the child's module")

    @model_validator(mode="after")
    def _faults_in_tests_alone(self) -> Self:
        if self.env != "test":
            for name, value, usual in (
                ("RLFLEET_CRASH_AT", self.crash_at, None),
                ("RLFLEET_CHILD", self.child, "gpu.child"),
            ):
                if value != usual:
                    raise ValueError(f"{name} is for tests: unset it, or set RLFLEET_ENV=test")
        return self

    @property
    def device_count(self) -> int:
        """How many devices this worker owns; a worker without one counts as one."""
        return self.device.count("+") + 1


@cache
def broker_url() -> str:
    """The broker's URL.

    Raises:
        InvalidSettings: ``REDIS_URL`` is missing or is not a Redis URL, or production must not use it. The URL itself
            is not shown.
    """
    try:
        return BrokerSettings().redis_url
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        if not first["loc"]:
            remedy = f"{first['msg'].removeprefix('Value error, ')}; or set RLFLEET_PRIVATE_NETWORK=true"
        elif first["loc"] == ("RLFLEET_PRIVATE_NETWORK",):
            raise InvalidSettings("RLFLEET_PRIVATE_NETWORK", "<hidden>", "set it to true or false") from None
        else:
            remedy = "set it to redis://:password@host:port/0, or run `rlfleet up`"
        raise InvalidSettings("REDIS_URL", "<hidden>", remedy) from None


def broker_tls(url: str) -> tuple[str, dict[str, object] | Literal[False]]:
    """The URL without what it says of TLS, and that as Celery's ``broker_use_ssl``; False without TLS.

    The certificate and its name are verified unless the URL says otherwise: by itself kombu looks at neither.
    """
    parts = urlsplit(url)
    if parts.scheme != "rediss":
        return url, False
    query = dict(parse_qsl(parts.query))
    given: dict[str, object] = {name: value for name, value in query.items() if name.startswith("ssl_")}
    reqs = str(given.get("ssl_cert_reqs", "required")).lower().removeprefix("cert_")
    checked = reqs == "required" and str(given.get("ssl_check_hostname", "true")).lower() == "true"
    rest = urlencode({name: value for name, value in query.items() if name not in given})
    return urlunsplit(parts._replace(query=rest)), given | {"ssl_cert_reqs": reqs, "ssl_check_hostname": checked}


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
        name = str(first["loc"][0]) if first["loc"] else "RLFLEET_ENV"
        value = first.get("input") if first["loc"] else os.environ.get("RLFLEET_ENV", "development")
        raise InvalidSettings(name, value, str(first["msg"])) from None
