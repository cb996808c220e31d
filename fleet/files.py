"""Typed config from a TOML file. An unknown or unusable key is named with its place in the file."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from rl.config import HIDDEN, place_of
from rl.errors import InvalidSettings

Model = TypeVar("Model", bound=BaseModel)


def read_toml(path: Path, kind: type[Model]) -> Model:
    """The config in the file.

    Raises:
        InvalidSettings: the file cannot be read, is not TOML, or a key is unknown, missing or out of range.
    """
    return parsed(path, read_values(path), kind)


def read_values(path: Path) -> dict[str, Any]:
    """The tables in the file, as they are.

    Raises:
        InvalidSettings: the file cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidSettings("file", str(path), f"cannot be read: {error.strerror}") from None
    except tomllib.TOMLDecodeError as error:
        raise InvalidSettings("file", str(path), f"is not TOML: {error}") from None


def parsed(path: Path, values: dict[str, Any], kind: type[Model]) -> Model:
    """The config in the values of the file.

    Raises:
        InvalidSettings: a key is unknown, missing or out of range.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = place_of(first["loc"])
        if not place:
            raise InvalidSettings("file", path.name, _words(first["msg"])) from None
        value = "<hidden>" if first["type"] == HIDDEN else None if first["type"] == "missing" else first.get("input")
        raise InvalidSettings(f"{path.name}: {place}", value, _words(first["msg"])) from None


def _words(message: str) -> str:
    """What a validator of ours says, without pydantic's word for it."""
    return message.removeprefix("Value error, ")
