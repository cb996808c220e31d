"""Which backend a training is given to, and why: what the version's manifest says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from backends import Backend
from backends.art import ArtServerless
from backends.art_errors import ADOPT
from backends.local import Local
from backends.settings import Asked
from backends.trl import Trl
from rl.config import TrainConfig
from rl.errors import InvalidInput, InvalidSettings
from rl.objectives import Objective
from rl.remote import is_remote

BACKENDS: tuple[Backend, ...] = (Local(), Trl(), ArtServerless())
"""In the order in which ``auto`` tries them; see ``_fits`` for which it tries."""
REMOTE = frozenset({ArtServerless.name})
"""Those that train where the parent lies, and cannot have it from a folder."""

HONOURS = "it honours every setting of the config"
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


def choose(asked: Asked, config: Mapping[str, object], parent: str | None = None) -> Choice:
    """The backend for a training's config as JSON. One that is asked for by name is taken or refused, never swapped.

    ``parent`` is what it goes on from: a folder, a service's name of it, or None for the base model. ``auto`` takes a
    service for what lies with it, and for nothing else.

    Raises:
        InvalidInput: the config is no training's.
        InvalidSettings: the backend would not honour it, and says which settings; or with ``auto`` none would; or the
            backend that is named cannot go on from ``parent``.
    """
    typed = _typed(config)
    tried = [(one, one.refusals(typed)) for one in BACKENDS if _fits(asked, one, parent)]
    for place, (backend, refused) in enumerate(tried):
        if not refused:
            _check_parent(backend, parent)
            return Choice(asked, backend, _why(asked, tried[:place], parent))
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


def _fits(asked: Asked, backend: Backend, parent: str | None) -> bool:
    if asked != "auto":
        return asked == backend.name
    return (backend.name in REMOTE) == is_remote(parent or "")


def _check_parent(backend: Backend, parent: str | None) -> None:
    if backend.name in REMOTE and not is_remote(parent or ""):
        raise InvalidSettings("TRAIN_BACKEND", backend.name, f"the training goes on from {parent}: {ADOPT}")
    if backend.name not in REMOTE and is_remote(parent or ""):
        remedy = f"the training goes on from {parent}, whose weights are not here: set art-serverless, or auto"
        raise InvalidSettings("TRAIN_BACKEND", backend.name, remedy)


def _why(asked: Asked, passed: list[tuple[Backend, list[str]]], parent: str | None) -> str:
    if asked != "auto":
        return "TRAIN_BACKEND names it"
    if is_remote(parent or ""):
        return f"the version that it goes on from lies with that service; {HONOURS}"
    before = "".join(f"{_said(*one)}; " for one in passed)
    return f"{before}{HONOURS}"


def _said(backend: Backend, refused: list[str]) -> str:
    return f"{backend.name} refuses {', '.join(refused)}"
