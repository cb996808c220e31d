"""``rlfleet publish``: a version's weights and its model card on the Hugging Face Hub."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from fleet.noted import actor
from fleet.terminal import AsJson, connect, errors, say, tell
from rl.errors import HubUnavailable, InvalidInput, Later, PermanentError, RlfleetError

if TYPE_CHECKING:
    from backends.hub import Published, Show
    from db.audit import Outcome
    from fleet.publish import Wanted


def publish(
    version: Annotated[str, typer.Argument(help="such as babylon-agent-v1.0.3, or v1.0.3 of the line")],
    hub: Annotated[str, typer.Option(help="the repository, ORG/NAME; it is made unless it is there")],
    private: Annotated[bool, typer.Option("--private", help="make it private; refused where it is public")] = False,
    merged: Annotated[bool, typer.Option("--merged", help="full weights: the adapter merged into its base")] = False,
    base: Annotated[str | None, typer.Option(help="the base's repository, where nothing tells it: ORG/NAME")] = None,
    anything: Annotated[
        bool, typer.Option("--any", help="one that did not pass, or learned from what is erased")
    ] = False,
    line: Annotated[str | None, typer.Option(help="the line of versions; for a short name left out: main")] = None,
    later: Annotated[bool, typer.Option("--later", help="have the fleet do it as soon as the Hub answers")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="have the fleet do it no more")] = False,
    asked_at: Annotated[str | None, typer.Option("--asked", hidden=True)] = None,
    as_json: AsJson = False,
) -> None:
    """Publish a version to the Hugging Face Hub with a model card, and check each file. HF_TOKEN is the token."""
    from backends.hub_errors import LATER
    from fleet.publish import Wanted
    from tasks.publishing import UNDER_WAY

    connect()
    wanted = Wanted(version, line, hub, base=base, private=private, merged=merged, anything=anything, asked=asked_at)
    how = {name: True for name, value in (("later", later), ("cancel", cancel)) if value}
    asked = {"repository": hub, "private": private, "merged": merged, "any": anything, **how}
    try:
        if later and cancel:
            raise InvalidInput("--cancel", True, "leave out one of --later and --cancel")
        if how:
            _leave(wanted, asked, later=later, as_json=as_json)
        else:
            _publish(wanted, asked, as_json=as_json)
    except Later as error:
        errors.print(f"rlfleet: {error}", highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(UNDER_WAY) from None
    except BaseException as error:  # also who presses Ctrl-C may have published something
        outcome: Outcome = "refused" if isinstance(error, PermanentError) else "failed"
        with suppress(RlfleetError):  # the database may be what is away
            _note(version, outcome, asked | {"error": str(error) or type(error).__name__})
        if isinstance(error, HubUnavailable):
            raise HubUnavailable(f"{error}{LATER}") from None
        raise


def _leave(wanted: Wanted, asked: dict[str, Any], *, later: bool, as_json: bool) -> None:
    from fleet.publish_later import ask, cancel

    name = (ask if later else cancel)(wanted, asked)
    words = "`rlfleet status` shows it while it waits, and `rlfleet audit` the commit"
    told = (
        f"waits to be published in {wanted.repository}: {words}" if later else f"waits for {wanted.repository} no more"
    )
    found = {"version": name, "repository": wanted.repository, "state": "waiting" if later else "cancelled"}
    tell(as_json, found, f"{name} {told}")


def _publish(wanted: Wanted, asked: dict[str, Any], *, as_json: bool) -> None:
    from fleet.publish import publish as publish_version

    with _shown() as show:
        name, published = publish_version(wanted, show, lambda name: _note(name, "done", asked | {"begun": True}))
    _note(name, "done", asked | {"revision": published.revision})
    _tell(name, published, as_json=as_json)


def _tell(name: str, published: Published, *, as_json: bool) -> None:
    files = [vars(one) for one in published.files]
    if as_json:
        found = {"version": name, "repository": published.repository, "revision": published.revision, "files": files}
        typer.echo(json.dumps({"schema": 1, **found, "verified": True}))
        return
    sent = [one for one in published.files if one.state == "uploaded"]
    what = f"{len(sent)} of {len(files)} files uploaded" if sent else "already the same"
    say(f"{name} is {published.repository} at {published.revision}: {what}, each checked by its hash")


def _note(subject: str, outcome: Outcome, detail: dict[str, Any]) -> None:
    from db import audit
    from db.session import transaction

    with transaction() as session:
        audit.note(session, f"{actor()}@shell", "publish", subject, outcome, detail=detail)


@contextmanager
def _shown() -> Iterator[Show]:
    """What is being done, on stderr: a bar that moves on a terminal, a line for each step elsewhere."""
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn())
    with Progress(*columns, TimeElapsedColumn(), console=errors, transient=True, disable=not errors.is_terminal) as bar:
        task = bar.add_task("asking the Hub", total=None)

        def show(doing: str, done: int, total: int) -> None:
            bar.update(task, description=doing, completed=done, total=total or None)
            if not errors.is_terminal:
                errors.print(doing, highlight=False, markup=False, soft_wrap=True)

        yield show
