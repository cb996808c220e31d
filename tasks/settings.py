"""Whom alerts are sent to, and what is worth one."""

from __future__ import annotations

from functools import cache

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from rl.errors import InvalidSettings

SECRETS = {"RLFLEET_ALERT_WEBHOOK", "RLFLEET_ALERT_TOKEN"}


class AlertSettings(BaseSettings):
    """The webhook, the circuit breaker, and how long a job may wait. A variable set to nothing counts as unset."""

    model_config = SettingsConfigDict(env_ignore_empty=True)

    webhook: SecretStr | None = Field(
        None, validation_alias="RLFLEET_ALERT_WEBHOOK", description="URL that alerts are posted to; its path is secret"
    )
    token: SecretStr | None = Field(
        None, validation_alias="RLFLEET_ALERT_TOKEN", description="bearer token shown to the webhook"
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
        name = str(first["loc"][0])
        raise InvalidSettings(name, "<hidden>" if name in SECRETS else first.get("input"), str(first["msg"])) from None
