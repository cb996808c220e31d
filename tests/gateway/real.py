"""The gateway as it really runs: a process before real engines, on a Postgres of its own; all can be killed."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from bench.faults import ground
from bench.faults.expect import wait_until
from bench.faults.ground import Ground
from bench.gateway import servers
from bench.gateway.servers import Server
from db import session, settings
from db.session import transaction
from tests.gateway.traffic import TOKENS, Outcome

STORE_SECONDS = 60.0
STORED = """
    select call_id, model, body -> 'response' ->> 'content', length(token_ids) / 4, length(logprobs) / 4
      from rlfleet.calls
"""


class Stand:
    """Servers and processes that run until the end of the block. The line ``main`` has no version at first."""

    def __init__(self, stack: ExitStack, servers: Ground) -> None:
        self._stack, self.servers = stack, servers

    def engine(self, weights: Path, name: str, announced: str = "") -> Server:
        """An engine that runs, and that gateways know as ``announced`` if it is given."""
        made = self._started(servers.engine(self.servers, weights, name))
        if announced:
            servers.announce(made, announced)
        return made

    def gateway(self, **variables: str) -> Server:
        """A gateway that runs, with these variables besides what every gateway of a fleet has."""
        return self._started(servers.gateway(self.servers, **variables))

    def rows(self, statement: str, **values: object) -> list[tuple[Any, ...]]:
        """The rows that a statement of SQL gives."""
        with transaction() as found:
            return [tuple(row) for row in found.execute(text(statement), values)]

    def _started(self, server: Server) -> Server:
        self._stack.callback(server.stop)
        server.start()
        return server


@contextmanager
def standing() -> Iterator[Stand]:
    """A stand; this process's own connections go to its Postgres."""
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        for name in ("DATABASE_URL", "REDIS_URL"):
            patch.setenv(name, "to be put back")
        stack.callback(_forget)
        _forget()
        prepared = stack.enter_context(ground.prepared())
        servers.add_line()
        yield Stand(stack, prepared)


def _forget() -> None:
    settings.settings.cache_clear()
    session._engine.cache_clear()


def storable(text: str) -> str:
    """A text as Postgres keeps it: a random model says NUL too, which it cannot."""
    return text.replace("\0", "\ufffd")


def check_recorded(stand: Stand, outcomes: Sequence[Outcome], ours: Collection[str]) -> None:
    """Wait until every answered call is stored; once, with what the agent got, and with tokens if it is ``ours``."""
    answered = {one.call_id: one for one in outcomes if one.is_answered}
    found: dict[str, list[tuple[Any, ...]]] = {}

    def all_stored() -> bool:
        found.clear()
        for call_id, *row in stand.rows(STORED):
            found.setdefault(call_id, []).append(tuple(row))
        return answered.keys() <= found.keys()

    wait_until(all_stored, STORE_SECONDS, "the record of every answered call")
    for call_id, one in answered.items():
        assert len(found[call_id]) == 1, call_id
        model, content, tokens, logprobs = found[call_id][0]
        assert (model if one.version in ours else model.split("/")[0], content or "") == (
            one.version,
            storable(one.content),
        )
        assert (tokens, logprobs) == ((TOKENS, TOKENS) if one.version in ours else (None, None)), call_id
