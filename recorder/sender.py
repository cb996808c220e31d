"""The thread that sends: the oldest events first, in batches, the same ones again until they are answered."""

from __future__ import annotations

import random
import threading
import time

import httpx

from recorder import ingest
from recorder.buffer import Buffer
from recorder.counts import Counts, log
from recorder.ingest import Reply, Verdict
from recorder.spool import Batch, Spool

BATCH_BYTES = 4 << 20
FIRST_WAIT = 0.25
LONGEST_WAIT = 30.0
LONGEST_ASKED = 600.0
ADOPT_SECONDS = 15.0


class Sender:
    """Sends what the spool holds, and what the buffer holds while ``writes`` says that no disk takes it.

    ``limit`` is how many events the next request holds: it is halved when the server finds a request too large or
    cannot read it, until one event is left, which is then rejected; it doubles with every request that goes well.
    """

    def __init__(
        self, url: str, key: str | None, is_gzip: bool, linger_seconds: float, buffer: Buffer, spool: Spool | None
    ) -> None:
        self.url, self.is_gzip, self.linger_seconds = url, is_gzip, linger_seconds
        self.buffer, self.spool = buffer, spool
        self.counts: Counts = buffer.counts
        self.writes = spool is not None
        self.wake, self.stop = threading.Event(), threading.Event()
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._limit = ingest.MAX_EVENTS
        self._failures = 0
        self._adopt_at = 0.0
        self._give_up_at = float("inf")

    def run(self, client: httpx.Client) -> None:
        """Send until ``stop`` is set; then send what is left, and end when there is nothing or it is safe on disk."""
        while True:
            self._adopt()
            reply = self._send_some(client)
            if reply is None:
                if self.stop.is_set():
                    return
                self._rest()
            elif reply.verdict in (Verdict.LATER, Verdict.REFUSED):
                if self.stop.is_set() and (self.writes or time.monotonic() > self._give_up_at):
                    return
                self._back_off(reply)

    def serve(self) -> None:
        """The body of the thread."""
        with httpx.Client(headers=self._headers, timeout=ingest.TIMEOUT, verify=ingest.certificates()) as client:
            self.run(client)

    def finish(self, deadline: float) -> None:
        """Have the thread end; what is only in memory it tries to send until ``deadline``, of the monotonic clock."""
        self._give_up_at = deadline
        self.stop.set()
        self.wake.set()

    def _send_some(self, client: httpx.Client) -> Reply | None:
        """Send one batch of the spool, or of the buffer; None when there is nothing to send."""
        drained = self.buffer.drained
        try:
            batch = self.spool.read(self._limit, BATCH_BYTES) if self.spool else None
        except OSError as error:
            self.counts.once("read", "the spool cannot be read (%s)", error.strerror)
            return Reply(Verdict.LATER, "the spool cannot be read") if self.writes else self._send_buffered(client)
        if batch is not None:
            reply, refused = self._send(client, batch.events)
            if reply.verdict is Verdict.STORED or refused:
                self._acknowledge(batch, reply, refused)
            return reply
        self.buffer.settle(drained)
        return None if self.writes else self._send_buffered(client)

    def _send_buffered(self, client: httpx.Client) -> Reply | None:
        events = self.buffer.peek(self._limit, BATCH_BYTES)
        if not events:
            return None
        answered = 0
        try:
            reply, refused = self._send(client, events)
            if reply.verdict is Verdict.STORED or refused:
                answered = len(events)
                self._count(answered, reply, refused)
        finally:
            self.buffer.release(answered)
        return reply

    def _send(self, client: httpx.Client, events: list[bytes]) -> tuple[Reply, int]:
        """The server's answer, and how many of the events were refused for good and put aside."""
        reply = ingest.post(client, self.url, events, is_gzip=self.is_gzip)
        refused = 0
        if reply.verdict is Verdict.STORED:
            for refusal in reply.refusals:
                self._put_aside(events[refusal.index], refusal.field, refusal.reason)
            refused = len({refusal.index for refusal in reply.refusals})
            self._limit = min(ingest.MAX_EVENTS, 2 * self._limit)
            self._recovered()
        elif reply.verdict is Verdict.SPLIT:
            self._limit = max(1, len(events) // 2)
            if len(events) == 1:
                self._put_aside(events[0], "", reply.reason)
                refused = 1
        elif reply.verdict is Verdict.PLAIN and self.is_gzip:
            self.is_gzip = False
        elif reply.verdict is Verdict.PLAIN:
            reply = Reply(Verdict.REFUSED, reply.reason)
        return reply, refused

    def _acknowledge(self, batch: Batch, reply: Reply, refused: int) -> None:
        try:
            is_known = self.spool is not None and self.spool.acknowledge(batch)
        except OSError as error:
            is_known = True
            self.counts.once("acknowledge", "what was sent cannot be marked (%s): sent twice", type(error).__name__)
        if is_known:
            self._count(len(batch.events), reply, refused)

    def _count(self, events: int, reply: Reply, refused: int) -> None:
        self.counts.add("sent", events - refused)
        self.counts.add("duplicate", reply.duplicate)
        self.counts.add("rejected", refused)

    def _put_aside(self, event: bytes, field: str, reason: str) -> None:
        self.counts.once(f"rejected {field} {reason}", "the server rejected an event: %s %s", field, reason)
        if self.spool is None:
            return
        try:
            self.spool.reject(event, field, reason)
        except OSError as error:
            self.counts.once("put aside", "a rejected event cannot be kept (%s)", type(error).__name__)

    def _adopt(self) -> None:
        """Take over what ended processes left, now and then, while the server answers."""
        if self.spool is None or not self.writes or self._failures or time.monotonic() < self._adopt_at:
            return
        self._adopt_at = time.monotonic() + ADOPT_SECONDS
        try:
            self.spool.adopt()
        except OSError as error:
            self.counts.once("adopt", "the spools of ended processes cannot be read (%s)", type(error).__name__)

    def _rest(self) -> None:
        """Wait for events, then a little longer for their neighbours."""
        if self.wake.wait(ADOPT_SECONDS):
            self.wake.clear()
            deadline = time.monotonic() + self.linger_seconds
            while (left := deadline - time.monotonic()) > 0 and not self.buffer.urgent.is_set():
                if self.stop.wait(min(left, 0.05)):
                    return
        if not self.writes:
            self.buffer.urgent.clear()

    def _back_off(self, reply: Reply) -> None:
        """Wait as long as the server asks, or twice as long as the last time; a random part keeps clients apart."""
        if not self._failures or reply.verdict is Verdict.REFUSED:
            remedy = "check the key and the address" if reply.verdict is Verdict.REFUSED else "they are sent later"
            self.counts.once(reply.verdict.name, "events cannot be sent: %s; %s", reply.reason, remedy)
        self._failures += 1
        wait = min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(self._failures - 1, 10)) * random.uniform(0.5, 1.0)
        if reply.verdict is Verdict.REFUSED:
            wait = LONGEST_WAIT * random.uniform(0.5, 1.0)
        elif reply.retry_after is not None:
            wait = min(LONGEST_ASKED, reply.retry_after) * random.uniform(1.0, 1.25)
        if self.stop.is_set():
            time.sleep(min(wait, FIRST_WAIT))
        else:
            self.stop.wait(wait)

    def _recovered(self) -> None:
        if self._failures:
            log.info("events are sent again")
            self.counts.again(Verdict.LATER.name)
            self.counts.again(Verdict.REFUSED.name)
        self._failures = 0
