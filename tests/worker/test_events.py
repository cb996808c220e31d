"""Events are sent once: what is shown of a worker must never hold its event loop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from celery.worker.heartbeat import Heart
from redis import Redis

from worker.app import app
from worker.consumer import RECONNECT_SECONDS, Consumer
from worker.events import Dispatcher


class Producer:
    """What a dispatcher publishes with; the broker is away, but takes the first ``takes``."""

    def __init__(self, takes: int = 0) -> None:
        self.asked: list[dict[str, Any]] = []
        self.taken: list[Any] = []
        self.takes = takes

    def publish(self, event: Any, **options: Any) -> None:
        self.asked.append(options)
        if len(self.taken) == self.takes:
            raise ConnectionError
        self.taken.append(event)


class Timer:
    """Calls nothing by itself."""

    def call_repeatedly(self, *_: Any) -> None:
        return None


@pytest.fixture
def dispatcher(broker: Redis) -> Iterator[Any]:
    with app.connection_for_write() as connection:
        made = app.events.Dispatcher(connection, hostname="one@here")
        made.producer = Producer()
        yield made
        made.producer = None


def test_a_heartbeat_is_sent_once_and_kept(dispatcher: Any) -> None:
    assert isinstance(dispatcher, Dispatcher)
    Heart(Timer(), dispatcher).start()
    assert [one["retry"] for one in dispatcher.producer.asked] == [False]
    assert [key for _, key in dispatcher._outbound_buffer] == ["worker.online"]


def test_so_many_events_are_kept(dispatcher: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Dispatcher, "MOST_KEPT", 3)
    for number in range(5):
        dispatcher.send("worker-heartbeat", number=number)
    assert [event["number"] for event, _ in dispatcher._outbound_buffer] == [2, 3, 4]


def test_what_was_kept_is_sent_in_its_order_up_to_the_first_that_is_not_taken(dispatcher: Any) -> None:
    for number in range(5):
        dispatcher.send("worker-heartbeat", number=number)
    dispatcher.producer = Producer(takes=2)
    dispatcher.flush()
    assert [event["number"] for event in dispatcher.producer.taken] == [0, 1]
    assert len(dispatcher.producer.asked) == 3, "each that fails may take as long as a broker does not answer"
    assert sorted(event["number"] for event, _ in dispatcher._outbound_buffer) == [2, 3, 4]
    dispatcher.producer = Producer(takes=9)
    dispatcher.flush()
    assert [event["number"] for event in dispatcher.producer.taken] == [2, 3, 4]
    assert not dispatcher._outbound_buffer


def test_a_worker_asks_for_its_broker_every_few_seconds() -> None:
    asked = []

    class Connection:
        def ensure_connection(self, *_: Any, **options: Any) -> Any:
            asked.append(options["interval_max"])
            return self

    class Here(Consumer):
        def __init__(self) -> None:
            self.app, self.first_connection_attempt = app, False

    connection = Connection()
    assert Here().ensure_connected(connection) is connection
    assert asked == [RECONNECT_SECONDS]
