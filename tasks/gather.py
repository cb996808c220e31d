"""How a window's rows are read from a source; a round of a run is played in ``tasks.rollout``."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from rl.errors import TransientError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from db.jobs import Claim
    from rl.errors import InvalidRow
    from rl.records import Quarantined, Trajectory
    from rl.redaction import Redaction
    from tasks.carry import Effect, Lease

T = TypeVar("T")

READ_SECONDS = 3500.0
"""A source that takes longer is given up."""
REFUSED = "consent"
"""The source of quarantined rows that nobody lets be learned from."""


def from_source(claim: Claim, lease: Lease) -> Effect:
    """Read the window's rows: good ones become trajectories, bad ones are quarantined and counted.

    A window that was read before gets what is new, where its line takes rows that come late, and what became known of
    its trajectories since. What is stored is never changed.
    """
    window, url = str(claim.inputs["window"]), str(claim.config["source"])
    redaction = _redaction(claim)
    good, bad, found, held = asyncio.run(lease.during(_in_time(lambda: _read(url, window, redaction))))

    def effect(session: Session) -> dict[str, Any]:
        from db import late, lines, trajectories, windows, withdrawals

        row = windows.locked(session, claim.line_id, window)
        is_first = row.state in ("open", "closed")
        takes = is_first or late.takes(session, row, lines.config_of(lines.named(session, claim.line)).late)
        withdrawals.refuse(session, claim.line_id, claim.line, [one.row for one in bad if one.source == REFUSED])
        refused = withdrawals.refused(session, [one.trajectory_id for one in good])
        willing = [one for one in good if one.trajectory_id not in refused]
        known = trajectories.known(session, [one.trajectory_id for one in willing])
        elsewhere = {name for name, one in known.items() if one.window_id != row.id}
        unusable = bad + [_taken(one.trajectory_id) for one in willing if one.trajectory_id in elsewhere]
        unusable += [_refused(one) for one in sorted(refused)]
        mine = [one for one in willing if one.trajectory_id not in elsewhere and (takes or one.trajectory_id in known)]
        fresh = trajectories.insert_trajectories(session, claim.line_id, row.id, url, mine)
        _insert_calls(session, claim, [one for one in mine if one.trajectory_id not in known])
        bad_ones = trajectories.insert_quarantine(session, claim.line_id, row.id, unusable)
        if takes:
            windows.note_rows(session, row.id, max(held, claim.inputs.get("rows", 0)))
        if is_first and mine:
            windows.move(session, row.id, "collected")
        elif is_first:
            windows.move(session, row.id, "skipped", f"no usable trajectory ({len(unusable)} quarantined)")
        elif fresh:
            windows.reopen(session, row.id, f"{fresh} row{'' if fresh == 1 else 's'} came late")
        counts = {"trajectories": len(mine), "new": fresh, "quarantined": bad_ones}
        return counts | ({"redacted": dict(found)} if found else {})

    return effect


async def _in_time(read: Callable[[], T]) -> T:
    """What ``read`` returns, on a thread that nobody waits for once it is given up: a source may hang for ever.

    Raises:
        TransientError: it took more than ``READ_SECONDS``.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if ended.done():
            return
        if error is not None:
            ended.set_exception(error)
        else:
            ended.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, error = None, None
        try:
            result = read()
        except BaseException as raised:  # it belongs to whoever waits
            error = raised
        with suppress(RuntimeError):  # nobody waits any more, and the loop is closed
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=copy_context().run, args=(run,), name="read", daemon=True).start()
    try:
        async with asyncio.timeout(READ_SECONDS):
            return await ended
    except TimeoutError:
        if ended.done() and not ended.cancelled():
            raise
        raise TransientError(f"the source was not read within {READ_SECONDS:g} s; look at what it waits for") from None


def _insert_calls(session: Session, claim: Claim, fresh: list[Trajectory]) -> None:
    """The calls of trajectories that were not stored before; of two with one id the first counts."""
    from db import calls

    first = {one.trajectory_id: one for one in reversed(fresh)}
    spoken = [
        calls.NewCall.of(call, trajectory_id=one.trajectory_id, line=claim.line, agent_id=one.agent_id, place=place)
        for one in first.values()
        for place, call in enumerate(one.calls)
    ]
    calls.insert(session, spoken)


def _redaction(claim: Claim) -> Redaction:
    """What the line takes out at the moment, whatever it was when the job was asked for."""
    from db import redacting
    from db.session import transaction

    with transaction() as session:
        return redacting.of_line(session, claim.line_id)


def _read(url: str, window: str, redaction: Redaction) -> tuple[list[Trajectory], list[Quarantined], Counter[str], int]:
    """The window's usable rows, the others, how often something was taken out of the usable ones, and all its rows.

    Of rows that a source reports with every window nobody knows whose they are: they are not among all its rows.
    On a thread of its own, as rows of other windows may be many.
    """
    import sources
    from db.redacting import clean, unused
    from rl.errors import InvalidRow
    from rl.records import Trajectory
    from rl.windows import parse

    good: list[Trajectory] = []
    bad: list[Quarantined] = []
    found: Counter[str] = Counter()
    held, is_placing = 0, urlsplit(url).scheme in sources.PLACING
    for row in sources.connect(url).read(parse(window)):
        held += is_placing or isinstance(row, Trajectory)
        if not isinstance(row, Trajectory):
            bad.append(unused(row, redaction))
        elif row.consent is False:
            bad.append(_refused(row.trajectory_id))
        else:
            try:
                cleaned, counts = clean(row, redaction)
            except InvalidRow as error:
                bad.append(_withheld(row.trajectory_id, error))
                continue
            found += counts
            good.append(cleaned)
    return good, bad, found, held


def _refused(trajectory_id: str) -> Quarantined:
    """A row whose owner does not let it be learned from: it is counted, and nothing of what it says is kept."""
    from rl.records import Quarantined

    return Quarantined(source=REFUSED, row=trajectory_id, field="consent", reason="its owner refused consent")


def _withheld(trajectory_id: str, error: InvalidRow) -> Quarantined:
    """A row that the line's redaction does not let be stored."""
    from rl.records import Quarantined

    return Quarantined(source="redaction", row=trajectory_id, field=error.field, reason=error.remedy)


def _taken(trajectory_id: str) -> Quarantined:
    """A row whose id belongs to a trajectory of another window or line."""
    from rl.records import Quarantined

    reason = "another window or line has a trajectory of this id; ids are global, so give each agent its own prefix"
    return Quarantined(source="ids", row=trajectory_id, field="trajectory_id", reason=reason)
