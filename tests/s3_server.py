"""A server that speaks S3 over HTTP (moto's, whose objects lie in this process), and what befalls requests to it.

moto checks no signatures and keeps everything in memory: what is shown here is how we speak to such a server.
"""

from __future__ import annotations

import re
import secrets
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx
import pytest
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

Fault = Literal["500", "403", "cut", "hold", "lost", "slow"]
HOLD_SECONDS, SLOW_SECONDS = 120.0, 0.3


class QuietHandler(MotoRequestHandler):  # type: ignore[misc]
    def log(self, type: str, message: str, *args: Any) -> None:
        """Say nothing of requests."""


@dataclass
class S3:
    """The server at ``url`` with one empty ``bucket``, and the requests that it was sent, as ``PUT /bucket/key``."""

    url: str = ""
    bucket: str = field(default_factory=lambda: f"bucket-{secrets.token_hex(4)}")
    requests: list[str] = field(default_factory=list)
    held: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)
    _faults: list[tuple[re.Pattern[str], Fault, int]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def store(self) -> str:
        """What ``RLFLEET_STORE`` is set to."""
        return f"s3://{self.bucket}/fleet"

    @property
    def variables(self) -> dict[str, str]:
        """What a process needs to use it."""
        return {
            "RLFLEET_STORE": self.store,
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "a-key",
            "AWS_SECRET_ACCESS_KEY": "a-secret",
            "AWS_REGION": "us-east-1",
        }

    def befall(self, request: str, fault: Fault, times: int = 10_000) -> None:
        """The next ``times`` requests that match: fail, are refused, are cut in the middle of what they send, wait.

        ``lost``: it is done, and not said; ``slow``: it is done after ``SLOW_SECONDS``.
        """
        with self._lock:
            self._faults.append((re.compile(request), fault, times))

    def heal(self) -> None:
        """Nothing befalls requests any more, and those that are held go on."""
        with self._lock:
            self._faults.clear()
        self.released.set()

    def count(self, method: str) -> int:
        """How many requests of that method came."""
        return Counter(one.partition(" ")[0] for one in self.requests)[method]

    def fault(self, request: str) -> Fault | None:
        with self._lock:
            self.requests.append(request)
            for place, (pattern, fault, times) in enumerate(self._faults):
                if pattern.search(request):
                    if times > 1:
                        self._faults[place] = (pattern, fault, times - 1)
                    else:
                        del self._faults[place]
                    return fault
        return None


class Application:
    """moto's application behind the faults."""

    def __init__(self, s3: S3) -> None:
        self._s3, self._moto = s3, DomainDispatcherApplication(create_backend_app)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        fault = self._s3.fault(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}")
        if fault == "hold":
            self._s3.held.set()
            self._s3.released.wait(HOLD_SECONDS)
        elif fault == "slow":
            time.sleep(SLOW_SECONDS)
        elif fault == "cut":
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0) // 2)
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            raise ConnectionError
        elif fault in ("500", "403"):
            code = "InternalError" if fault == "500" else "AccessDenied"
            start_response(f"{fault} {code}", [("Content-Type", "application/xml")])
            return [f"<?xml version='1.0'?><Error><Code>{code}</Code><Key>a-secret-word</Key></Error>".encode()]
        answer: Iterable[bytes] = self._moto(environ, start_response)
        if fault == "lost":
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        return answer


@contextmanager
def serving() -> Iterator[S3]:
    """The server, in threads of this process."""
    s3 = S3()
    server = make_server("127.0.0.1", 0, Application(s3), threaded=True, request_handler=QuietHandler)
    s3.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        assert httpx.put(f"{s3.url}/{s3.bucket}", trust_env=False).status_code == 200
        s3.requests.clear()
        yield s3
    finally:
        s3.heal()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    """The server, as the one that this process's variables name."""
    with serving() as one:
        for name, value in one.variables.items():
            monkeypatch.setenv(name, value)
        yield one
