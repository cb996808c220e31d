"""Function calls as actions: what may be called, how a call is written as text, and how a reply is read and checked.

A model that calls a function is heard as ``{"name": NAME, "arguments": {...}}``; where its arguments are no JSON, they
are the text that it wrote. What it says beside functions is heard as it is. Nothing that a model wrote is quoted back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

Tools = Sequence[Mapping[str, Any]]

LARGEST = 1e15
"""Numbers farther from 0 are refused: any float below it is exact to an eighth."""

KINDS: dict[str, tuple[type, ...]] = {"string": (str,), "integer": (int, float), "number": (int, float)}
CALLED = {"string": "text", "integer": "a whole number", "number": "a number"}


class Call(NamedTuple):
    """A function to call, and what with."""

    name: str
    arguments: dict[str, Any]


class Miscalled(ValueError):
    """A reply that calls no function as it should be called; the message says how to."""


def function(name: str, does: str, optional: Sequence[str] = (), **parameters: Mapping[str, Any]) -> dict[str, Any]:
    """A function in OpenAI's form. A parameter is text, a number or an integer, with an enum or a least value."""
    schema = {
        "type": "object",
        "properties": parameters,
        "required": [parameter for parameter in parameters if parameter not in optional],
        "additionalProperties": False,
    }
    return {"type": "function", "function": {"name": name, "description": does, "parameters": schema}}


def write(name: str, arguments: Mapping[str, Any]) -> str:
    """The canonical text of a call."""
    return json.dumps({"name": name, "arguments": dict(arguments)})


def read(reply: str, tools: Tools) -> Call:
    """The call in a reply, which is nothing else; its arguments are what the function's schema asks for.

    Raises:
        Miscalled: there is none, or it is not one of ``tools`` with arguments that fit.
    """
    said = _object(reply)
    if said is None or set(said) != {"name", "arguments"}:
        raise Miscalled(f"Call one of the functions {_signatures(tools)}.")
    chosen = next((tool["function"] for tool in tools if tool["function"]["name"] == said["name"]), None)
    if chosen is None:
        raise Miscalled(f"There is no such function. Call one of {_signatures(tools)}.")
    arguments = said["arguments"]
    if not isinstance(arguments, dict):
        raise Miscalled(f"The arguments must be one JSON object. Call {_signature(chosen)}.")
    if problem := _problem(arguments, chosen["parameters"]):
        raise Miscalled(f"{problem} Call {_signature(chosen)}.")
    return Call(chosen["name"], arguments)


def _object(text: str) -> dict[str, Any] | None:
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) else None


def _signatures(tools: Tools) -> str:
    return ", ".join(_signature(tool["function"]) for tool in tools)


def _signature(chosen: Mapping[str, Any]) -> str:
    """``sell_shares(market, side, amount?)``, with a mark after what may be left out."""
    schema = chosen["parameters"]
    names = [name if name in schema["required"] else f"{name}?" for name in schema["properties"]]
    return f"{chosen['name']}({', '.join(names)})"


def _problem(arguments: Mapping[str, Any], schema: Mapping[str, Any]) -> str | None:
    """The first thing that is wrong with the arguments."""
    if set(arguments) - set(schema["properties"]):
        return "There is an argument too many."
    for name, parameter in schema["properties"].items():
        if name not in arguments:
            if name in schema["required"]:
                return f"The argument {name} is missing."
        elif not _fits(arguments[name], parameter):
            return f"The argument {name} must be {_wanted(parameter)}."
    return None


def _fits(value: object, parameter: Mapping[str, Any]) -> bool:
    kind = parameter["type"]
    if isinstance(value, bool) or not isinstance(value, KINDS[kind]):
        return False
    if "enum" in parameter:
        return value in parameter["enum"]
    if not isinstance(value, int | float):
        return True
    is_whole = kind == "number" or value == value // 1
    above = value > parameter.get("exclusiveMinimum", -LARGEST)
    return is_whole and above and parameter.get("minimum", -LARGEST) <= value <= LARGEST


def _wanted(parameter: Mapping[str, Any]) -> str:
    """``a whole number of 1 or more``."""
    if "enum" in parameter:
        return " or ".join(parameter["enum"])
    wanted = CALLED[parameter["type"]]
    if "exclusiveMinimum" in parameter:
        return f"{wanted} above {parameter['exclusiveMinimum']}"
    return f"{wanted} of {parameter['minimum']} or more" if "minimum" in parameter else wanted
