"""What is recorded of a call: the answer that was given, or that its version did not answer."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from db.calls import NewCall
from db.failures import NewFailure
from gateway.caller import Caller
from gateway.capture import Answered, Recorded, Recorder
from gateway.catalog import Catalog
from gateway.chat import ChatRequest, Spoken
from gateway.redactor import Redactor
from gateway.routing import BASE, PINNED, Route
from gateway.settings import Capture, GatewaySettings

log = logging.getLogger(__name__)


class Recording:
    """The recorder, behind consent and redaction. With capture off it does nothing."""

    def __init__(self, settings: GatewaySettings, catalog: Catalog, redactor: Redactor) -> None:
        self.recorder = Recorder(settings)
        self.is_on = settings.capture is not Capture.OFF
        self._catalog, self._redactor = catalog, redactor
        self._without_tokens: set[str] = set()

    async def record(self, caller: Caller, asked: ChatRequest, line: str, version: str, spoken: Spoken) -> Recorded:
        """Record what may be recorded of the answer of ``version``.

        Raises:
            Refusal: 503, it cannot be recorded: the answer must not be given.
            DatabaseUnavailable: it was to be committed first, and was not.
        """
        if not self.is_on:
            return Recorded(True)
        if caller.consent is False:
            await self.recorder.refused(caller.trajectory_id, caller.agent_id, committed=caller.committed)
            return Recorded(True)
        call = self._call(caller, asked, line, version, spoken)
        kept = await self._redactor.captured(call, (await self._catalog.snapshot()).redactions)
        if isinstance(kept, NewCall):
            return await self.recorder.record(kept, committed=caller.committed)
        await self.recorder.quarantined(line, kept, committed=caller.committed)
        return Recorded(True)

    def failed(self, caller: Caller, route: Route, reason: str, *, asked: bool = True) -> None:
        """Record that the route's version did not answer; unless ``asked``, because circuit breakers kept it from that.

        ``reason`` holds no word of an engine's. Nothing is recorded of an episode that nobody agreed to.

        Nor of a call that named the version, or was given it by a pin: a canary is compared by the calls that its share
        gave it.

        Raises:
            Refusal: 503, it cannot be recorded.
        """
        if caller.consent is not False and not route.is_exact and route.reason != PINNED:
            now = datetime.now(UTC)
            row = NewFailure(caller.call_id, route.line, route.version, reason, now, asked, caller.unit)
            self.recorder.failed(row)

    def remembered(self, caller: Caller) -> Answered | None:
        """What was answered under the caller's call id lately."""
        return self.recorder.remembered(caller.call_id) if self.is_on and caller.names_call else None

    async def answered(self, caller: Caller) -> Answered | None:
        """What was answered under the caller's call id, as far as is known."""
        return await self.recorder.answered(caller.call_id) if self.is_on and caller.names_call else None

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
