"""Streamed completions: passed on chunk by chunk, and recorded as one completion when they end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from recorder.completions import of


class Stream:
    """Stands in for an OpenAI client's stream, sync or async; what it does not know it asks of that.

    ``done`` is called once with the completion so far, when the stream ends, fails or is closed; with None if there was
    a chunk that could not be read.
    """

    def __init__(self, stream: Any, done: Callable[[dict[str, Any] | None], object]) -> None:
        self._stream, self._done = stream, done
        self._sum = Sum()
        self._is_done = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __iter__(self) -> Iterator[Any]:
        try:
            for chunk in self._stream:
                self._sum.add(chunk)
                yield chunk
        finally:
            self._finish()

    def __next__(self) -> Any:
        try:
            chunk = next(self._stream)
        except BaseException:
            self._finish()
            raise
        self._sum.add(chunk)
        return chunk

    async def __aiter__(self) -> AsyncIterator[Any]:
        try:
            async for chunk in self._stream:
                self._sum.add(chunk)
                yield chunk
        finally:
            self._finish()

    async def __anext__(self) -> Any:
        try:
            chunk = await anext(self._stream)
        except BaseException:
            self._finish()
            raise
        self._sum.add(chunk)
        return chunk

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    async def __aenter__(self) -> Stream:
        return self

    async def __aexit__(self, *error: object) -> None:
        self._finish()
        await self._stream.close()

    def close(self) -> Any:
        """Close the stream; of an async one, something to await."""
        self._finish()
        return self._stream.close()

    def _finish(self) -> None:
        if not self._is_done:
            self._is_done = True
            self._done(self._sum.completion())


class Sum:
    """The chunks of the first choice, added up."""

    def __init__(self) -> None:
        self._model: str | None = None
        self._finish: str | None = None
        self._texts: dict[str, list[str]] = {"content": [], "reasoning_content": []}
        self._tools: dict[int, dict[str, Any]] = {}
        self._logprobs: list[Any] = []
        self._ids: list[int] = []
        self._prompt: list[int] | None = None
        self._is_readable = True

    def add(self, chunk: object) -> None:
        """Take what the chunk adds."""
        try:
            self._add(chunk)
        except Exception:  # the chunk belongs to the agent, which gets it whatever it is
            self._is_readable = False

    def _add(self, chunk: object) -> None:
        self._model = of(chunk, "model") or self._model
        self._prompt = of(chunk, "prompt_token_ids") or self._prompt
        for choice in of(chunk, "choices") or []:
            if not of(choice, "index"):
                self._add_choice(choice)

    def completion(self) -> dict[str, Any] | None:
        """A chat completion with what was streamed so far; None if a chunk could not be read."""
        if not self._is_readable:
            return None
        spoken: dict[str, Any] = {
            "role": "assistant",
            **{name: "".join(parts) for name, parts in self._texts.items() if parts},
        }
        if self._tools:
            spoken["tool_calls"] = [self._tools[index] for index in sorted(self._tools)]
        choice = {
            "message": spoken,
            "finish_reason": self._finish,
            "token_ids": self._ids,
            "logprobs": {"content": self._logprobs},
        }
        return {"model": self._model, "prompt_token_ids": self._prompt, "choices": [choice]}

    def _add_choice(self, choice: object) -> None:
        delta = of(choice, "delta")
        self._finish = of(choice, "finish_reason") or self._finish
        self._logprobs += of(of(choice, "logprobs"), "content") or []
        self._ids += of(choice, "token_ids") or []
        self._prompt = of(choice, "prompt_token_ids") or self._prompt
        for name, parts in self._texts.items():
            text = of(delta, name) or (of(delta, "reasoning") if name == "reasoning_content" else None)
            if isinstance(text, str):
                parts.append(text)
        for part in of(delta, "tool_calls") or []:
            self._add_tool(part)

    def _add_tool(self, part: object) -> None:
        call = self._tools.setdefault(
            of(part, "index") or 0, {"id": None, "type": "function", "function": {"name": "", "arguments": ""}}
        )
        call["id"] = of(part, "id") or call["id"]
        for name in ("name", "arguments"):
            call["function"][name] += of(of(part, "function"), name) or ""
