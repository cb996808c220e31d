"""What a training waits for where its line does not say."""

from __future__ import annotations

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from rl.errors import InvalidSettings
from rl.readiness import Thresholds


class TrainingSettings(BaseSettings):
    """The thresholds of ``rl.readiness`` as variables. One that is set to nothing counts as unset."""

    model_config = SettingsConfigDict(env_ignore_empty=True)

    min_trajectories: int | None = Field(
        None,
        ge=1,
        validation_alias="TRAINING_MIN_TRAJECTORIES",
        description="trajectories that are scored and not learned from yet",
    )
    min_groups: int | None = Field(
        None,
        ge=0,
        validation_alias="TRAINING_MIN_GROUPS",
        description="scenario groups of enough members, for objectives that compare",
    )
    min_group_size: int | None = Field(
        None, ge=1, validation_alias="TRAINING_MIN_GROUP_SIZE", description="members that a group needs to count"
    )
    min_quality: float | None = Field(
        None,
        ge=0,
        le=1,
        validation_alias="TRAINING_MIN_QUALITY",
        description="usable share of the rows of the last 7 days",
    )
    min_hours_between: float | None = Field(
        None, ge=0, validation_alias="TRAINING_MIN_HOURS_BETWEEN", description="hours since the last training"
    )


def thresholds() -> Thresholds:
    """The built-in thresholds, with the environment's in place of those that it sets.

    Raises:
        InvalidSettings: a variable has a value that cannot be used.
    """
    try:
        found = TrainingSettings()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InvalidSettings(str(first["loc"][0]), first.get("input"), str(first["msg"])) from None
    return Thresholds.model_validate(found.model_dump(exclude_none=True))
