"""``rlfleet train``: windows that a person wants to be trained on; with ``--dry-run``, what that would be."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from fleet.noted import Note, noting
from fleet.terminal import AsJson, connect, errors, say
from fleet.train_settings import Mode, TrainSettings, train_settings
from rl.errors import BrokerUnavailable, InvalidInput, TransientError

EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
MOMENT = "write a UTC time like 2025-01-15 or 2025-01-15T10:00, of the years 1970 to 9998"
NAMELESS = "name a window or set WINDOW_ID, or choose --mode list, continuous or backfill"
Moment = Annotated[str | None, typer.Option(help="backfill: UTC, such as 2025-01-15 or 2025-01-15T10:00")]


def train(
    window_ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="WINDOW_ID", help="hours, or one round of a run; WINDOW_ID where this is left out"),
    ] = None,
    line: Annotated[str, typer.Option(help="the line of versions")] = "main",
    mode: Annotated[Mode | None, typer.Option(help="what is asked for; MODE where this is left out")] = None,
    since: Moment = None,
    until: Moment = None,
    every: Annotated[int, typer.Option(min=0, help="backfill: a version of every so many hours; 0: one of all")] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show what would be trained on; write nothing")] = False,
    as_json: AsJson = False,
) -> None:
    """Record that windows are to be trained on, then ring. Works while Redis is down: it is rung later.

    single: one version of the windows that are named. list: what windows there are. continuous: a version of all that
    waits whenever that is enough, until ctrl-C. backfill: all hours that the source has from --since to --until.
    """
    told = train_settings()
    chosen = mode or (Mode.BACKFILL if since or until else Mode.SINGLE if window_ids else told.mode or Mode.SINGLE)
    named = window_ids or (told.windows if chosen is Mode.SINGLE else [])
    if named and chosen is not Mode.SINGLE:
        raise InvalidInput("window_id", named[0], f"mode {chosen} takes no window; leave it out")
    if (since or until or every) and chosen is not Mode.BACKFILL:
        raise InvalidInput("mode", str(chosen), "--since, --until and --every are for mode backfill")
    connect()
    if chosen is Mode.LIST:
        _list(line, as_json)
    elif chosen is Mode.BACKFILL:
        _backfill(line, *_span(since, until, told), every, dry_run, as_json)
    elif dry_run:
        _dry_run(line, named or None, as_json)
    elif chosen is Mode.CONTINUOUS:
        _continuous(line, told.poll_seconds, as_json)
    else:
        _single(line, named, as_json)


def _list(line: str, as_json: bool) -> None:
    from fleet.windows_cli import windows

    windows(line, as_json=as_json)


def _single(line: str, window_ids: list[str], as_json: bool) -> None:
    from tasks.requests import request_together

    if not window_ids:
        raise InvalidInput("window_id", None, NAMELESS)
    with noting("train", line, windows=", ".join(window_ids)) as note:
        job_id = request_together(window_ids, line, note=note)
    _asked(line, Mode.SINGLE, [job_id], as_json)


def _backfill(line: str, since: datetime, until: datetime, every: int, dry_run: bool, as_json: bool) -> None:
    from tasks.requests import backfill, hours_between

    if dry_run:
        return _dry_run(line, [one.text for one in hours_between(line, since, until)], as_json)
    with noting("train", line, since=since.isoformat(), until=until.isoformat(), every=every) as note:
        asked = backfill(line, since, until, every, note)
    return _asked(line, Mode.BACKFILL, asked, as_json)


def _continuous(line: str, poll_seconds: float, as_json: bool) -> None:
    """Look every ``poll_seconds``. What it asked for, or waits for, is said when it changes.

    A database that is away for a while is said on standard error, and waited for.
    """
    said: list[int] | str | None = None
    with noting("train", line, mode=str(Mode.CONTINUOUS)) as note:
        while True:
            try:
                said = _look(line, said, note, as_json)
            except TransientError as error:
                errors.print(f"{line}: {error}; looking again", highlight=False, markup=False)
            time.sleep(poll_seconds)


def _look(line: str, said: list[int] | str | None, note: Note, as_json: bool) -> list[int] | str:
    """What the line asks or waits for, which is noted and said unless it was ``said`` before."""
    from db.session import transaction
    from tasks.requests import train_when_ready

    with transaction() as session:
        asked, found = train_when_ready(line, session=session)
        if asked and asked != said:
            note(session)
    news = asked or ("no scored window waits" if found is None else found.reason)
    if asked and news != said:
        _asked(line, Mode.CONTINUOUS, asked, as_json)
    elif news != said:
        words = f"{line}: {news}"
        errors.print(words, highlight=False, markup=False) if as_json else say(words)
    return news


def _asked(line: str, mode: Mode, job_ids: list[int], as_json: bool) -> None:
    """Ring, and say what the jobs are."""
    from db import job_views
    from tasks.ring import ring

    try:
        ring()
    except BrokerUnavailable as error:
        errors.print(f"recorded, and rung later: {error}", highlight=False, markup=False)
    jobs = [one for one in map(job_views.summary, job_ids) if one is not None]
    if as_json:
        about = {"schema": 1, "line": line, "mode": str(mode)}
        typer.echo(json.dumps(about | {"jobs": [asdict(one) for one in jobs]}))
    else:
        for one in jobs:
            say(one)


def _dry_run(line: str, window_ids: list[str] | None, as_json: bool) -> None:
    """Exit code 1 when no training would come of it."""
    from fleet.dry_run import dry_run, holds_something
    from fleet.dry_run_tables import show

    found = dry_run(line, window_ids)
    if as_json:
        typer.echo(json.dumps(found))
    else:
        show(found)
    raise typer.Exit(0 if holds_something(found) else 1)


def _span(since: str | None, until: str | None, told: TrainSettings) -> tuple[datetime, datetime]:
    """From ``BACKFILL_HOURS`` before the end, and to now, where it is not said."""
    end = datetime.now(UTC) if until is None else _moment("until", until)
    if since is not None:
        return _moment("since", since), end
    most = (end - EARLIEST) // timedelta(hours=1)
    if told.backfill_hours > most:
        raise InvalidInput("BACKFILL_HOURS", told.backfill_hours, f"at most {most}, back to 1970; or give --since")
    return end - timedelta(hours=told.backfill_hours), end


def _moment(name: str, text: str) -> datetime:
    """Of a text without an offset, in UTC."""
    try:
        found = datetime.fromisoformat(text)
        found = found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise InvalidInput(name, text, MOMENT) from None
    if not EARLIEST.year <= found.year < 9999:
        raise InvalidInput(name, text, MOMENT)
    return found
