"""Our versions on a server that is not ours and loads adapters while it runs: vLLM, or SGLang.

vLLM loads and unloads below its ``/v1`` where it was started with ``VLLM_ALLOW_RUNTIME_LORA_UPDATING=True``. SGLang
does beside its ``/v1``, and knows an adapter by ``lora_path`` in the request
(https://docs.sglang.io/docs/advanced_features/lora). Both list what is loaded, with its folder, at ``/v1/models``; an
adapter has a ``parent`` there, and a base model has none.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from gateway.bases import Bases, lack_of_base
from gateway.configured import Server
from gateway.errors import EngineFailed
from gateway.loading import Card, Loading
from gateway.wire import Wire
from rl.errors import EngineUnavailable

log = logging.getLogger(__name__)

ROOM_SECONDS = 30.0
"""Whoever waits for a place among the adapters gives up after this: one load at a time looks for one."""
REFUSED_SECONDS = 2.0
"""For so long a server that cannot take a version is not asked again whether it can: every call would list and log."""

Live = Callable[[], frozenset[str]]
"""The names of the versions that are released or pinned now."""


class Adapters(Loading):
    """What one server was seen to have loaded. Of ours it has ``adapters`` at once: those that are not live make room.

    Ours are the adapters below ``root``, and those that were loaded from here. Others stay, and do not count.
    ``base_of`` is the base model that the version of a name is for: on another one it is never loaded.
    """

    def __init__(
        self,
        wire: Wire,
        key_name: str,
        *,
        server: Server,
        root: str,
        live: Live,
        bases: Bases,
        base_of: Callable[[str], str],
    ) -> None:
        super().__init__(wire, key_name)
        self._server, self._root, self._live = server, Path(root), live
        self._bases, self._base_of = bases, base_of
        self._lock = asyncio.Lock()
        self._coming: Counter[str] = Counter()
        self._used: dict[str, None] = {}
        self._refused: dict[tuple[str, str], tuple[str, str, float]] = {}
        if server.kind == "sglang":
            self.load_path, self.unload_path = "/load_lora_adapter", "/unload_lora_adapter"

    async def check(self, url: str, version: str, uri: str) -> None:
        """As in ``Loading``; and load it where it is not there."""
        self._used.pop(version, None)
        self._used[version] = None
        await super().check(url, version, uri)

    async def _once(
        self, kind: str, work: Callable[[str, str, str], Coroutine[Any, Any, None]], url: str, version: str, uri: str
    ) -> None:
        """As in ``Loading``. That there is no room, or another base model, stands for a moment without a look."""
        now = asyncio.get_running_loop().time
        words, reason, until = self._refused.get((url, version), ("", "", 0.0))
        if now() < until:
            raise EngineFailed(words, reason, asked=False)
        try:
            await super()._once(kind, work, url, version, uri)
        except EngineFailed as error:
            if not error.asked:
                fresh = {key: one for key, one in self._refused.items() if now() < one[2]}
                self._refused = fresh | {(url, version): (str(error), error.reason, now() + REFUSED_SECONDS)}
            raise

    async def is_missing(self, url: str, version: str, status: int) -> bool:
        """As in ``Loading``. SGLang says 400 or 500 of an adapter that it does not know, and of other things."""
        if self._server.kind != "sglang":
            return await super().is_missing(url, version, status)
        return status in (400, 404, 500) and await self._held(url, version) is None

    async def _put_right(self, url: str, version: str, uri: str, held: str | None) -> None:
        self._check_base(version)
        if held is None and not self._is_known(url, version, uri):
            await self._loaded(url, version, uri)
        else:  # one that was there and is not listed is loaded again when a call hears that it is missing
            await super()._put_right(url, version, uri, held)

    async def _loaded(self, url: str, version: str, uri: str) -> None:
        if (most := self._server.adapters) is None:
            await self._cards(url)
            self._check_base(version)
            await super()._loaded(url, version, uri)
            return
        try:
            async with asyncio.timeout(ROOM_SECONDS), self._lock:
                cards = await self._cards(url)
                self._check_base(version)
                await self._make_room(url, version, cards, most)
                self._coming[version] += 1
        except TimeoutError:
            raise EngineUnavailable(f"did not make room for {version} within {ROOM_SECONDS:g} s") from None
        try:
            await super()._loaded(url, version, uri)
        finally:
            self._coming[version] -= 1
            self._refused.clear()  # its place is one that can be given up now

    async def _cards(self, url: str) -> list[Card]:
        cards = await super()._cards(url)
        self._bases.heard(bases_in(cards))
        return cards

    def _check_base(self, version: str) -> None:
        """A server that was started again may have another base model than before."""
        if why := lack_of_base(self._bases.known, self._base_of(version)):
            raise EngineFailed(why, why, asked=False)

    async def _make_room(self, url: str, version: str, cards: Sequence[Card], most: int) -> None:
        """Have the server unload what is not live, what was used longest ago first, until another one fits.

        A load under way has its place, whether or not it is listed yet.
        """
        coming, used = set(+self._coming), list(self._used)
        ours = {card.name for card in cards if self._is_ours(url, card)} | coming
        others = ours - {version}
        idle = sorted(others - coming - self._live(), key=lambda name: _place(used, name))
        too_many = len(others) + 1 - most
        if too_many > len(idle):
            are = "live or being loaded" if coming & others else "live"
            why = f"has {len(others)} adapters, all of them {are}; raise adapters = {most} of {self._server.name}"
            raise EngineFailed(why, why, asked=False)
        for name in idle[: max(0, too_many)]:
            log.info("%s unloads %s, which is not live, for %s", self._server.name, name, version)
            await self._unloaded(url, name)

    def _is_ours(self, url: str, card: Card) -> bool:
        if card.parent is None:
            return False
        return (url, card.name) in self._folders or Path(card.root or "/").is_relative_to(self._root)


def bases_in(cards: Sequence[Card]) -> list[str]:
    """The names and the folders of the base models that a server lists."""
    return [one for card in cards if card.parent is None for one in (card.name, card.root) if one]


def folder(uri: str, artifacts: Path, root: str) -> str:
    """The checkpoint's folder as the server sees it, which has at ``root`` what is in ``artifacts`` here."""
    here = Path(uri)
    if not root or not here.is_relative_to(artifacts):
        return uri
    return str(Path(root) / here.relative_to(artifacts))


def _place(used: list[str], name: str) -> int:
    return used.index(name) if name in used else -1
