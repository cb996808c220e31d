"""Every environment variable, from the settings classes, and from ``.env.template`` where a class says nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import AliasChoices, BaseModel, SecretStr

from fleet.reference.cells import default, prose, table, values

PACKAGES = {
    "worker": "Workers",
    "db": "Database and readiness",
    "tasks": "Alerts and the judge",
    "gpu": "The device's child",
    "backends": "Backends",
    "environments": "Environments",
    "gateway": "Gateway",
    "admin": "Admin server",
    "fleet": "One machine",
}
"""Who reads variables, in the order of the page, and what their part of it is called."""

TEMPLATE = re.compile(r"^(?:# ?)?([A-Z][A-Z0-9_]*)=(.*)$")
OPTIONAL = re.compile(r"^# ?([A-Z][A-Z0-9_]*)=(.*)$", re.MULTILINE)


class Variable(NamedTuple):
    """One variable: who reads it, what it may be, its built-in value, what it is for, and whether it is a secret."""

    name: str
    packages: tuple[str, ...]
    values: str
    default: str
    purpose: str
    secret: bool = False


def variables(root: Path) -> list[Variable]:
    """All of them, each once, in the order of ``PACKAGES``; those that only Compose reads come last."""
    template = root / ".env.template"
    told = _told(template)
    read: dict[str, list[Variable]] = {}
    for package in PACKAGES:
        for model in models(root, package):
            for one in (each for field in model.model_fields for each in of_field(model, field, package)):
                read.setdefault(one.name, []).append(one)
    found = {name: _joined(of_name) for name, of_name in read.items()}
    for name, one in found.items():
        found[name] = one._replace(purpose=one.purpose or told.get(name, ""))
    optional = dict(OPTIONAL.findall(template.read_text(encoding="utf-8")))
    for name, purpose in told.items():
        if name not in found and name in optional:
            usual = f"`{optional[name]}`" if optional[name] else "unset"
            found[name] = Variable(name, ("Compose",), "a text", usual, purpose)
        elif name not in found:
            found[name] = Variable(name, ("Compose",), "a text", "must be set", purpose, secret=True)
    return list(found.values())


def page(root: Path) -> str:
    """The tables of variables, one for each package that reads some first."""
    every = [one for one in variables(root) if one.name != "PATH"]
    parts = []
    for package, title in {**PACKAGES, "Compose": "Compose alone"}.items():
        rows = [
            [f"`{one.name}`", one.default, _values(one), one.purpose, ", ".join(one.packages)]
            for one in every
            if one.packages[0] == package
        ]
        if rows:
            head = ("variable", "built in", "may be", "what it is", "read by")
            parts.append(f"### {title}\n\n{table(head, rows)}")
    return "\n\n".join(parts)


def _joined(of_name: Sequence[Variable]) -> Variable:
    """One variable as all who read it know it. Where its built-in values differ, each is told with its readers."""
    packages = tuple(dict.fromkeys(package for one in of_name for package in one.packages))
    default, purpose = _by_reader([(one.default, one.packages) for one in of_name]), ""
    told = [(one.purpose, one.packages) for one in of_name if one.purpose]
    if told:
        purpose = _by_reader(told, "; ") if default != of_name[0].default else told[0][0]
    secret = any(one.secret for one in of_name)
    return of_name[0]._replace(packages=packages, default=default, purpose=purpose, secret=secret)


def _by_reader(said: Sequence[tuple[str, tuple[str, ...]]], between: str = ", ") -> str:
    readers: dict[str, dict[str, None]] = {}
    for words, packages in said:
        readers.setdefault(words, {}).update(dict.fromkeys(packages))
    if len(readers) == 1:
        return said[0][0]
    return between.join(f"{words} ({', '.join(who)})" for words, who in readers.items())


def _values(one: Variable) -> str:
    return f"{one.values}, secret" if one.secret else one.values


def models(root: Path, package: str) -> Iterator[type[BaseModel]]:
    """The settings classes of a package, which are in its modules named ``...settings``."""
    for file in sorted((root / package).glob("*settings.py")):
        # By name: this writes down what `gpu` reads too, and does not depend on it.
        module = import_module(f"{package}.{file.stem}")
        for model in vars(module).values():
            if isinstance(model, type) and issubclass(model, BaseModel) and model.__module__ == module.__name__:
                yield model


def of_field(model: type[BaseModel], field: str, package: str) -> list[Variable]:
    """The variables that a field of a settings class is read from, in the order in which they are tried."""
    info = model.model_fields[field]
    alias = info.validation_alias or info.alias
    names = [str(one) for one in alias.choices] if isinstance(alias, AliasChoices) else [str(alias or field)]
    schema: dict[str, Any] = dict(model.model_json_schema(by_alias=False)["properties"][field])
    if choices := _choices(info.annotation):
        schema["enum"] = choices
    text = prose(info.description or "")
    secret = SecretStr in _parts(info.annotation) or not info.repr
    return [Variable(name, (package,), values(schema), default(schema), text, secret) for name in names]


def _parts(annotation: Any) -> tuple[Any, ...]:
    return (annotation, *getattr(annotation, "__args__", ()))


def _choices(annotation: Any) -> list[str]:
    """The values of an enumeration, where the annotation holds one."""
    kinds = [part for part in _parts(annotation) if isinstance(part, type) and issubclass(part, Enum)]
    return [str(one.value) for kind in kinds for one in kind]


def _told(template: Path) -> dict[str, str]:
    """Variable to the comment above it. Where a block begins with several lines, the first is the block's own."""
    found: dict[str, str] = {}
    for block in template.read_text(encoding="utf-8").split("\n\n"):
        shared, comment, is_first = "", list[str](), True
        for line in block.splitlines():
            match = TEMPLATE.match(line)
            if match is None:
                comment.append(line.lstrip("# "))
                continue
            if comment:
                shared = " ".join(comment[1:] if is_first and len(comment) > 1 else comment)
            found[match[1]] = shared
            comment, is_first = [], False
    return found
