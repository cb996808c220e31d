"""Requests of all versions, batched: one thread decodes whatever is there, step by step."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict, deque

from gpu.generate import Decoder, Request
from gpu.policy import Policy, Version
from rl.errors import EngineUnavailable

log = logging.getLogger(__name__)

GATHER_SECONDS = 0.003
QUIET_SECONDS = 0.0005
IDLE_DECODERS = 1
"""How many versions keep their prefixes after their last request, besides the one in use."""


class Scheduler:
    """A bounded queue and the decoding thread. New requests join the running batch at each step."""

    def __init__(self, policy: Policy, max_waiting: int = 1024) -> None:
        self.policy = policy
        self.max_waiting = max_waiting
        self._waiting: dict[Version, deque[Request]] = {}
        self._decoders: OrderedDict[Version, Decoder] = OrderedDict()
        self._wake = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="decoding", daemon=True)

    def start(self) -> None:
        """Begin to decode."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the step that is running, then nothing more."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread.ident:
            self._thread.join()

    @property
    def waiting(self) -> int:
        """How many requests are not being decoded yet."""
        return sum(len(queue) for queue in list(self._waiting.values()))

    @property
    def running(self) -> int:
        """How many requests are being decoded."""
        return sum(len(decoder.rows) for decoder in list(self._decoders.values()))

    def submit(self, version: Version, request: Request) -> None:
        """Queue a request of ``version``; its ``finished`` is called on the decoding thread.

        Raises:
            EngineUnavailable: the queue is full.
        """
        with self._wake:
            if self.waiting >= self.max_waiting:
                raise EngineUnavailable(f"{self.max_waiting} requests are waiting; try again later")
            self._waiting.setdefault(version, deque()).append(request)
            self._wake.notify()

    def _run(self) -> None:
        while self._gather():
            busy = [version for version, decoder in self._decoders.items() if decoder.rows]
            for version in dict.fromkeys([*list(self._waiting), *busy]):
                self._advance(version)

    def _gather(self) -> bool:
        """Wait for work; when idle, a moment longer while more keeps coming. False when told to stop."""
        with self._wake:
            busy = any(decoder.rows for decoder in self._decoders.values())
            self._wake.wait_for(lambda: busy or self.waiting or self._stopping)
            if busy or self._stopping:
                return not self._stopping
        deadline, seen = time.monotonic() + GATHER_SECONDS, 0
        while self.waiting > seen and time.monotonic() < deadline:
            seen = self.waiting
            time.sleep(QUIET_SECONDS)
        return True

    def _advance(self, version: Version) -> None:
        """One decoding step of one version. Its queue stays where it is counted, or the bound would not hold."""
        decoder = self._decoder(version)
        with self._wake:
            queue = self._waiting.setdefault(version, deque())
        try:
            with self.policy.using(version):
                decoder.admit(queue)
                decoder.step()
        except Exception as error:
            # Whatever broke, the callers must hear of it and the other versions go on.
            log.exception("decoding %s failed", version.name)
            del self._decoders[version]
            with self._wake:
                failed = [*decoder.requests, *queue]
                queue.clear()
            for request in failed:
                request.finished(error)
        with self._wake:
            if not queue:
                del self._waiting[version]

    def _decoder(self, version: Version) -> Decoder:
        """The version's decoder; a new one makes room by dropping those that have been idle longest."""
        decoder = self._decoders.get(version)
        if decoder is None:
            idle = [one for one, other in self._decoders.items() if not other.rows]
            dropped = [self._decoders.pop(one) for one in idle[: max(0, len(idle) - IDLE_DECODERS)]]
            decoder = Decoder(version, arena=dropped[-1].arena if dropped else None)
            self._decoders[version] = decoder
        self._decoders.move_to_end(version)
        return decoder
