"""A stand-in for ART's training service: models, trainings with events, checkpoints, and completions, over real HTTP.

A training gets on by one event with each look at it, or at its model's checkpoints, unless it is held. What the service
is known to do is taken from ART 0.5.18's own client; the rest is the least that it can work with.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

KEY = "wandb-key-of-a-test"
ENTITY, PROJECT, BASE = "acme", "babylon-rl-training", "Qwen/Qwen3-14B"
Says = Callable[[str, dict[str, Any]], str]


@dataclass
class Job:
    """A training: the request's body, its events, and how many of them have happened; while ``held`` no more do."""

    id: str
    body: dict[str, Any]
    events: list[dict[str, Any]]
    happened: int = 1
    held: bool = False


@dataclass
class Model:
    """A model, its checkpoints, and its trainings."""

    about: dict[str, Any]
    checkpoints: list[dict[str, Any]] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)

    def get_on(self) -> None:
        """One more event of each training; one that has ended leaves a checkpoint."""
        for job in self.jobs:
            if job.happened < len(job.events) and not job.held:
                job.happened += 1
                if job.events[job.happened - 1]["type"] == "training_ended":
                    self.add_checkpoint()

    def add_checkpoint(self) -> None:
        step = len(self.checkpoints) + 1
        self.checkpoints.append({"id": f"checkpoint-{step}", "step": step, "metrics": {}})


@dataclass
class Service:
    """What it holds, and what goes wrong: ``submits`` are answers to the next requests for a training.

    ``lost``: it is made, and the connection dies. ``late-500``: it is made, and the answer is 500. ``nothing``: the
    connection dies, and nothing is made. A number: that status, and nothing is made. ``held`` keeps trainings from
    getting on, ``fails`` is how the next ones end, ``looks`` are statuses of the next looks at events. ``page`` is how
    many events or checkpoints an answer holds at most. ``headers`` are those of all requests, but for the key.

    ``slow`` says what does not answer, by the end of its path: ``hang`` says nothing, and ``drip`` a blank every 50 ms.
    What was asked for is done all the same. ``repeats``: every page of events is the first, and says that more follow.
    ``refuses`` is the status of every answer about models.
    """

    url: str = ""
    models: dict[str, Model] = field(default_factory=dict)
    asked: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    page: int = 20
    submits: list[str | int] = field(default_factory=list)
    looks: list[int] = field(default_factory=list)
    held: bool = False
    fails: str | None = None
    slow: dict[str, Literal["hang", "drip"]] = field(default_factory=dict)
    repeats: bool = False
    refuses: int | None = None
    gradient_steps: int = 2
    says: Says = lambda model, body: "?"
    lock: threading.RLock = field(default_factory=threading.RLock)
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def jobs(self) -> list[Job]:
        """Every training that was made."""
        return [job for model in self.models.values() for job in model.jobs]

    @property
    def posts(self) -> int:
        """How many requests for a training came."""
        return sum(path.endswith("/training-jobs") for _, path, _ in self.asked)

    def model(self, body: dict[str, Any]) -> dict[str, Any]:
        name = body["name"]
        if name not in self.models:
            about = {"entity": body["entity"] or ENTITY, "project": body["project"], "name": name}
            about |= {"id": f"model-{len(self.models) + 1}", "base_model": body["base_model"], "run_id": name}
            self.models[name] = Model(about)
        return self.models[name].about

    def by_id(self, model_id: str) -> Model:
        return next(one for one in self.models.values() if one.about["id"] == model_id)

    def submit(self, body: dict[str, Any]) -> Job:
        job_id, groups = f"training-{len(self.jobs) + 1}", body["trajectory_groups"]
        several = [("training_started", {"num_sequences": sum(len(one["trajectories"]) for one in groups)})]
        several += [
            ("gradient_step", {"loss": 1 / step, "grad_norm": 1.0}) for step in range(1, self.gradient_steps + 1)
        ]
        several += [("training_failed", {"error_message": self.fails})] if self.fails else [("training_ended", {})]
        events = [
            {"id": f"{job_id}-event-{place}", "type": kind, "data": data} for place, (kind, data) in enumerate(several)
        ]
        job = Job(job_id, body, events)
        self.by_id(body["model_id"]).jobs.append(job)
        return job


def names_in(headers: list[dict[str, str]]) -> set[str]:
    """The names of headers that begin with ``x-``, but for those of the client library itself."""
    return {name for one in headers for name in one if name.startswith("x-") and not name.startswith("x-stainless-")}


