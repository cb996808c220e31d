"""A mapping file in TOML: which table or view, and what its columns are to us. Unknown keys are errors."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError, model_validator

from rl.errors import InvalidInput
from rl.training import Config

TICKS = {"seconds": 1, "milliseconds": 1000}


class Columns(Config):
    """The relation's column for each thing that a trajectory has; None where it has none.

    ``messages`` holds OpenAI messages as JSON. Without ``response`` they are the whole conversation, and each message
    of the assistant in them is a call; with it they are what one call was sent. ``prompt``, with ``system`` before it
    where that is given, and ``response`` are the other way to say one call.
    """

    trajectory: str
    ended: str
    started: str | None = None
    agent: str | None = None
    scenario: str | None = None
    reward: str | None = None
    order: str | None = None
    call: str | None = None
    messages: str | None = None
    system: str | None = None
    prompt: str | None = None
    response: str | None = None
    reasoning: str | None = None
    tools: str | None = None
    model: str | None = None
    temperature: str | None = None
    prompt_token_ids: str | None = None
    token_ids: str | None = None
    logprobs: str | None = None
    archetype: str | None = None
    consent: str | None = None
    evaluation: str | None = None

    @model_validator(mode="after")
    def _speak(self) -> Self:
        if self.messages is None and (self.prompt is None or self.response is None):
            raise ValueError("give messages, or prompt and response")
        if self.messages is not None and (self.prompt or self.system):
            raise ValueError("give either messages, or prompt with system; not both")
        tokens = [self.prompt_token_ids, self.token_ids, self.logprobs]
        if any(tokens) and not (all(tokens) and self.response):
            raise ValueError("prompt_token_ids, token_ids and logprobs belong to one response: give all four, or none")
        return self

    @property
    def names(self) -> list[str]:
        """The distinct columns that are read."""
        return list(dict.fromkeys(name for name in self.model_dump().values() if name is not None))


class Mapping(Config):
    """What is read, and how.

    ``variable`` names the environment variable with the Postgres URL; ``relation`` is a table or view, ``schema.name``
    where it is not on the search path. With ``rows = "call"`` each row is one call, and those of one trajectory are
    put in the order of ``columns.order``; the trajectory's reward is then the sum of its rows', or the last one's.
    ``model`` is who spoke where no column says it. ``epoch`` is the unit of times that are numbers.
    """

    variable: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    relation: str = Field(min_length=1)
    rows: Literal["trajectory", "call"] = "trajectory"
    rewards: Literal["sum", "last"] = "sum"
    epoch: Literal["seconds", "milliseconds"] = "milliseconds"
    model: str | None = None
    columns: Columns

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.rows == "call" and not (self.columns.order and self.columns.response):
            raise ValueError('rows = "call" needs columns.order and columns.response')
        return self

    @property
    def ticks(self) -> int:
        """Of a second, in times that are numbers."""
        return TICKS[self.epoch]


def load(path: Path) -> Mapping:
    """The mapping in the file.

    Raises:
        InvalidInput: it is no TOML, or a key is missing, unknown or wrong. Values are not shown: a URL may be there.
    """
    try:
        return Mapping.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise InvalidInput("line.source", str(path), f"no such mapping file ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput("line.source", str(path), f"no TOML: {error}") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InvalidInput("line.source", str(path), f"{field}: {first['msg']}") from None
