"""Where rules and hooks run: in threads beside those that store, with patience, so that a hook that hangs holds up no
other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from db.calls import NewCall
from db.recordings import Event
from db.redacting import Redactions
from gateway.errors import Refusal, unavailable
from gateway.redaction import Rules, changed, of_call
from rl.errors import InvalidRow, InvalidSettings
from rl.records import Quarantined

AT_ONCE = 4
"""Redactions by the same hooks at the same moment; a hook may take its time."""
PATIENCE_SECONDS = 30.0

T = TypeVar("T")
Hooks = tuple[str, ...]


class Lane:
    """The threads of those who have the same hooks. ``reports`` are requests that wait for them."""

    def __init__(self) -> None:
        self.threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="redaction")
        self.reports = 0
        self._late = 0

    async def run(self, work: Callable[[], T]) -> T:
        """Do the work in a thread. Raises ``TimeoutError``: at once where all threads hang, else after the patience."""
        if self._late >= AT_ONCE:
            raise TimeoutError
        begun = self.threads.submit(work)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await asyncio.wrap_future(begun)
        finally:
            if not begun.done():  # its thread is busy with what nobody waits for any more
                self._late += 1
                loop = asyncio.get_running_loop()
                begun.add_done_callback(lambda _: loop.is_closed() or loop.call_soon_threadsafe(self._came))

    def _came(self) -> None:
        self._late -= 1


class Redactor:
    """Redacts captured calls and reports. Belongs to the event loop that made it.

    At most ``most_reports`` requests wait for the same hooks at the same moment.
    """

    def __init__(self, most_reports: int) -> None:
        self._most, self._lanes = most_reports, dict[Hooks, Lane]()

    async def captured(self, call: NewCall, redactions: Redactions) -> NewCall | Quarantined:
        """The call as it may be stored; where the line's hook does not let it, what the quarantine is to say.

        Raises:
            Refusal: 503, the line's redaction cannot be applied, or takes too long.
        """
        try:
            rules = redactions.of(call.line)
            return await self._lane(rules).run(partial(_captured, call, rules)) if rules else call
        except InvalidSettings as error:
            raise unusable(str(error)) from error
        except TimeoutError:
            raise _too_slow() from None

    async def reported(self, events: Mapping[int, Event], rules: Mapping[int, Rules]) -> dict[int, Event | InvalidRow]:
        """Every event as it may be stored, or why it may not. Those without rules are as they were.

        Raises:
            Refusal: 503, a line's redaction cannot be applied, or takes too long.
        """
        kept: dict[int, Event | InvalidRow] = dict(events)
        for hooks in dict.fromkeys(_hooks(one) for one in rules.values()):
            those = {index: one for index, one in rules.items() if _hooks(one) == hooks}
            kept |= await self._of_lane(hooks, partial(_reported, events, those))
        return kept

    async def _of_lane(self, hooks: Hooks, work: Callable[[], T]) -> T:
        lane = self._lanes.setdefault(hooks, Lane())
        if hooks and lane.reports >= self._most:
            raise unusable("too many reports wait for the line's hook; send the same again later")
        lane.reports += 1
        try:
            return await lane.run(work)
        except InvalidSettings as error:
            raise unusable(str(error)) from error
        except TimeoutError:
            raise _too_slow() from None
        finally:
            lane.reports -= 1

    def _lane(self, rules: Rules) -> Lane:
        return self._lanes.setdefault(_hooks(rules), Lane())

    def close(self) -> None:
        """Take no more. A hook that hangs is not waited for."""
        for lane in self._lanes.values():
            lane.threads.shutdown(wait=False, cancel_futures=True)


def unusable(why: str) -> Refusal:
    """503: a line's redaction cannot be applied, so that nothing is stored."""
    return unavailable("redaction_unavailable", f"nothing can be stored: {why}")


def _too_slow() -> Refusal:
    return unusable(f"the line's redaction took more than {PATIENCE_SECONDS:.0f} s")


def _hooks(rules: Rules) -> Hooks:
    return tuple(one.hook for one in rules if one.hook is not None)


def _captured(call: NewCall, rules: Rules) -> NewCall | Quarantined:
    try:
        return of_call(call, rules)
    except InvalidRow as error:
        return Quarantined(source="capture", row=call.call_id, field=error.field, reason=error.remedy)


def _reported(events: Mapping[int, Event], rules: Mapping[int, Rules]) -> dict[int, Event | InvalidRow]:
    return {index: changed(events[index], one) for index, one in rules.items()}
