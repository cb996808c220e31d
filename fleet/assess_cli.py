"""``rlfleet assess``: what of some logs can be trained on, and how. Only ``recorded://LINE`` needs our database."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import quote, urlsplit

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from fleet.terminal import AsJson, connect, errors
from rl.errors import InvalidInput
from rl.secret_files import value_of

VARIABLE = "ASSESSED_DATABASE_URL"
"""Where a database's URL is put in this process's environment: a source's own URL is shown, and holds no password."""

DATABASE = re.compile(r"postgres(ql)?(\+psycopg2)?://")
OURS = "recorded"
"""The kind of source that lies in our own database."""
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
LINES = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")
FIRST_LINES = 20
SHOWN_EVERY = 100

Row = TypeVar("Row")


def assess(
    logs: Annotated[
        str, typer.Argument(help="file, folder of Parquet, source URL, postgresql:// URL, or a variable that holds one")
    ],
    window: Annotated[str | None, typer.Option(help="only this hour, such as 2025-01-15T10:00")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="only the first rows, so many")] = None,
    tokens_per_second: Annotated[
        float | None, typer.Option(min=0.001, help="tokens a second that your device trains on")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what of some logs can be trained on, and what to log for more. Exit code 1 when it is nothing."""
    import sources
    from fleet.assess_tables import show
    from rl.assess import Assessment
    from rl.windows import parse

    hour = None if window is None else parse(window)
    url = source_url(logs)
    if urlsplit(url).scheme == OURS and not os.environ.get("DATABASE_URL"):
        connect()
    assessment = Assessment()
    for row in watched(islice(sources.connect(url).read(hour), limit)):
        assessment.add(row)
    report = assessment.report(tokens_per_second)
    if as_json:
        typer.echo(json.dumps({"schema": 1, "source": url, **report.as_json()}))
    else:
        show(report, url)
    raise typer.Exit(0 if report.trainable else 1)


def source_url(logs: str) -> str:
    """The URL of the source that ``logs`` means. It can be shown: a database's own goes into the environment.

    Raises:
        InvalidInput: it is no file, no folder, no URL of a known kind, and no variable with a database's URL.
    """
    if DATABASE.match(logs):
        os.environ[VARIABLE] = logs
        return f"babylon://{VARIABLE}"
    path = Path(logs)
    if path.exists():
        return _of_path(path)
    if "://" in logs:
        return _without_password(logs)
    if NAME.fullmatch(logs) and DATABASE.match(value_of(os.environ, logs) or ""):
        return f"babylon://{logs}"
    raise InvalidInput(
        "logs", logs, "no such file or folder, and no environment variable of that name holds a postgresql:// URL"
    )


def _of_path(path: Path) -> str:
    place = quote(str(path.resolve()))
    if path.is_dir() or path.suffix == ".parquet":
        return f"parquet://{place}"
    if path.name.endswith(LINES):
        return f"{'requests' if _holds_requests(path) else 'jsonl'}://{place}"
    raise InvalidInput("logs", str(path), f"name a folder, a .parquet, or one of {', '.join(LINES)}; or a source's URL")


def _without_password(url: str) -> str:
    try:
        hidden = "@" in urlsplit(url).netloc
    except ValueError:
        hidden = True
    if hidden:
        remedy = "put the database's URL into an environment variable, and name that: rlfleet assess NAME"
        raise InvalidInput("logs", "<hidden>", remedy)
    return url


def _holds_requests(path: Path) -> bool:
    """Whether one of the first lines is a logged request; trajectories of ours have other fields."""
    from sources.exchanges import is_exchange
    from sources.lines import opened

    with opened(path) as lines:
        first = [_object(line) for line in islice(lines, FIRST_LINES)]
    return any(is_exchange(one) for one in first)


def _object(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def watched(rows: Iterable[Row]) -> Iterator[Row]:
    """The rows, counted on stderr while they are read where that is a terminal."""
    columns = (SpinnerColumn(), TextColumn("{task.completed:,.0f} rows"), TimeElapsedColumn())
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bar:
        task = bar.add_task("read", total=None)
        for number, row in enumerate(rows, 1):
            yield row
            if number % SHOWN_EVERY == 0:
                bar.update(task, completed=number)
