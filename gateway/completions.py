"""One completion from end to end: who answers, the answer, its record, and only then the reply."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from db import calls, recordings
from db.calls import NewCall
from db.recordings import Start
from db.session import transaction
from gateway import access, routing
from gateway.caller import Caller, caller_of
from gateway.capture import Recorder
from gateway.catalog import Catalog
from gateway.chat import ChatRequest, Spoken, parse_answer, parse_request
from gateway.errors import bad_request, unavailable, unknown_model
from gateway.forwarding import Answer, Engines, Upstream
from gateway.redactor import Redactor
from gateway.routing import BASE, Route, Rules
from gateway.settings import Capture, GatewaySettings
from rl import records
from rl.errors import EngineUnavailable

log = logging.getLogger(__name__)


class Completions:
    """What the gateway holds while it runs. Made inside the event loop it serves in."""

    def __init__(self, settings: GatewaySettings) -> None:
        self.settings, self.keys = settings, settings.keys
        self.catalog = Catalog(settings.pinned_version, stale_is_fine=settings.capture is Capture.OFF)
        self.engines = Engines(settings.engine_key)
        self.upstream = Upstream(settings)
        self.recorder = Recorder()
        self.redactor = Redactor(max(1, settings.ingest_waiting // 2))
        self._without_tokens: set[str] = set()

    async def close(self) -> None:
        """Store what is waiting and close every connection."""
        self.redactor.close()
        await self.recorder.close()
        await self.engines.close()
        await self.upstream.close()

    async def reply(self, request: Request) -> Response:
        """The reply to a chat completion request.

        Raises:
            Refusal: 400, 401, 404, 502 or 503, with what to do.
            DatabaseUnavailable: the call could not be routed or recorded.
        """
        access.check(request, self.keys)
        caller = caller_of(request.headers)
        asked = parse_request(await request.body())
        version, line, answer = await self._complete(await self._route(asked.model, caller), asked)
        if answer.status == 200 and self.settings.capture is Capture.REQUIRED:
            call = self._call(caller, asked, line, version, parse_answer(answer.body))
            if not await self._record(caller, call):
                return await asyncio.to_thread(_repeated, caller)
        headers = caller.headers(version)
        if answer.retry_after is not None:
            headers["Retry-After"] = answer.retry_after
        return Response(answer.body, answer.status, headers, answer.media_type)

    async def _record(self, caller: Caller, call: NewCall) -> bool:
        """Store what may be stored of the call. False when another was stored under its id before."""
        if caller.consent is False:
            await asyncio.to_thread(_refuse, caller)
            return True
        kept = await self.redactor.captured(call, (await self.catalog.snapshot()).redactions)
        return kept is None or await self.recorder.record(kept)

    async def _route(self, model: str, caller: Caller) -> Route:
        snapshot, settings = await self.catalog.snapshot(), self.settings
        if (line := snapshot.lines.get(model)) is not None:
            rules = Rules(settings.use_rl_model, settings.pinned_version, snapshot.pinned, settings.rollout_percentage)
            return routing.of_line(line, caller.unit, rules)
        if (version := await self.catalog.version(model)) is not None:
            return routing.of_version(version)
        raise unknown_model(model, f"name a version, or a line: {', '.join(snapshot.lines) or 'there is none yet'}")

    async def _complete(self, route: Route, asked: ChatRequest) -> tuple[str, str, Answer]:
        """The version that answered, the line, and the answer."""
        if route.version != BASE:
            engines = (await self.catalog.snapshot()).engines
            try:
                body = asked.for_engine(route.version)
                return route.version, route.line, await self.engines.complete(engines, route.version, route.uri, body)
            except EngineUnavailable as error:
                why = f"no engine can answer for {route.version} ({error})"
                route = dataclasses.replace(route, is_fallback=True, why=why)
        self._check_base(route)
        body = asked.for_upstream(self.settings.upstream_model or route.base_model)
        return BASE, route.line, await self.upstream.complete(body)

    def _check_base(self, route: Route) -> None:
        """Return if the base model may answer on this route."""
        code = "engine_unavailable" if route.version != BASE else "base_unavailable"
        if route.is_exact:
            raise unavailable(code, f"{route.why}; try again, or name the line to let another model answer")
        if route.is_fallback and not self.settings.fallback_to_base:
            raise unavailable(code, f"{route.why}; try again, or set RL_FALLBACK_TO_BASE=true")
        if not self.upstream.url:
            raise unavailable(code, f"{route.why}; try again, or set UPSTREAM_BASE_URL to let the base model answer")

    def _call(self, caller: Caller, asked: ChatRequest, line: str, version: str, spoken: Spoken) -> NewCall:
        is_ours = version != BASE
        if is_ours and spoken.token_ids is None and version not in self._without_tokens:
            self._without_tokens.add(version)
            log.warning("%s answers without tokens and log-probabilities: its calls cannot train on-policy", version)
        return NewCall(
            call_id=caller.call_id,
            trajectory_id=caller.trajectory_id,
            turn=caller.turn,
            line=line,
            model=version if is_ours else f"{BASE}/{spoken.model}",
            agent_id=caller.agent_id,
            messages=asked.messages,
            response=spoken.response,
            prompt_token_ids=spoken.prompt_token_ids if is_ours else None,
            token_ids=spoken.token_ids if is_ours else None,
            logprobs=spoken.logprobs if is_ours else None,
            temperature=asked.temperature,
            finish_reason=spoken.finish_reason,
            tools=asked.tools,
        )


def _refuse(caller: Caller) -> None:
    """Nobody agreed to this trajectory: keep that alone, and delete what was stored before."""
    with transaction() as session:
        recordings.store(session, [Start(caller.trajectory_id, caller.agent_id or "", consent=False)])


def _repeated(caller: Caller) -> Response:
    """What was answered under this call id before, so that what the agent acts on is what was recorded."""
    with transaction() as session:
        found = calls.with_id(session, caller.call_id)
    if found is None or (found[0], found[1].turn) != (caller.trajectory_id, caller.turn):
        raise bad_request("x-call-id", "names a call of another trajectory or turn; give every call an id of its own")
    call = found[1]
    version = BASE if call.model.startswith(f"{BASE}/") else call.model
    return JSONResponse(completion(call), headers=caller.headers(version))


def completion(call: records.Call) -> dict[str, Any]:
    """A recorded call as the chat completion that it was."""
    spoken, prompt = call.token_ids or [], call.prompt_token_ids or []
    content: list[dict[str, Any]] = [
        {"token": "", "bytes": None, "logprob": one, "top_logprobs": []} for one in call.logprobs or []
    ]
    return {
        "id": call.call_id,
        "object": "chat.completion",
        "created": 0,
        "model": call.model,
        "prompt_token_ids": call.prompt_token_ids,
        "choices": [
            {
                "index": 0,
                "message": call.response.model_dump(exclude_none=True) | {"content": call.response.content},
                "finish_reason": call.finish_reason or "stop",
                "token_ids": call.token_ids,
                "logprobs": {"content": content} if call.logprobs is not None else None,
            }
        ],
        "usage": {
            "prompt_tokens": len(prompt),
            "completion_tokens": len(spoken),
            "total_tokens": len(prompt) + len(spoken),
        },
    }
