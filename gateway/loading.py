"""Where the engines have their versions from: loaded where one is not known, and put right where it is another's.

A version keeps its name when a decision chooses another of its checkpoints, and an engine goes on to serve what it had
loaded under that name. What breaks without this: agents get, and calls record, a checkpoint that nobody released.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from gateway.bases import is_same
from gateway.errors import EngineFailed
from gateway.wire import Wire
from rl.checkpoint_files import place_of
from rl.errors import EngineUnavailable

log = logging.getLogger(__name__)

LOAD_SECONDS = 600.0
LIST_SECONDS = 10.0
"""An engine that takes longer to say what it serves hangs."""
SEEN_SECONDS = 10.0
"""For so long an engine is believed to serve a version from where it was seen to: another gateway may change that."""
UNKNOWN = 404
LOAD, UNLOAD, MODELS = "/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/v1/models"
KEY_REFUSED = (401, 403)


class Card(NamedTuple):
    """What a server lists: ``root`` is the folder, and ``parent`` the base model of an adapter."""

    name: str
    root: str | None
    parent: str | None


class Served(NamedTuple):
    """A version is served from ``uri``, which the engine calls ``root``, as was seen ``at`` the event loop's time."""

    uri: str
    root: str | None
    at: float


class Loading:
    """What the engines behind a wire were seen to serve: the folder of each version. ``key_name`` is for messages."""

    load_path, unload_path = LOAD, UNLOAD

    def __init__(self, wire: Wire, key_name: str = "RLFLEET_ENGINE_KEY") -> None:
        self._wire, self._key_name = wire, key_name
        self._folders: dict[tuple[str, str], Served] = {}
        self._doubted: dict[tuple[str, str], tuple[str, str]] = {}
        self._under_way: dict[tuple[str, ...], asyncio.Task[None]] = {}

    async def check(self, url: str, version: str, uri: str) -> None:
        """Have the engine serve the version from ``uri`` if it serves it from elsewhere; asked once in a while.

        Raises:
            EngineUnavailable: it does not answer, or cannot load it.
        """
        if not self._is_known(url, version, uri, SEEN_SECONDS):
            await self._once("check", self._checked, url, version, uri)

    async def load(self, url: str, version: str, uri: str) -> None:
        """Have the engine load the version. Raises as ``check`` does."""
        await self._once("load", self._loaded, url, version, uri)

    async def is_missing(self, _url: str, _version: str, status: int) -> bool:
        """Whether an answer of that status says that the engine does not know the version."""
        return status == UNKNOWN

    def forget_all_but(self, urls: set[str]) -> None:
        """Engines at other addresses are gone."""
        self._folders = {key: one for key, one in self._folders.items() if key[0] in urls}
        self._doubted = {key: one for key, one in self._doubted.items() if key[0] in urls}

    async def _once(
        self, kind: str, work: Callable[[str, str, str], Coroutine[Any, Any, None]], url: str, version: str, uri: str
    ) -> None:
        """Do it once however many calls are waiting for it, or have given up waiting."""
        key = (kind, url, version, uri)
        if key not in self._under_way:
            self._under_way[key] = asyncio.ensure_future(self._bounded(work(url, version, uri), version, uri))
            self._under_way[key].add_done_callback(lambda done: self._ended(key, done))
        await asyncio.shield(self._under_way[key])

    async def _bounded(self, work: Coroutine[Any, Any, None], version: str, uri: str) -> None:
        try:
            async with asyncio.timeout(LOAD_SECONDS):
                await work
        except TimeoutError:
            raise EngineUnavailable(f"took more than {LOAD_SECONDS:.0f} s to load {version} from {uri}") from None

    def _ended(self, key: tuple[str, ...], done: asyncio.Task[None]) -> None:
        self._under_way.pop(key)
        if not done.cancelled() and (error := done.exception()) is not None:
            log.warning("%s at %s: %s", key[2], key[1], error)

    async def _checked(self, url: str, version: str, uri: str) -> None:
        await self._put_right(url, version, uri, await self._held(url, version))

    async def _put_right(self, url: str, version: str, uri: str, held: str | None) -> None:
        """Have it served from ``uri``; ``held`` is where the engine says that it serves it from."""
        known = self._folders.get((url, version))
        is_as_before = known is not None and (known.uri, known.root) == (uri, held)
        if held is None or is_as_before or is_same(held, uri):
            self._doubted.pop((url, version), None)
            self._seen(url, version, uri, held)
            return
        log.warning("%s at %s is served from %s, and is loaded from %s", version, url, held, uri)
        await self._unloaded(url, version)
        await self._loaded(url, version, uri)
        served, doubted = self._folders.get((url, version)), self._doubted.pop((url, version), None)
        if served is not None and served.root == held and doubted != (uri, held):
            # Another gateway put it back before the look, or the engine says the same of both: the next look tells.
            self._doubted[url, version] = uri, held
            self._folders.pop((url, version))

    async def _loaded(self, url: str, version: str, uri: str) -> None:
        content = {"lora_name": version, "lora_path": uri}
        status, said = await self._post(url, self.load_path, content)
        if status >= 400 and b"already" in said:  # perhaps another checkpoint, which this one is to replace
            if is_same(await self._held(url, version), uri):
                status = 200
            else:
                await self._unloaded(url, version)
                status, said = await self._post(url, self.load_path, content)
        if status >= 400:
            excerpt = said[:200].decode("utf-8", "replace")
            why = f"cannot load {version} from {uri} ({status})"
            raise EngineFailed(f"{why}: {excerpt}", why)
        held = await self._held(url, version)
        if held is not None and place_of(held) and place_of(uri) and not is_same(held, uri):
            self._folders.pop((url, version), None)  # another gateway loaded another checkpoint before the look
        else:
            self._seen(url, version, uri, held)

    def _seen(self, url: str, version: str, uri: str, held: str | None) -> None:
        self._folders[url, version] = Served(uri, held, asyncio.get_running_loop().time())

    def _is_known(self, url: str, version: str, uri: str, seconds: float = math.inf) -> bool:
        """Whether the version was seen to be served from ``uri`` within the last ``seconds``."""
        known = self._folders.get((url, version))
        return known is not None and known.uri == uri and asyncio.get_running_loop().time() - known.at < seconds

    async def _unloaded(self, url: str, version: str) -> None:
        """Have the engine unload the version; that it has none is as well."""
        status, _ = await self._post(url, self.unload_path, {"lora_name": version})
        if status >= 400 and await self._held(url, version) is not None:
            why = f"cannot unload {version} ({status})"
            raise EngineFailed(why, why)
        self._folders.pop((url, version), None)

    async def _held(self, url: str, version: str) -> str | None:
        """The folder that the engine says it has the version from; None where it does not know it, or does not say."""
        return next((card.root for card in await self._cards(url) if card.name == version), None)

    async def _cards(self, url: str) -> list[Card]:
        """What the engine says it serves; nothing where it has no such page.

        Raises:
            EngineUnavailable: it does not say.
        """
        try:
            async with asyncio.timeout(LIST_SECONDS):
                response = await self._wire.ask("GET", url, MODELS)
                body = await response.read()
        except TimeoutError:
            raise EngineUnavailable(f"did not say within {LIST_SECONDS:g} s what it serves") from None
        self._check_key(response.status)
        if response.status not in (200, UNKNOWN):
            raise EngineUnavailable(f"answered {response.status} when it was asked for its models")
        return cards_of(body) if response.status == 200 else []

    async def _post(self, url: str, path: str, content: dict[str, str]) -> tuple[int, bytes]:
        response = await self._wire.ask("POST", url, path, json.dumps(content).encode())
        said = await response.read()
        self._check_key(response.status)
        return response.status, said

    def _check_key(self, status: int) -> None:
        if status in KEY_REFUSED:
            raise EngineUnavailable(f"answered {status}: {self._key_name} is not the engine's")


def cards_of(body: bytes) -> list[Card]:
    """What the body of ``/v1/models`` lists; nothing where it is no such list."""
    try:
        found = [(one.get("id"), one.get("root"), one.get("parent")) for one in json.loads(body)["data"]]
    except (ValueError, LookupError, TypeError, AttributeError):
        return []
    return [Card(name, _text(root), _text(parent)) for name, root, parent in found if isinstance(name, str)]


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
