"""Which sinks runs are copied to, and how. A variable set to nothing counts as unset."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from backends.settings import SAFE_FOR_KEYS, WandbSettings
from rl.errors import InvalidSettings

NAMES: Final = ("jsonl", "tensorboard", "wandb")
NONE: Final = "none"


class SinkSettings(BaseSettings):
    """The sinks, the folder of those that write files, and how Weights & Biases is spoken to."""

    model_config = SettingsConfigDict(env_ignore_empty=True, frozen=True)

    sinks: str = Field(
        "",
        validation_alias="RLFLEET_SINKS",
        description="where runs are copied to: jsonl, tensorboard, wandb, comma-separated, or none; unset: jsonl, and "
        "wandb where a key or WANDB_MODE=offline is set",
    )
    metrics: Path | None = Field(
        None,
        validation_alias="RLFLEET_METRICS",
        description="folder of the sinks jsonl and tensorboard; unset: metrics in RLFLEET_ARTIFACTS",
    )
    wandb_mode: Literal["online", "offline", "disabled"] = Field(
        "online",
        validation_alias="WANDB_MODE",
        description="offline: runs are recorded on this machine and not sent, which needs no key; disabled: neither",
    )
    wandb_url: str = Field(
        "https://api.wandb.ai",
        validation_alias="WANDB_BASE_URL",
        pattern=SAFE_FOR_KEYS,
        description="where the API of Weights & Biases is, such as your own server; https, as the key goes there",
    )
    wandb_seconds: float = Field(
        1800,
        gt=0,
        validation_alias="RLFLEET_WANDB_SECONDS",
        description="what sending one run with its model may take; then it is given up, and tried again later",
    )

    @field_validator("sinks")
    @classmethod
    def _are_known(cls, value: str) -> str:
        named = [one.strip() for one in value.split(",") if one.strip()]
        if named != [NONE] and not set(named) <= set(NAMES):
            raise ValueError(f"set it to some of {', '.join(NAMES)}, or to {NONE}")
        return value


@cache
def sink_settings() -> SinkSettings:
    """The settings of this process, read on first use.

    Raises:
        InvalidSettings: a variable has a value that cannot be used.
    """
    try:
        return SinkSettings()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if (name := str(first["loc"][0])) == "WANDB_BASE_URL":  # may have a password in it
            remedy = (
                "set an https:// address without a user in it (http:// only of this machine): the key is sent there"
            )
            raise InvalidSettings(name, "<hidden>", remedy) from None
        raise InvalidSettings(name, first.get("input"), str(first["msg"])) from None


def wandb_account() -> WandbSettings:
    """The account with Weights & Biases, read anew.

    Raises:
        InvalidSettings: a variable has a value that cannot be used. The key is not shown.
    """
    try:
        return WandbSettings()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0])
        shown = "<hidden>" if name == "WANDB_API_KEY" else first.get("input")
        raise InvalidSettings(name, shown, str(first["msg"])) from None


def chosen() -> list[str]:
    """The names of the sinks that runs are copied to.

    Raises:
        InvalidSettings: a variable has a value that cannot be used.
    """
    here = sink_settings()
    if here.wandb_mode == "disabled":
        possible: tuple[str, ...] = ("jsonl", "tensorboard")
    else:
        possible = NAMES
    if here.sinks:
        named = {one.strip() for one in here.sinks.split(",")}
        return [name for name in possible if name in named]
    is_set_up = here.wandb_mode == "offline" or (bool(wandb_account().api_key) and find_spec("wandb") is not None)
    return [name for name in possible if name == "jsonl" or (name == "wandb" and is_set_up)]
