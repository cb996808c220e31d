"""The account with ART's service: as the environment has it, and as the process that speaks with it is told."""

from __future__ import annotations

import json
from typing import TypeVar

from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings

from backends.settings import ArtSettings, WandbSettings
from rl.errors import InvalidSettings
from rl.protocol import Line

S = TypeVar("S", bound=BaseSettings)
REMEDIES = {
    "ART_BASE_URL": "set an https:// address without a user in it, since the key is sent there, or leave it unset",
    "WANDB_ENTITY": "set a name without slashes, colons and spaces, or leave it unset",
    "WANDB_PROJECT": "set a name without slashes, colons and spaces, or leave it unset",
}


class Account(Line):
    """Where the service is, whose key is shown to it, and how long a training there may take in seconds."""

    base_url: str
    api_key: SecretStr
    entity: str | None
    project: str
    deadline_seconds: float

    def line(self) -> bytes:
        """The JSON object with the key, for the pipe to the child alone, and a newline."""
        shown = self.model_dump(mode="json", by_alias=True) | {"api_key": self.api_key.get_secret_value()}
        return json.dumps(shown).encode() + b"\n"


def account() -> Account:
    """The account of this process.

    Raises:
        InvalidSettings: no key is set, or a variable cannot be used. The key is not shown.
    """
    wandb, here = _read(WandbSettings), _read(ArtSettings)
    if wandb.api_key.split() != [wandb.api_key]:
        what = "<hidden>" if wandb.api_key else ""
        remedy = "set it to your key of Weights & Biases, one word, on every gpu worker"
        raise InvalidSettings("WANDB_API_KEY", what, remedy)
    return Account(
        base_url=here.base_url,
        api_key=SecretStr(wandb.api_key),
        entity=wandb.entity or None,
        project=wandb.project,
        deadline_seconds=here.deadline_seconds,
    )


def _read(kind: type[S]) -> S:
    try:
        return kind()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0]) if first["loc"] else kind.__name__
        value = "<hidden>" if name == "WANDB_API_KEY" or "@" in str(first.get("input")) else first.get("input")
        raise InvalidSettings(name, value, REMEDIES.get(name, str(first["msg"]))) from None
