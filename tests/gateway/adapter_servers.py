"""vLLM and SGLang, as far as adapters are concerned: their paths, statuses and words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.gateway.doubles import FakeEngine

BASE_MODEL, BASE = "random-qwen3", "/base"
"""What the servers call their base model, and its folder, which the versions of a ``World`` are for."""


@dataclass
class Vllm(FakeEngine):
    """``vllm serve`` with ``VLLM_ALLOW_RUNTIME_LORA_UPDATING``, as ``serving_models.py`` has it.

    ``folders`` are the adapters on its disk, ``roots`` those that are loaded, ``said`` what it was told, in order;
    ``base`` is the folder that it was started with, and ``ill`` what it says when it is asked for its models.
    """

    folders: set[str] = field(default_factory=set)
    said: list[tuple[str, str]] = field(default_factory=list)
    base: str = BASE
    ill: int | None = None

    async def models(self, request: Request) -> JSONResponse:
        self.probed += 1
        if refused := self._refused(request):
            return refused
        if self.ill is not None:
            return self._problem(self.ill, "it is busy")
        return JSONResponse({"data": self._cards()})

    def _cards(self) -> list[dict[str, Any]]:
        base = {"id": BASE_MODEL, "root": self.base, "parent": None}
        return [base] + [{"id": name, "root": root, "parent": BASE_MODEL} for name, root in self.roots.items()]

    async def load(self, request: Request) -> JSONResponse:
        if refused := self._refused(request):
            return refused
        body = await request.json()
        name, path = body["lora_name"], body["lora_path"]
        self.said.append(("load", path))
        if name in self.roots:
            return self._problem(400, f"The lora adapter '{name}' has already been loaded.")
        if path not in self.folders:
            return self._problem(404, f"No adapter found for {path}")
        self.roots[name] = path
        return self._done()

    async def unload(self, request: Request) -> JSONResponse:
        if refused := self._refused(request):
            return refused
        name = (await request.json())["lora_name"]
        self.said.append(("unload", name))
        if self.roots.pop(name, None) is None:
            return self._problem(404, f"The lora adapter '{name}' cannot be found.")
        return self._done()

    async def complete(self, request: Request) -> Response:
        self.versions = {BASE_MODEL, *self.roots}
        return await super().complete(request)

    def _done(self) -> JSONResponse:
        return JSONResponse("Success")

    def _problem(self, status: int, message: str) -> JSONResponse:
        return JSONResponse({"error": {"message": message, "code": status}}, status)


@dataclass
class Sglang(Vllm):
    """SGLang with ``--enable-lora``, as ``http_server.py`` and ``lora_registry.py`` have it."""

    base: str = BASE_MODEL

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/health", self.health),
                Route("/v1/chat/completions", self.complete, methods=["POST"]),
                Route("/v1/models", self.models),
                Route("/load_lora_adapter", self.load, methods=["POST"]),
                Route("/unload_lora_adapter", self.unload, methods=["POST"]),
            ]
        )

    async def complete(self, request: Request) -> Response:
        body = await request.json()
        adapter = body.get("lora_path")
        if adapter is not None and adapter not in self.roots:
            return self._problem(400, f"The following requested LoRA adapters are not loaded: {adapter}")
        if body.get("stream") and body.get("return_token_ids"):
            return self._problem(400, "return_token_ids is not supported with stream=true")
        return await FakeEngine.complete(self, request)

    def completion(self, model: str, number: int) -> dict[str, Any]:
        answer = super().completion(model, number)
        if self.has_tokens:
            answer["choices"][0]["prompt_token_ids"] = answer.pop("prompt_token_ids")
        return answer

    def _done(self) -> JSONResponse:
        return JSONResponse({"success": True, "error_message": "", "loaded_adapters": self.roots})

    def _problem(self, status: int, message: str) -> JSONResponse:
        words = message.replace("has already been loaded", "already exists")
        return JSONResponse({"success": False, "error_message": words, "loaded_adapters": self.roots}, 400)
