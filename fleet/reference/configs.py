"""Every key of a line, a run, a pipeline and a mapping, from the models that check them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from pydantic import BaseModel

from fleet.reference.cells import Schema, default, prose, table, values
from rl.config import LineConfig, RunConfig
from rl.pipeline import Pipeline
from sources.table_mapping import Mapping

FILES: tuple[tuple[str, type[BaseModel], str], ...] = (
    ("A line", LineConfig, "`rlfleet line NAME FILE.toml`; [lines](lines.md) tells it with examples."),
    ("A run", RunConfig, "`rlfleet run FILE.toml`; [runs](runs.md) tells it with examples."),
    ("A pipeline", Pipeline, "`rlfleet run FILE.toml`; [pipelines](pipelines.md) tells it with examples."),
    (
        "A mapping",
        Mapping,
        "What a source `table:///FILE.toml` names; [sources](sources.md) tells it with examples.",
    ),
)
"""What the part of the page is called, the model of the file, and what reads it."""


class Table(NamedTuple):
    """One table of a file: where it stands, such as ``train.kl``, when it is so, what it is, and its keys."""

    path: str
    condition: str
    words: str
    rows: list[list[str]]


class Below(NamedTuple):
    """A table that is still to be written."""

    path: str
    condition: str
    schema: Schema


def page() -> str:
    """The tables of keys. A table that stands in several places is written once, and named in the others."""
    parts, seen = [], dict[str, str]()
    for title, model, words in FILES:
        parts.append(f"## {title}\n\n{words}")
        schema = model.model_json_schema()
        for one in _tables(Below("", "", schema), schema.get("$defs", {}), title.lower(), seen):
            heading = f"### `[{one.path}]`{one.condition}\n\n" if one.path else ""
            rows = f"\n\n{table(('key', 'built in', 'may be'), one.rows)}" if one.rows else ""
            parts.append(f"{heading}{one.words}{rows}")
    return "\n\n".join(parts)


def _tables(one: Below, known: Schema, file: str, seen: dict[str, str]) -> Iterator[Table]:
    """The table and those below it; ``seen`` says where a model was written first."""
    rows, later = [], list[Below]()
    for name, field in one.schema["properties"].items():
        place = f"{one.path}.{name}" if one.path else name
        names = list(_references(field))
        fresh = [model for model in names if model not in seen]
        if not names:
            built_in = default(field) if "default" in field or _is_required(one.schema, name) else "unset"
            rows.append([f"`{name}`", built_in, values(field)])
            continue
        rows.append([f"`{name}`", _of_table(field), f"table `[{place}]`" if fresh else f"as {seen[names[0]]}"])
        seen |= dict.fromkeys(fresh, f"`[{place}]` of {file}")
        if len(names) > 1 and fresh:
            later += _alternatives(place, [known[model] for model in names])
        elif fresh:
            later.append(Below(place, "", known[names[0]]))
    yield Table(one.path, one.condition, prose(one.schema.get("description", "")), rows)
    for below in later:
        yield from _tables(below, known, file, seen)


def _alternatives(place: str, schemas: list[Schema]) -> Iterator[Below]:
    """What all have in common, and then what each has of its own, told apart by a key such as ``objective``."""
    every = [one["properties"] for one in schemas]
    common = {name: field for name, field in every[0].items() if all(one.get(name) == field for one in every)}
    if common:
        required = schemas[0].get("required", [])
        yield Below(place, "", {"properties": common, "required": required, "description": "In every case:"})
    for one in schemas:
        own = {name: field for name, field in one["properties"].items() if name not in common}
        key, tag = next(((name, field["const"]) for name, field in own.items() if "const" in field), ("", ""))
        condition = f" with {key} `{tag}`" if key else ""
        yield Below(place, condition, {**one, "properties": {name: own[name] for name in own if name != key}})


def _references(field: Any) -> Iterator[str]:
    """Names of the models that a field may hold."""
    if isinstance(field, dict):
        if "$ref" in field:
            yield field["$ref"].rpartition("/")[2]
        for key in ("anyOf", "oneOf", "items"):
            yield from _references(field.get(key))
    elif isinstance(field, list):
        for one in field:
            yield from _references(one)


def _is_required(schema: Schema, name: str) -> bool:
    return name in schema.get("required", ())


def _of_table(field: Schema) -> str:
    if "default" not in field:
        return "must be set"
    return "none" if field["default"] in (None, []) else "as below"
