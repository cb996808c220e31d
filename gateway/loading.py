"""Where the engines have their versions from: loaded where one is not known, and put right where it is another's.

A version keeps its name when a decision chooses another of its checkpoints, and an engine goes on to serve what it had
loaded under that name. What breaks without this: agents get, and calls record, a checkpoint that nobody released.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os.path
from collections.abc import Callable, Coroutine
from typing import Any

from gateway.errors import EngineFailed
from gateway.wire import Wire
from rl.errors import EngineUnavailable

log = logging.getLogger(__name__)

LOAD_SECONDS = 600.0
LOAD, UNLOAD, MODELS = "/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/v1/models"


class Loading:
    """What the engines behind a wire were seen to serve: the folder of each version."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._folders: dict[tuple[str, str], str] = {}
        self._under_way: dict[tuple[str, ...], asyncio.Task[None]] = {}

    async def check(self, url: str, version: str, uri: str) -> None:
        """Have the engine serve the version from ``uri`` if it serves it from elsewhere; asked of it once.

        Raises:
            EngineUnavailable: it does not answer, or cannot load it.
        """
        if self._folders.get((url, version)) != uri:
            await self._once("check", self._checked, url, version, uri)

    async def load(self, url: str, version: str, uri: str) -> None:
        """Have the engine load the version. Raises as ``check`` does."""
        await self._once("load", self._loaded, url, version, uri)

    def forget_all_but(self, urls: set[str]) -> None:
        """Engines at other addresses are gone."""
        self._folders = {key: one for key, one in self._folders.items() if key[0] in urls}

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
        held = await self._held(url, version)
        if held is not None and not _is_same(held, uri):
            log.warning("%s at %s is served from %s, and is loaded from %s", version, url, held, uri)
            await self._post(url, UNLOAD, {"lora_name": version})
            await self._loaded(url, version, uri)
        self._folders[url, version] = uri

    async def _loaded(self, url: str, version: str, uri: str) -> None:
        status, said = await self._post(url, LOAD, {"lora_name": version, "lora_path": uri})
        if status >= 400 and b"already" not in said:
            excerpt = said[:200].decode("utf-8", "replace")
            why = f"cannot load {version} from {uri} ({status})"
            raise EngineFailed(f"{why}: {excerpt}", why)
        self._folders[url, version] = uri

    async def _held(self, url: str, version: str) -> str | None:
        """The folder that the engine says it has the version from; None where it does not know it, or does not say."""
        response = await self._wire.ask("GET", url, MODELS)
        body = await response.read()
        if response.status != 200:
            return None
        try:
            roots = [one.get("root") for one in json.loads(body)["data"] if one.get("id") == version]
        except (ValueError, LookupError, TypeError, AttributeError):
            return None
        return next((one for one in roots if isinstance(one, str)), None)

    async def _post(self, url: str, path: str, content: dict[str, str]) -> tuple[int, bytes]:
        response = await self._wire.ask("POST", url, path, json.dumps(content).encode())
        return response.status, await response.read()


def _is_same(one: str, other: str) -> bool:
    """Whether both are the same folder: an engine may say where a link leads."""
    return one == other or os.path.realpath(one) == os.path.realpath(other)
