"""Every command of ``rlfleet`` with its arguments and options, from the command itself."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Any, Literal, get_args, get_origin

import typer.main

from fleet.cli import app
from fleet.reference.cells import table

OPENING = """# The command

Every command of `rlfleet`, its arguments and its options. This page is written by `python -m fleet.reference` from the
command itself, and a test holds it up to date; `rlfleet COMMAND --help` says the same in a shell.

Where a command takes `--json` it prints one object with `"schema": 1` on stdout, and logs go to stderr. The exit code
is 0 for done or yes, 1 for failed or no, 2 for wrong input. Errors begin with `rlfleet:` and name the field, the value
and the remedy. Most commands need a fleet: the one of `DATABASE_URL`, or the one that runs in `RLFLEET_HOME`."""


def page() -> str:
    """The whole page, commands in the order of their names."""
    root: Any = typer.main.get_command(app)
    return "\n\n".join([OPENING, *_commands("rlfleet", root)]) + "\n"


def _commands(path: str, group: Any) -> Iterator[str]:
    for name, command in sorted(group.commands.items()):
        if command.hidden:
            continue
        if hasattr(command, "commands"):
            yield from _commands(f"{path} {name}", command)
        else:
            yield _part(f"{path} {name}", command)


def _part(path: str, command: Any) -> str:
    """One command: how it is called, what it does, and what it may be told."""
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option" and not one.hidden]
    usage = " ".join([path, *map(_argument, arguments), *(["[OPTIONS]"] if options else [])])
    parts = [f"## `{path}`", f"```\n{usage}\n```", _prose(command.help)]
    rows = [[f"`{_argument(one)}`", "", one.help or ""] for one in arguments if one.help]
    rows += [[_names(one), _default(one), one.help or ""] for one in options]
    if rows:
        parts.append(table(("argument or option", "built in", "what it is"), rows))
    return "\n\n".join(parts)


def _prose(text: str | None) -> str:
    """Paragraphs, their lines joined; a form feed is where the shell's help would end."""
    paragraphs = (text or "").partition("\f")[0].replace("\b\n", "").split("\n\n")
    return "\n\n".join(" ".join(one.split()) for one in paragraphs)


def _argument(one: Any) -> str:
    name = (one.metavar or one.name.upper()).strip("[]").removesuffix("...")
    more = "..." if one.nargs == -1 else ""
    return f"{name}{more}" if one.required else f"[{name}{more}]"


def _names(one: Any) -> str:
    """The names of an option, with its choices where it has some."""
    names = ", ".join(f"`{name}`" for name in (*one.opts, *one.secondary_opts))
    said = ", ".join(f"`{choice}`" for choice in _choices(one.type_descriptor.annotation))
    return f"{names}: {said}" if said else names


def _choices(annotation: Any) -> list[str]:
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return [str(one.value) for one in annotation]
    return [str(one) for one in get_args(annotation)] if get_origin(annotation) is Literal else []


def _default(one: Any) -> str:
    """The built-in value; nothing for a flag that is off, and for an option that is unset."""
    if one.required:
        return "must be given"
    value = getattr(one.default, "value", one.default)
    return "" if value in (None, "", False, ()) or callable(value) else f"`{value}`"
