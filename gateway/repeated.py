"""An answer that was given before: what an agent acts on is what was recorded."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response

from gateway.caller import Caller
from gateway.capture import Answered
from gateway.chat import ChatRequest
from gateway.errors import bad_request
from gateway.event_stream import NO_BUFFERING
from gateway.routing import BASE
from gateway.streaming import Heard, events_of
from rl import records

REASON = {"X-Rlfleet-Reason": "recorded before"}


def repeated(caller: Caller, asked: ChatRequest, before: Answered | None) -> Response:
    """What was answered under this call id before, as a stream where the caller wants one.

    Raises:
        Refusal: 400, it was for another trajectory or turn, or is gone meanwhile.
    """
    if before is None or (before.trajectory_id, before.call.turn) != (caller.trajectory_id, caller.turn):
        raise bad_request("x-call-id", "names a call of another trajectory or turn; give every call an id of its own")
    version = BASE if before.call.model.startswith(f"{BASE}/") else before.call.model
    headers = caller.headers(version) | REASON
    answer = completion(before.call)
    if not asked.is_streamed:
        return JSONResponse(answer, headers=headers)
    heard = Heard(asked.body)
    events = heard.feed(events_of(answer, asked.body)) + heard.last
    return Response(events, headers=headers | NO_BUFFERING, media_type="text/event-stream")


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
