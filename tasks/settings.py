"""Whom alerts are sent to, and what is worth one."""

from __future__ import annotations

import re
from functools import cache
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from rl.errors import InvalidSettings
from rl.secret_files import SecretFiles

SECRETS = {"RLFLEET_ALERT_WEBHOOK", "RLFLEET_ALERT_TOKEN", "RLFLEET_SMTP_URL"}
ADDRESS = re.compile(r"[^@\s,<>]+@[^@\s,<>]+")


class AlertSettings(SecretFiles, BaseSettings):
    """The channels, the circuit breaker, and how long a job may wait. A variable set to nothing counts as unset."""

    model_config = SettingsConfigDict(env_ignore_empty=True)

    webhook: SecretStr | None = Field(
        None, validation_alias="RLFLEET_ALERT_WEBHOOK", description="URL that alerts are posted to; its path is secret"
    )
    token: SecretStr | None = Field(
        None, validation_alias="RLFLEET_ALERT_TOKEN", description="bearer token shown to the webhook"
    )
    smtp_url: SecretStr | None = Field(
        None,
        validation_alias="RLFLEET_SMTP_URL",
        description="mail server: smtp://user:password@host:587, or smtps:// for TLS from the first byte",
    )
    mail_from: str = Field("", validation_alias="RLFLEET_ALERT_FROM", description="address that alerts are sent from")
    mail_to: str = Field("", validation_alias="RLFLEET_ALERT_TO", description="addresses they go to, comma-separated")
    admin_url: str = Field(
        "",
        pattern=r"^(https?://.+)?$",
        validation_alias="RLFLEET_ADMIN_URL",
        description="where people find the admin pages; unset: e-mails have no links",
    )
    queue_seconds: float = Field(
        3600,
        gt=0,
        validation_alias="RLFLEET_ALERT_QUEUE_SECONDS",
        description="a due job that waits longer is an alert",
    )
    pause_dead: int = Field(
        5, ge=1, validation_alias="RLFLEET_PAUSE_DEAD", description="so many deaths of one kind pause it"
    )
    pause_minutes: int = Field(
        15, ge=1, validation_alias="RLFLEET_PAUSE_MINUTES", description="when they come within this time"
    )

    @field_validator("webhook")
    @classmethod
    def _is_an_address(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(("http://", "https://")):
            raise ValueError("set it to an http:// or https:// URL, or unset it")
        return value

    @field_validator("token")
    @classmethod
    def _fits_a_header(cls, value: SecretStr | None) -> SecretStr | None:
        said = value.get_secret_value() if value is not None else ""
        if not (said.isascii() and said.isprintable()) or " " in said:
            raise ValueError("set it to ASCII letters, digits and punctuation without spaces, or unset it")
        return value

    @field_validator("smtp_url")
    @classmethod
    def _is_a_mail_server(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            try:
                url = urlsplit(value.get_secret_value())
                port = url.port
            except ValueError:
                url, port = urlsplit(""), None
            if url.scheme not in ("smtp", "smtps") or not url.hostname or port == 0:
                raise ValueError("set it to smtp://user:password@host:587 or smtps://..., or unset it")
        return value

    @field_validator("mail_from", "mail_to")
    @classmethod
    def _are_addresses(cls, value: str) -> str:
        for one in filter(None, map(str.strip, value.split(","))):
            if not ADDRESS.fullmatch(one):
                raise ValueError("set it to addresses such as ops@example.org, comma-separated")
        return value

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if self.smtp_url is not None and not (self.mail_from and self.mail_to):
            raise ValueError("RLFLEET_SMTP_URL needs RLFLEET_ALERT_FROM and RLFLEET_ALERT_TO: set both, or unset it")
        return self

    @property
    def recipients(self) -> list[str]:
        """The addresses that alerts are sent to."""
        return [one.strip() for one in self.mail_to.split(",") if one.strip()]

    @property
    def channels(self) -> list[str]:
        """``webhook``, ``mail``, both or none: where alerts go."""
        ways = {"webhook": self.webhook, "mail": self.smtp_url}
        return [name for name, where in ways.items() if where is not None]


@cache
def alert_settings() -> AlertSettings:
    """The settings of this process, read on first use.

    Raises:
        InvalidSettings: a variable has a value that cannot be used. A secret's value is not shown.
    """
    try:
        return AlertSettings()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0]) if first["loc"] else "RLFLEET_SMTP_URL"
        raise InvalidSettings(name, "<hidden>" if name in SECRETS else first.get("input"), str(first["msg"])) from None