def _completion(service: Service, body: dict[str, Any]) -> dict[str, Any]:
    said = service.says(body["model"], body)
    tokens = [ord(letter) for letter in said] or [0]
    content = [{"token": f"token_id:{one}", "logprob": -0.5, "bytes": None, "top_logprobs": []} for one in tokens]
    choice = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": said},
        "logprobs": {"content": content},
        "token_ids": tokens,
    }
    prompt = [ord(letter) for one in body["messages"] for letter in one.get("content") or ""]
    return {"id": "c", "object": "chat.completion", "created": 1, "model": body["model"], "choices": [choice]} | {
        "prompt_token_ids": prompt
    }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    service: Service

    def log_message(self, *_: object) -> None:
        pass

    def handle_one_request(self) -> None:
        """As ever; an answer that is slow comes once others can be answered."""
        self.slow: Literal["hang", "drip"] | None = None
        super().handle_one_request()
        if self.slow == "hang":
            self.service.over.wait()
        while self.slow == "drip" and not self.service.over.wait(0.05):
            self.wfile.write(b" ")
            self.wfile.flush()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        path = urlsplit(self.path).path
        with self.service.lock:
            if not self._heard("POST", path, body):
                return None
            if path == "/v1/preview/models" and self.service.refuses:
                return self._send({"error": {"message": "come again"}}, self.service.refuses)
            if path == "/v1/preview/models":
                return self._send(self.service.model(body))
            if path == "/v1/preview/training-jobs":
                return self._submit(body)
        if path == "/v1/chat/completions":
            return self._send(_completion(self.service, body))
        return self._send({"error": {"message": "no such path"}}, 404)

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
        with self.service.lock:
            if not self._heard("GET", parts.path, asked):
                return None
            _, _, rest = parts.path.partition("/v1/preview/")
            kind, _, rest = rest.partition("/")
            about, _, what = rest.partition("/")
            if (kind, what) == ("models", "checkpoints"):
                return self._checkpoints(self.service.by_id(about), asked)
            if (kind, what) == ("training-jobs", "events"):
                return self._events(about, asked)
        return self._send({"error": {"message": "no such path"}}, 404)

    def _heard(self, method: str, path: str, asked: dict[str, Any]) -> bool:
        """Note the request. Whether it shows the key; it is refused otherwise."""
        self.service.asked.append((method, path, asked))
        told = {name.lower(): value for name, value in self.headers.items()}
        given = told.pop("authorization", None)
        self.service.headers.append(told)
        if given != f"Bearer {KEY}":
            self._send({"error": {"message": f"no such key: {given}"}}, 401)
        return given == f"Bearer {KEY}"

    def _submit(self, body: dict[str, Any]) -> None:
        fault = self.service.submits.pop(0) if self.service.submits else None
        if isinstance(fault, int):
            return self._send({"error": {"message": f"not now, {KEY}"}}, fault)
        if fault == "nothing":
            return self._hang_up()
        job = self.service.submit(body)
        if fault == "lost":
            return self._hang_up()
        if fault == "late-500":
            return self._send({"error": {"message": "something broke"}}, 500)
        return self._send({"id": job.id})

    def _checkpoints(self, model: Model, asked: dict[str, str]) -> None:
        if not self.service.held:
            model.get_on()
        self._page(model.checkpoints[::-1] if asked.get("order") == "desc" else model.checkpoints, asked)

    def _events(self, job_id: str, asked: dict[str, str]) -> None:
        if self.service.looks:
            return self._send({"error": {"message": "come again"}}, self.service.looks.pop(0))
        model = next((one for one in self.service.models.values() if any(job.id == job_id for job in one.jobs)), None)
        if model is None:
            return self._send({"error": {"message": "no such training"}}, 404)
        if not self.service.held:
            model.get_on()
        job = next(job for job in model.jobs if job.id == job_id)
        return self._page(job.events[: job.happened], asked)

    def _page(self, several: list[dict[str, Any]], asked: dict[str, str]) -> None:
        """What comes after the one that is named, as much of it as one answer holds."""
        ids = [one["id"] for one in several]
        is_next = asked.get("after") in ids and not self.service.repeats
        left = several[ids.index(asked["after"]) + 1 :] if is_next else several
        most = min(int(asked.get("limit", self.service.page)), self.service.page)
        self._send({"data": left[:most], "has_more": len(left) > most or self.service.repeats})

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.close()

    def _send(self, found: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(found).encode()
        self.slow = self.service.slow.get(urlsplit(self.path).path.rpartition("/")[2])
        self.close_connection = self.close_connection or self.slow is not None
        if self.slow == "hang":
            return
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body) if self.slow is None else 1 << 20))
        self.end_headers()
        self.wfile.write(body if self.slow is None else b" ")


@contextmanager
def serving() -> Iterator[Service]:
    """The service on a port of its own, until the block ends."""
    service = Service()
    handler = type("Handler", (_Handler,), {"service": service})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    service.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        service.over.set()
        server.shutdown()
        server.server_close()
        thread.join()
