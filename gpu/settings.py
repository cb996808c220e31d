"""The environment variables of a device's child, read when it starts. An empty variable counts as unset."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from rl.errors import InvalidSettings, StartError
from rl.secret_files import SecretFiles


class EngineSettings(SecretFiles, BaseSettings):
    """What the engine asks of its callers, and what it may use."""

    model_config = SettingsConfigDict(env_ignore_empty=True, frozen=True)

    env: Literal["development", "production", "test"] = Field("development", validation_alias="RLFLEET_ENV")
    engine_key: str = Field(
        "", validation_alias="RLFLEET_ENGINE_KEY", repr=False, description="bearer key that the engine asks for"
    )
    engine_queue: int = Field(
        1024,
        ge=1,
        validation_alias="RLFLEET_ENGINE_QUEUE",
        description="requests that may wait for a place in the batch; one more is answered 429",
    )
    torch_threads: int = Field(
        1, ge=1, validation_alias="RLFLEET_TORCH_THREADS", description="threads of one operation on a CPU"
    )


def checked() -> EngineSettings:
    """The settings of this process.

    Raises:
        StartError: a variable has a value that it cannot have, or production has no key.
    """
    try:
        here = EngineSettings()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise StartError(f"{first['loc'][0]} = {first.get('input')!r}: {first['msg']}") from None
    except InvalidSettings as error:  # of a file with a secret
        raise StartError(str(error)) from None
    if here.env == "production" and not here.engine_key:
        raise StartError("RLFLEET_ENGINE_KEY = '': set a bearer key; without one production's engine would be open")
    return here
