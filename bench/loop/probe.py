"""An agent beside the run: it asks the gateway for each version as soon as there can be an answer.

Rows say when that is: the gateway routes to a version by its row, and a line's calls by its live release. Five times a
second the probe looks for versions and releases that have not answered it yet, and sends each one short request. It
never names a version that is not there, since the gateway remembers for a second that a name is unknown.
"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

import httpx
from sqlalchemy import text

from bench.loop.rows import LINE_PROBE, PROBE
from db.session import transaction
from rl.errors import RlfleetError

POLL_SECONDS = 0.2
ANSWER_SECONDS = 60.0


class Probe:
    """A thread that asks, from the beginning of a ``with`` block to its end.

    What it was answered is in the gateway's own record of calls, under the agents of ``bench.loop.rows``.
    """

    def __init__(self, gateway_url: str, key: str) -> None:
        self._url = f"{gateway_url}/v1/chat/completions"
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._answered: set[tuple[str, str]] = set()
        self._over = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="probe", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(2 * ANSWER_SECONDS)

    def settled(self) -> bool:
        """Whether everything that there is has answered.

        Raises:
            RlfleetError: the database was away, and the probe has stopped.
            RuntimeError: the thread ended by another error.
        """
        if self._error is not None:
            raise self._error if isinstance(self._error, RlfleetError) else RuntimeError(repr(self._error))
        return not self._waiting()

    def _run(self) -> None:
        try:
            with httpx.Client(timeout=ANSWER_SECONDS, trust_env=False) as client:
                while not self._over.wait(POLL_SECONDS):
                    for model, version in self._waiting():
                        self._ask(client, model, version)
        except Exception as error:  # raised again by whoever waits for the probe
            self._error = error

    def _waiting(self) -> list[tuple[str, str]]:
        """What to name, and the version that is to answer: versions by their own names, releases by their line's."""
        with transaction() as session:
            found = [(str(model), str(version)) for model, version in session.execute(THERE)]
        return [one for one in found if one not in self._answered]

    def _ask(self, client: httpx.Client, model: str, version: str) -> None:
        agent = PROBE if model == version else LINE_PROBE
        body = {"model": model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 1}
        try:
            answer = client.post(self._url, json=body, headers={**self._headers, "X-Agent-Id": agent})
        except httpx.TransportError:
            return  # the gateway is being started again; it is asked again at the next look
        if answer.status_code == 200 and answer.headers.get("X-Rlfleet-Version") == version:
            self._answered.add((model, version))


THERE = text("""
    select name, name from rlfleet.versions where state <> 'rejected'
    union all
    select l.name, v.name from rlfleet.releases r join rlfleet.lines l on l.id = r.line_id
      join rlfleet.versions v on v.id = r.version_id where r.ended_at is null and r.stage = 'stable' and r.share = 100
""")
