"""All servers that are not ours, in their order: which of them may answer for a version, or as the base model."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from db.engines import Address
from gateway.adapters import Adapters, folder
from gateway.answers import Answer, Deadlines
from gateway.bases import lack_of_base
from gateway.breaker import Limits
from gateway.chat import ChatRequest
from gateway.configured import LOADING, Server
from gateway.errors import EngineFailed, unavailable
from gateway.forwarding import Engines, Try
from gateway.limits import BUSY
from gateway.outlook import Seen
from gateway.probing import OK
from gateway.routing import REMOTE, Route
from gateway.snapshot import Snapshot
from gateway.upstream import Failing, Upstream
from rl.errors import EngineUnavailable

NO_REMOTE = "its weights lie with W&B, and no upstream of kind wandb serves them; name one in RLFLEET_UPSTREAMS"


@dataclass(frozen=True)
class Loader:
    """A server that loads our versions' adapters, asked as our engines are."""

    engines: Engines
    address: Address


class Upstreams:
    """The upstreams of a gateway. ``artifacts`` is ``RLFLEET_ARTIFACTS`` here. Belongs to one event loop."""

    def __init__(self, servers: Sequence[Server], artifacts: Path, deadlines: Deadlines, limits: Limits) -> None:
        self._artifacts = artifacts.resolve()
        self._snapshot: Snapshot | None = None
        self._base_of: dict[str, str] = {}
        self._all = [Upstream(one, deadlines, limits) for one in servers]
        self._loaders = {one.server.name: self._loader(one, deadlines) for one in self._all if _loads(one.server)}

    def _loader(self, one: Upstream, deadlines: Deadlines) -> Loader:
        server = one.server
        root = server.root or str(self._artifacts)
        loading = partial(
            Adapters, server=server, root=root, live=self._live, bases=one.bases, base_of=self._base_of.__getitem__
        )
        engines = Engines(server.key, deadlines, key_name=server.key_name, loading=loading, guard=one.guard)
        return Loader(engines, Address(server.name, server.home))

    @property
    def has_base(self) -> bool:
        """Whether one of them answers as the base model."""
        return any("base" in one.server.serves for one in self._all)

    def tries(self, route: Route, asked: ChatRequest, body: bytes, snapshot: Snapshot) -> list[Try]:
        """How those are asked that may answer for the route's version, in their order; ``body`` is as for an engine."""
        self._snapshot = snapshot
        self._base_of[route.version] = route.base_uri
        found: list[Try] = []
        for one in self._all:
            server = one.server
            if route.kind not in _takes(server):
                continue
            if (loader := self._loaders.get(server.name)) is None:
                found.append((server.name, partial(one.ask, body, asked.wants, route.version)))
            elif why := lack_of_base(one.bases.known, route.base_uri):
                one.look()  # it may be started again with another one
                found.append((server.name, partial(_not_asked, why)))
            else:
                found.extend(self._of_loader(loader, server, route, asked, body))
        return found

    def _of_loader(self, loader: Loader, server: Server, route: Route, asked: ChatRequest, body: bytes) -> list[Try]:
        if server.kind == "sglang":
            body = asked.for_sglang(server.model or route.base_model, route.version)
        uri = folder(route.uri, self._artifacts, server.root)
        return loader.engines.tries([loader.address], route.version, uri, body, asked.wants)

    async def ask_base(self, route: Route, asked: ChatRequest) -> Answer:
        """The answer of the first that can answer as the base model; it may be a 4xx of the request's own.

        Where none can, a 429 of one that is full. Else what the first said that answered 404 or 5xx; but not in a
        version's place, where its error would pass for one of the version's engines.

        Raises:
            Refusal: 503, none answered, or none can stand in.
        """
        whys, busy, failing = [], None, None
        for one in self._all:
            if "base" not in one.server.serves:
                continue
            try:
                answer = await one.ask(asked.for_upstream(one.server.model or route.base_model), asked.wants)
            except Failing as error:
                said = f"{one.server.where}, asked instead, answered {error.answer.status}"
                failing = failing or error.answer
            except EngineUnavailable as error:
                said = f"{one.server.where} {error}"
            else:
                if answer.status != BUSY:
                    return answer
                busy = busy or answer
                continue
            whys.append(said)
        if busy is not None:
            return busy
        said = "; ".join(whys)
        if failing is None:
            raise unavailable("upstream_unavailable", said)
        if not route.is_fallback:
            return failing
        raise unavailable("upstream_unavailable", f"{route.why}; {said}; try again", failing.retry_after)

    async def states(self) -> list[Seen]:
        """How each is, in their order."""
        said = await asyncio.gather(*(one.state() for one in self._all))
        return [_seen(one, state) for one, state in zip(self._all, said, strict=True)]

    def _live(self) -> frozenset[str]:
        if self._snapshot is None:
            return frozenset()
        lines = self._snapshot.lines.values()
        released = {release.version for line in lines for release in line.releases}
        pinned = {one.name for one in (self._snapshot.pinned, *(line.pinned for line in lines)) if one is not None}
        return frozenset(released | pinned)

    async def close(self) -> None:
        """Close every connection."""
        for loader in self._loaders.values():
            await loader.engines.close()
        for one in self._all:
            await one.close()


async def _not_asked(why: str) -> Answer:
    raise EngineFailed(why, why, asked=False)


def _seen(one: Upstream, state: str) -> Seen:
    server, seconds = one.server, one.guard.full_for()
    limited = f"limited for another {seconds:.0f} s" if seconds > 0 and state == OK else ""
    bases = one.bases.known if server.kind in LOADING else None
    return Seen(server.name, state, one.guard.waits(server.home), _takes(server), True, limited, bases)


def _loads(server: Server) -> bool:
    return server.kind in LOADING and "versions" in server.serves


def _takes(server: Server) -> frozenset[str]:
    """The kinds of checkpoints that it answers for."""
    if "versions" not in server.serves:
        return frozenset()
    return frozenset({"adapter"} if server.kind in LOADING else {REMOTE})
