"""The upstreams of a gateway as they are configured: one by ``UPSTREAM_BASE_URL``, others in a TOML file.

Keys are not in the file: ``key_env`` names the environment variable that holds one.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

import httpx
from pydantic import AfterValidator, Field, StringConstraints, ValidationError, model_validator

from rl.config import place_of
from rl.errors import InvalidSettings
from rl.secret_files import value_of
from rl.training import Config

Kind = Literal["openai", "openpipe", "wandb", "vllm", "sglang"]
Part = Literal["base", "versions"]

URLS: Mapping[str, str] = {
    "openpipe": "https://api.openpipe.ai/api/v1",
    "wandb": "https://api.inference.wandb.ai/v1",
}
KEYS: Mapping[str, str] = {"openpipe": "OPENPIPE_API_KEY", "wandb": "WANDB_API_KEY"}
SERVES: Mapping[str, tuple[Part, ...]] = {
    "openai": ("base",),
    "openpipe": ("base",),
    "wandb": ("versions",),
    "vllm": ("versions", "base"),
    "sglang": ("versions", "base"),
}
"""What a kind serves where the file does not say it."""
LOADING = ("vllm", "sglang")
"""The kinds that load adapters while they run."""
HIDDEN = "<hidden>"

VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
"""What the name of a variable mostly looks like; anything else in ``key_env`` may be a key, and is not shown."""


def checked_url(url: str) -> str:
    """The URL, which may be empty.

    Raises:
        ValueError: nothing can be asked at it; does not show it.
    """
    try:
        is_usable = not url or _is_usable(httpx.URL(url), urlsplit(url).hostname)
    except (httpx.InvalidURL, ValueError):
        is_usable = False
    if not is_usable:
        raise ValueError("is no address that can be asked: write it as http://HOST:PORT/v1, with a port up to 65535")
    return url


def _is_usable(url: httpx.URL, host: str | None) -> bool:
    return url.scheme in ("http", "https") and bool(url.host and host) and 0 < (url.port or 80) < 1 << 16


Url = Annotated[str, AfterValidator(checked_url)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
Text = Annotated[str, StringConstraints(min_length=1)]
Count = Annotated[int, Field(strict=True, ge=1)]


@dataclass(frozen=True, slots=True)
class Most:
    """The calls that may be under way, and begin within a minute and on a UTC day; None: any number."""

    concurrent: int | None = None
    per_minute: int | None = None
    per_day: int | None = None


class Table(Config):
    """One upstream, ``[upstreams.NAME]``.

    ``url`` ends with the server's ``/v1``; ``model`` is the base model's name there, by default the line's.
    ``concurrent``, ``per_minute`` and ``per_day`` bound the calls that this gateway sends it. Of a server that loads
    adapters, ``root`` is where it has what is in ``RLFLEET_ARTIFACTS``, ``adapters`` how many of ours it has at once,
    and ``bases`` the base models that its adapters may be for, by default those that it says it has.
    """

    kind: Kind
    url: Url = Field("", pattern=r"^(https?://[^\s?#]+)?$")
    key_env: str = Field("", pattern=r"^([A-Za-z_][A-Za-z0-9_]*)?$")
    model: str = ""
    serves: Annotated[tuple[Part, ...], Field(min_length=1)] | None = None
    concurrent: Count | None = None
    per_minute: Count | None = None
    per_day: Count | None = None
    root: str = ""
    adapters: Count | None = None
    bases: Annotated[tuple[Text, ...], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        if not self.url and self.kind not in URLS:
            raise ValueError(f"kind {self.kind} needs url, the server's address with its /v1")
        if self.kind in LOADING and not self.url.rstrip("/").endswith("/v1"):
            raise ValueError(f"the url of kind {self.kind} must end with /v1: adapters are loaded beside it")
        if self.kind not in LOADING and (self.root or self.adapters or self.bases):
            raise ValueError(f"root, adapters and bases are for {' and '.join(LOADING)}, which load adapters")
        if self.kind in ("openai", "openpipe") and "versions" in (self.serves or ()):
            raise ValueError(f"kind {self.kind} cannot serve versions: leave serves out, or use another kind")
        return self


class File(Config):
    """The whole file."""

    upstreams: dict[Name, Table] = Field(min_length=1)


@dataclass(frozen=True)
class Server:
    """An upstream with its key. ``where`` and ``key_name`` are what people know it and its key by."""

    name: str
    where: str
    kind: Kind
    url: str
    key_name: str
    key: str = field(default="", repr=False)
    model: str = ""
    serves: tuple[Part, ...] = ("base",)
    most: Most = field(default_factory=Most)
    root: str = ""
    adapters: int | None = None
    bases: tuple[str, ...] = ()

    @property
    def home(self) -> str:
        """The URL without its ``/v1``."""
        return self.url.removesuffix("/v1")


def read(path: Path, environ: Mapping[str, str]) -> tuple[Server, ...]:
    """The upstreams in the file, in its order.

    Raises:
        InvalidSettings: the file cannot be read, is not TOML, a key is unknown or unusable, or a variable with a key
            is not set; that may come in a file, as ``rl.secret_files`` says.
    """
    try:
        found = File.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise InvalidSettings("RLFLEET_UPSTREAMS", str(path), f"cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidSettings("RLFLEET_UPSTREAMS", str(path), f"is not TOML: {error}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        words = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            keys = Table.model_fields if first["loc"][0] == "upstreams" else File.model_fields
            words = f"there is no such key; use {', '.join(keys)}"
        raise InvalidSettings(f"{path.name}: {place_of(first['loc'])}", _shown(first), words) from None
    return tuple(_server(f"{path.name}: upstreams.{name}", name, one, environ) for name, one in found.upstreams.items())


def of_base(url: str, key: str, model: str) -> Server:
    """The upstream of ``UPSTREAM_BASE_URL``, which is called ``base``.

    Raises:
        InvalidSettings: the URL holds a password, which would be sent in place of the key; does not show it.
    """
    if _has_password(url):
        raise InvalidSettings("UPSTREAM_BASE_URL", HIDDEN, "holds a password; set UPSTREAM_API_KEY to the server's key")
    return Server("base", "the server at UPSTREAM_BASE_URL", "openai", url.rstrip("/"), "UPSTREAM_API_KEY", key, model)


def _server(place: str, name: str, one: Table, environ: Mapping[str, str]) -> Server:
    if name == "base":
        raise InvalidSettings(place, name, "base is the upstream of UPSTREAM_BASE_URL; give this one another name")
    url = (one.url or URLS[one.kind]).rstrip("/")
    if _has_password(url):
        raise InvalidSettings(f"{place}.url", HIDDEN, "holds a password; name a variable that holds the key in key_env")
    key_env = one.key_env or KEYS.get(one.kind, "")
    return Server(
        name=name,
        where=f"the upstream {name}",
        kind=one.kind,
        url=url,
        key_name=key_env or f"key_env of {name} (unset)",
        key=_key(f"{place}.key_env", key_env, environ) if key_env else "",
        model=one.model,
        serves=one.serves or SERVES[one.kind],
        most=Most(one.concurrent, one.per_minute, one.per_day),
        root=one.root.rstrip("/"),
        adapters=one.adapters,
        bases=one.bases or (),
    )


def _has_password(url: str) -> bool:
    return "@" in urlsplit(url).netloc


def _key(place: str, variable: str, environ: Mapping[str, str]) -> str:
    """The key in the variable. One with a line break would be refused later, by an error that shows it."""
    key = (value_of(environ, variable) or "").strip()
    shown = variable if VARIABLE.fullmatch(variable) else HIDDEN
    if not key:
        raise InvalidSettings(place, shown, "this environment variable is not set; set it to the upstream's key")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise InvalidSettings(place, shown, "the key in this environment variable is not one word of ASCII")
    return key


def _shown(error: Mapping[str, object]) -> object:
    """The value that cannot be used, unless it may be a key or hold one: unknown keys are often what was not read."""
    value, loc = error.get("input"), error["loc"]
    is_plain = isinstance(value, int) or (isinstance(value, str) and not set(value) & set("@?#"))
    is_open = error["type"] != "extra_forbidden" and not (isinstance(loc, tuple) and "key_env" in loc)
    return value if is_plain and is_open else HIDDEN
