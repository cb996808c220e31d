"""What `/health` says of what is there and of what is not."""

from __future__ import annotations

from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from admin import probes
from admin.app import POOL_SECONDS
from db import engines, migrate, slots, workers
from db.session import engine, limit_pool_wait, transaction
from rl.protocol import QUEUES
from tests.admin.world import Api
from tests.served import served
from tests.tasks import rows


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
    fresh = probes.look("", tmp_path / "none" / "artifacts").disk
    assert fresh is not None, "the folder is made with the first artifact"
    assert (fresh.path, fresh.status, fresh.total) == (str(tmp_path / "none" / "artifacts"), "ok", found.disk.total)


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


def test_a_schema_of_another_revision_is_not_ready(api: Api) -> None:
    newest = migrate.newest()
    assert api.nobody.get("/ready").json() == {"status": "ok", "reason": ""}
    rows.rows("update rlfleet.alembic_version set version_num = '0007' returning 1")
    try:
        answer = api.nobody.get("/ready")
    finally:
        rows.rows("update rlfleet.alembic_version set version_num = :newest returning 1", newest=newest)
    assert answer.status_code == 503
    assert answer.json()["reason"].startswith(f"the database is at revision 0007, this version needs {newest}")


def test_with_all_connections_in_use_the_server_says_so_soon(api: Api) -> None:
    limit_pool_wait(0.1)
    try:
        with ExitStack() as stack:
            for _ in range(15):
                stack.enter_context(engine().connect())
            assert api.nobody.get("/live").status_code == 200
            ready, lines = api.nobody.get("/ready"), api.viewer.get("/api/admin/lines")
    finally:
        limit_pool_wait(POOL_SECONDS)
    assert (ready.status_code, ready.json()["reason"]) == (503, "the database does not answer")
    assert (lines.status_code, lines.headers["retry-after"]) == (503, "5")
    assert lines.json()["error"] == "the database did not answer"


def test_one_of_two_engines_that_is_gone_is_told_where_two_are_needed(api: Api, tmp_path: Path) -> None:
    with served(Well) as engine_url:
        with transaction() as session:
            engines.announce(session, "here/cpu", engine_url, "cpu", 1)
            engines.announce(session, "there/cpu", "http://127.0.0.1:9", "cpu", 1)
        workers.announce("w@here", QUEUES, 1, "cpu", 1)
        assert probes.look("", tmp_path).reasons == [], "the other was there before a container was made anew"
        workers.announce("w@there", ["gpu"], 1, "cpu", 1)
        assert probes.look("", tmp_path).reasons == ["the engine there/cpu does not answer"]


def test_a_beat_that_is_silent_is_told(api: Api, tmp_path: Path) -> None:
    workers.announce("w@here", QUEUES, 1, "cpu", 1)
    looked = """
        insert into rlfleet.schedule_slots (name, slot_at)
        select 'look-around', now() - make_interval(mins => minute) from generate_series(0, 4) minute returning 1
    """
    rows.rows(looked)
    assert probes.look("", tmp_path).reasons == ["no beat rings: nothing is planned until one does"]
    slots.take_slot("collect", 60)
    assert probes.look("", tmp_path).reasons == []
