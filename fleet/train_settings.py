"""What `rlfleet train` does where its options do not say: the variables that trainers of this kind are run with."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from rl.errors import InvalidSettings


class Mode(StrEnum):
    """What is asked for."""

    SINGLE = "single"
    """One version of the windows that are named."""
    LIST = "list"
    """What windows there are."""
    CONTINUOUS = "continuous"
    """A version of all that waits, whenever it is enough, until somebody stops it."""
    BACKFILL = "backfill"
    """Versions of all hours that the source has in some span of time."""


class TrainSettings(BaseSettings):
    """The variables, each under its own name. One that is set to nothing counts as unset.

    ``window_ids`` may be several, with commas between them. ``backfill_hours`` is how far back a backfill begins.
    """

    model_config = SettingsConfigDict(env_ignore_empty=True)

    mode: Mode | None = Field(None, validation_alias="MODE")
    window_ids: str = Field("", validation_alias="WINDOW_ID")
    backfill_hours: int = Field(72, ge=1, validation_alias="BACKFILL_HOURS")
    poll_seconds: float = Field(60.0, gt=0, validation_alias="POLL_INTERVAL")

    @property
    def windows(self) -> list[str]:
        """The window ids."""
        return [name.strip() for name in self.window_ids.split(",") if name.strip()]


def train_settings() -> TrainSettings:
    """The settings of this process.

    Raises:
        InvalidSettings: a variable has a value that cannot be used.
    """
    try:
        return TrainSettings()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InvalidSettings(str(first["loc"][0]), first.get("input"), str(first["msg"])) from None
