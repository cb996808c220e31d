"""The cells of a table of settings, from a field's JSON schema."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

Schema = Mapping[str, Any]

BOUNDS = (
    ("exclusiveMinimum", "above {}"),
    ("minimum", "from {}"),
    ("exclusiveMaximum", "below {}"),
    ("maximum", "to {}"),
    ("multipleOf", "a multiple of {}"),
)
KINDS = {"boolean": "`true` or `false`", "integer": "a whole number", "number": "a number", "string": "a text"}
FORMATS = {"path": "a path", "file-path": "a path", "directory-path": "a path", "password": "a text"}


def present(schema: Schema) -> Schema:
    """The schema of a field that may be left out, without the ``null`` that says so."""
    choices = [one for one in schema.get("anyOf", ()) if one.get("type") != "null"]
    rest = {key: value for key, value in schema.items() if key != "anyOf"}
    return {**choices[0], **rest} if len(choices) == 1 else schema


def values(schema: Schema) -> str:
    """What may be set, in words."""
    schema = present(schema)
    if "const" in schema or "enum" in schema:
        return ", ".join(map(_code, schema.get("enum", [schema.get("const")])))
    if choices := schema.get("anyOf", schema.get("oneOf")):
        return " or ".join(values(one) for one in choices if one.get("type") != "null")
    if schema.get("type") in ("array", "object"):
        return _list(schema) if schema["type"] == "array" else "a table"
    words = [FORMATS.get(schema.get("format", ""), KINDS.get(schema.get("type", ""), "any value"))]
    words += [words_of.format(f"{schema[key]:g}") for key, words_of in BOUNDS if key in schema]
    return " ".join(words)


def _list(schema: Schema) -> str:
    if "prefixItems" in schema:
        return f"a list of {len(schema['prefixItems'])} numbers"
    items = values(schema["items"]) if schema.get("items") else "any values"
    return f"a list, each {items}"


def default(schema: Schema) -> str:
    """The built-in value; ``must be set`` where there is none."""
    if "default" not in schema:
        return "must be set"
    value = schema["default"]
    return "unset" if value in (None, "") else _code(value)


def _code(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
    return f"`{text}`"


def prose(docstring: str) -> str:
    """A docstring as Markdown: its literals in single backticks, without what it raises, and unset for None."""
    text = re.split(r"\n\s*Raises:", docstring)[0].replace("``", "`").strip()
    return re.sub(r"\bNone\b", "unset", re.sub(r"(^|[.:]\s+)None\b", r"\1Unset", text))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table. A bar in a cell would begin another one."""
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
