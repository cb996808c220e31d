"""No wait for the database is without an end, and what went wrong has one name."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from urllib.parse import urlsplit, urlunsplit

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, ProgrammingError

from db import session as db_session
from db import settings as db_settings
from db.session import transaction
from rl.errors import DatabaseRefused, DatabaseUnavailable


class Wire:
    """Forwards bytes to the database until it is frozen; then its sockets stay open and nothing moves."""

    def __init__(self, host: str, port: int) -> None:
        self.target = host, port
        self.frozen = threading.Event()
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        self.sockets = [self.server]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                one, _ = self.server.accept()
                other = socket.create_connection(self.target)
                self.sockets += [one, other]
                for pair in ((one, other), (other, one)):
                    threading.Thread(target=self._forward, args=pair, daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if self.frozen.is_set():
                    return
                target.sendall(data)

    def close(self) -> None:
        for one in self.sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@pytest.fixture
def wire(database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    """The only way to the database."""
    parts = urlsplit(database)
    made = Wire(str(parts.hostname), int(parts.port or 5432))
    netloc = f"{parts.username}:{parts.password}@127.0.0.1:{made.port}"
    monkeypatch.setenv("DATABASE_URL", urlunsplit(parts._replace(netloc=netloc)))
    forget()
    yield made
    db_session.dispose()
    monkeypatch.undo()
    forget()
    made.close()


def forget() -> None:
    db_settings.settings.cache_clear()
    db_session._engine.cache_clear()


def answer(patience: float = 60) -> int:
    with transaction(patience) as session:
        return int(session.execute(text("select 42")).scalar_one())


def test_a_connection_that_is_half_open_is_given_up_in_time(wire: Wire) -> None:
    assert answer() == 42
    wire.frozen.set()
    started = time.monotonic()
    with pytest.raises(DatabaseUnavailable, match=r"no answer within 0\.3 s"):
        answer(0.3)
    assert time.monotonic() - started < 20, "once for the connection that was there, and once for a new one"
    wire.frozen.clear()
    assert answer() == 42


def test_a_server_that_goes_silent_within_a_transaction_is_given_up(wire: Wire) -> None:
    def fall_silent() -> None:
        with transaction(patience=0.3) as session:
            session.execute(text("select 1"))
            wire.frozen.set()
            session.execute(text("select 1"))

    with pytest.raises(DatabaseUnavailable):
        fall_silent()


def test_the_server_too_gives_up_a_client_that_is_gone(database: str) -> None:
    names = ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count", "tcp_user_timeout")
    with transaction() as session:
        told = [session.scalar(text("select current_setting(:name)"), {"name": name}) for name in names]
    assert told == ["10", "5", "3", "20000"]


def test_a_statement_that_takes_longer_than_its_caller_has_patience_is_given_up(database: str) -> None:
    with pytest.raises(DatabaseUnavailable, match=r"no answer within 0\.2 s"), transaction(patience=0.2) as session:
        session.execute(text("select pg_sleep(5)"))
    with transaction() as session:
        assert session.execute(text("select pg_sleep(0.3), 7")).one()[1] == 7


def test_a_database_without_our_tables_says_what_makes_them(database: str) -> None:
    said = "the database has no table rlfleet.of_tomorrow: `rlfleet up` and `python -m db.migrate` make it"
    with pytest.raises(DatabaseUnavailable, match=f"^{said}$"), transaction() as session:
        session.execute(text("select 1 from rlfleet.of_tomorrow"))
    with pytest.raises(ProgrammingError), transaction() as session:  # a week that was dropped, and no table of ours
        session.execute(text("select 1 from rlfleet.calls_1999w01"))


def test_a_signal_is_heard_while_the_database_is_waited_for(database: str) -> None:
    class Alarmed(Exception):
        pass

    def alarm(*_: object) -> None:
        raise Alarmed

    def wait() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with transaction() as session:
            session.execute(text("select pg_sleep(5)"))

    before = signal.signal(signal.SIGALRM, alarm)
    try:
        with pytest.raises(Alarmed):
            wait()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert answer() == 42


def test_a_server_that_ends_the_connection_is_unavailable(database: str) -> None:
    def be_ended() -> None:
        with transaction() as session:
            pid = session.execute(text("select pg_backend_pid()")).scalar_one()
            with transaction() as other:
                other.execute(text("select pg_terminate_backend(:pid)"), {"pid": pid})
            session.execute(text("select 1"))

    with pytest.raises(DatabaseUnavailable):
        be_ended()


def test_what_the_database_refuses_is_not_its_absence(database: str) -> None:
    with pytest.raises(IntegrityError), transaction() as session:
        session.execute(text("insert into rlfleet.jobs (kind, line_id, dedup_key, queue) values ('a', -1, 'b', 'c')"))


@pytest.mark.usefixtures("database")
def test_what_a_login_may_not_do_is_no_wrong_input() -> None:
    said = r"^permission denied for table pg_authid: give the login of DATABASE_URL the role .*docs/perimeter\.md\)$"
    with pytest.raises(DatabaseRefused, match=said), transaction() as session:
        session.execute(text("set local role pg_monitor; select rolpassword from pg_authid"))


def test_an_error_does_not_tell_what_a_statement_was_given(database: str) -> None:
    with pytest.raises(IntegrityError) as caught, transaction() as session:
        session.execute(
            text("insert into rlfleet.job_events (job_id, to_state, fence, attempt) values (-1, :said, 0, 0)"),
            {"said": "what an agent said"},
        )
    assert "what an agent said" not in str(caught.value)


def test_a_wait_for_a_connection_has_an_end_and_a_name(database: str) -> None:
    db_session.limit_pool_wait(0.05)
    try:
        with ExitStack() as stack:
            for _ in range(15):
                stack.enter_context(db_session.engine().connect())
            with pytest.raises(DatabaseUnavailable, match="all connections of this process"), transaction() as session:
                session.execute(text("select 1"))
            with pytest.raises(DatabaseUnavailable, match="all connections of this process"):
                db_session.alone("one", "select 1")
    finally:
        db_session.limit_pool_wait(db_session.POOL_SECONDS)
    with transaction() as session:
        assert session.scalar(text("select 1")) == 1
