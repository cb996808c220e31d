"""What `/health` says of what is there and of what is not."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler
from pathlib import Path

from admin import probes
from db import engines, workers
from db.session import transaction
from rl.protocol import QUEUES
from tests.admin.world import Api
from tests.served import served


class Well(BaseHTTPRequestHandler):
    """An engine, or a gateway, that is well."""

    status = 200

    def do_GET(self) -> None:
        assert self.path == "/health"
        self.send_response(self.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""


class Ill(Well):
    status = 503


def test_health_asks_everything(api: Api, tmp_path: Path) -> None:
    workers.announce("w@here", QUEUES, 1, "cpu", 1)
    with served(Well) as engine, served(Ill) as gateway:
        with transaction() as session:
            engines.announce(session, "e", engine, "cpu", 1)
        assert probes.look(engine, tmp_path).reasons == []
        assert probes.look(gateway, tmp_path).reasons == ["the gateway says that it is not well: 503"]
        with transaction() as session:
            engines.announce(session, "e", gateway, "cpu", 1)
        found = probes.look("http://127.0.0.1:9", tmp_path)
    assert found.reasons == ["no engine answers", "the gateway does not answer"]
    assert found.disk is not None
    assert 0 < found.disk.free < found.disk.total
    assert probes.look("", tmp_path / "none").disk is None


def test_health_of_a_fleet_without_a_broker(api: Api, broker_away: None) -> None:
    found = api.viewer.get("/health").json()
    assert (found["broker"], found["reasons"][0]) == ({"status": "does not answer", "waiting": {}}, BROKER)


BROKER = "the broker does not answer"


def test_health_names_what_is_missing(api: Api) -> None:
    answer = api.viewer.get("/health")
    found = answer.json()
    assert (answer.status_code, found["status"], found["database"]) == (503, "degraded", "ok")
    assert (found["broker"]["status"], set(found["broker"]["waiting"].values())) == ("ok", {0})
    assert found["reasons"] == ["no worker serves collect, score, maint, gpu"]
    assert found["gateway"] is None
