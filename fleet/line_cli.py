"""``rlfleet line``: create or change a line of versions, and say what of its config cannot work yet."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from fleet.noted import noted
from fleet.terminal import AsJson, connect, errors, tell
from rl.errors import InvalidInput, InvalidSettings

if TYPE_CHECKING:
    from rl.config import LineConfig

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
FILES = frozenset({"jsonl", "parquet", "requests"})
"""Kinds of sources that lie on this machine's disk."""


def line(
    name: Annotated[str, typer.Argument(help="a-z, 0-9, _ and -, up to 64 of them")],
    file: Annotated[Path, typer.Argument(help="TOML: base model, source of logs, how to train, ...")],
    as_json: AsJson = False,
) -> None:
    """Create or change a line from a TOML file: base model, source of logs, how to train, what to validate on."""
    from db import lines
    from environments import fitting
    from fleet.files import read_toml
    from rl.config import LineConfig
    from rl.decidable import check_line

    connect()
    config = read_toml(file, LineConfig)
    check_line(config)
    fitting.check_line(config)
    with noted("line", name, base_model=config.base_model, source=config.source) as session:
        others = lines.sources(session)
        if not NAME.fullmatch(name) and name not in others:
            raise InvalidInput("line", name, "begin with a-z or 0-9 and go on with these, _ or -, 64 in all at most")
        lines.put(session, name, config)
    same = sorted(other for other, url in others.items() if other != name and url is not None and url == config.source)
    warnings = [*_warnings(config), *_shared(same)]
    found = {"line": name, "base_model": config.base_model, "source": config.source, "warnings": warnings}
    tell(as_json, found, f"line {name}: {config.base_model}, source {config.source or 'none'}")
    for words in warnings:
        errors.print(f"rlfleet: line {name}: {words}", highlight=False, markup=False, soft_wrap=True)


def _warnings(config: LineConfig) -> Iterator[str]:
    """What is not there. It may be made later, or be on the workers' machine alone."""
    if Path(config.base_model).is_absolute() and not Path(config.base_model).exists():
        yield f"base_model = {config.base_model!r}: there is no such folder on this machine"
    if config.source is not None and urlsplit(config.source).scheme in FILES:
        yield from _missing(config.source)
    if config.train is None:
        yield "it has no [train]: its windows are scored and never trained on"
    elif config.validation is None and config.held_out is None:
        yield "it has [train], and neither [validation] nor [held_out]: its versions wait until a person deploys them"
    if config.held_out is not None and config.held_out.judge is not None:
        yield from _without_judge()


def _without_judge() -> Iterator[str]:
    from tasks.judge_settings import judge_settings

    try:
        judge_settings().where()
    except InvalidSettings as error:
        yield f"held_out.judge: {error}; workers need it"


def _missing(url: str) -> Iterator[str]:
    import sources

    try:
        sources.connect(url)
    except InvalidInput as error:
        yield str(error)


def _shared(lines: list[str]) -> Iterator[str]:
    if lines:
        read = f"line {lines[0]} reads" if len(lines) == 1 else f"lines {', '.join(lines)} read"
        stored = "rows are stored for the line that reads them first"
        yield f"{read} the same source: ids are global over lines; {stored}"
