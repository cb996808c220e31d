"""Which backend a training is given to, and why: what the version's manifest says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from backends import Backend
from backends.local import Local
from backends.settings import Asked
from backends.trl import Trl
from rl.config import TrainConfig
from rl.errors import InvalidInput, InvalidSettings
from rl.objectives import Objective

BACKENDS: tuple[Backend, ...] = (Local(), Trl())
"""In the order in which ``auto`` tries them."""

CONFIG: TypeAdapter[Objective] = TypeAdapter(TrainConfig)


@dataclass(frozen=True)
class Choice:
    """The backend that was ``asked`` for, the one that trains, and one sentence that says why."""

    asked: Asked
    backend: Backend
    why: str

    def manifest(self) -> dict[str, str]:
        """The entry ``backend`` of a version's manifest."""
        return {"asked": self.asked, "used": self.backend.name, "why": self.why}


def choose(asked: Asked, config: Mapping[str, object]) -> Choice:
    """The backend for a training's config as JSON. One that is asked for by name is taken or refused, never swapped.

    Raises:
        InvalidInput: the config is no training's.
        InvalidSettings: the backend would not honour it, and says which settings; or with ``auto`` none would.
    """
    typed = _typed(config)
    tried = [(one, one.refusals(typed)) for one in BACKENDS if asked in ("auto", one.name)]
    for place, (backend, refused) in enumerate(tried):
        if not refused:
            return Choice(asked, backend, _why(asked, tried[:place]))
    raise InvalidSettings("TRAIN_BACKEND", asked, "; ".join(_said(*one) for one in tried))


def named(name: str) -> Backend:
    """The backend that a stored manifest names.

    Raises:
        InvalidInput: there is none of that name.
    """
    for backend in BACKENDS:
        if backend.name == name:
            return backend
    raise InvalidInput("backend", name, f"known backends: {', '.join(one.name for one in BACKENDS)}")


def _typed(config: Mapping[str, object]) -> Objective:
    try:
        return CONFIG.validate_python(dict(config))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(["config", *map(str, first["loc"])])
        raise InvalidInput(where, first["input"], first["msg"]) from error


def _why(asked: Asked, passed: list[tuple[Backend, list[str]]]) -> str:
    if asked != "auto":
        return "TRAIN_BACKEND names it"
    before = "".join(f"{_said(*one)}; " for one in passed)
    return f"{before}it honours every setting of the config"


def _said(backend: Backend, refused: list[str]) -> str:
    return f"{backend.name} refuses {', '.join(refused)}"
