"""Agents that keep calling a gateway, some of them streaming, and what became of each call."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import httpx

from bench.faults.expect import wait_until
from bench.gateway import servers
from bench.gateway.wire import events

AGENTS = 64
TOKENS = 8
PATIENCE = 240.0
AGAIN_SECONDS = 0.2


@dataclass(frozen=True)
class Outcome:
    """Status 0: the connection was lost. ``error`` ended a stream of status 200 that had begun."""

    call_id: str
    streamed: bool
    status: int
    version: str = ""
    reason: str = ""
    content: str = ""
    error: str = ""

    @property
    def is_answered(self) -> bool:
        """Whether the agent has the whole answer."""
        return self.status == 200 and not self.error


class Traffic:
    """64 agents in a thread, from the beginning of the block to its end; every other one streams.

    With ``patient`` agents a call that was not answered is repeated under its id until it is, as the client libraries
    do; the others take what comes and go on to their next call.
    """

    def __init__(self, url: str, name: str, model: str = servers.LINE, *, patient: bool = False) -> None:
        self.outcomes: list[Outcome] = []
        self._url, self._name, self._model, self._patient = url, name, model, patient
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._play()), name="traffic")

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def more(self, count: int, version: str = "") -> list[Outcome]:
        """Wait for that many more answers, of that version if one is named; what came meanwhile."""
        seen = len(self.outcomes)

        def enough() -> bool:
            return sum(one.is_answered and version in ("", one.version) for one in self.outcomes[seen:]) >= count

        wait_until(enough, PATIENCE, f"{count} more answers {version}; the last: {self.outcomes[-3:]}")
        return self.outcomes[seen:]

    async def _play(self) -> None:
        limits = httpx.Limits(max_connections=AGENTS, max_keepalive_connections=AGENTS)
        headers = {"Authorization": f"Bearer {servers.GATEWAY_KEY}"}
        given: dict[str, Any] = {"base_url": self._url, "headers": headers, "limits": limits, "trust_env": False}
        async with httpx.AsyncClient(**given, timeout=PATIENCE) as client:
            await asyncio.gather(*(self._agent(client, number) for number in range(AGENTS)))

    async def _agent(self, client: httpx.AsyncClient, number: int) -> None:
        turn = 0
        while not self._over.is_set():
            outcome = await _call(client, self._model, f"{self._name}-{number}", turn, streamed=number % 2 == 1)
            self.outcomes.append(outcome)
            if outcome.is_answered or not self._patient:
                turn += 1
            if outcome.status == 0 or outcome.status >= 500:
                await asyncio.sleep(AGAIN_SECONDS)


async def _call(client: httpx.AsyncClient, model: str, agent: str, turn: int, *, streamed: bool) -> Outcome:
    call_id = f"{agent}/{turn}"
    message = {"role": "user", "content": f"You see: wall {turn % 7} ahead"}
    body: dict[str, Any] = {"model": model, "messages": [message], "max_tokens": TOKENS, "ignore_eos": True}
    headers = {"X-Agent-Id": agent, "X-Trajectory-Id": agent, "X-Turn": str(turn), "X-Call-Id": call_id}
    raw, lost = bytearray(), ""
    try:
        async with client.stream(
            "POST", "/v1/chat/completions", json=body | {"stream": streamed}, headers=headers
        ) as response:
            said = {name: response.headers.get(f"x-rlfleet-{name}", "") for name in ("version", "reason")}
            status = response.status_code
            async for chunk in response.aiter_raw():
                raw += chunk
    except httpx.TransportError as error:
        lost = repr(error)
    if lost and not (streamed and raw):
        return Outcome(call_id, streamed, 0)
    if status != 200:
        return Outcome(call_id, streamed, status, **said, error=raw.decode()[:300])
    if not streamed:
        return Outcome(call_id, streamed, 200, **said, content=json.loads(raw)["choices"][0]["message"]["content"])
    content, ended = _streamed(bytes(raw))
    return Outcome(call_id, streamed, 200, **said, content=content, error=lost or ended)


def _streamed(raw: bytes) -> tuple[str, str]:
    """The text of a stream's whole events, and the error that ended it."""
    said = events(raw[: raw.rfind(b"\n\n") + 1])
    errors = [str(one["error"]) for one in said if "error" in one]
    if not errors and not raw.endswith(b"data: [DONE]\n\n"):
        errors = ["no end"]
    choices = [choice for one in said for choice in one.get("choices", ())]
    return "".join(choice["delta"].get("content") or "" for choice in choices), "".join(errors)
