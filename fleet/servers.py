"""The Postgres and the Valkey that a fleet needs: those it is told of, and its own for the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fleet import binaries, external, postgres, valkey
from fleet.account import Account, server_account
from fleet.home import Endpoints, Home, cannot_use
from fleet.ports import free_port, is_free
from fleet.process import Process, Status
from fleet.settings import ServerSettings
from fleet.supervisor import Supervisor
from rl.errors import StartError

__all__ = ["Endpoints", "Servers"]

PORT_ATTEMPTS = 5


class Servers:
    """Runs what neither ``DATABASE_URL`` nor ``REDIS_URL`` names, from ``start`` until ``stop``.

    Call ``poll`` often: it starts a server again that died, on the same port. ``changed`` is called when one has
    another state. A variable that cannot be used raises ``InvalidSettings`` at once.
    """

    def __init__(self, home: Home, environ: Mapping[str, str], changed: Callable[[], None] = lambda: None) -> None:
        self._home, self._changed = home, changed
        self._settings = ServerSettings.read(environ)
        self._supervisor: Supervisor | None = None

    def start(self, *, announced: bool = True) -> Endpoints:
        """Start or reach both, and write the endpoints file, unless that is left to ``announce``.

        Raises:
            StartError: one cannot be had; nothing runs then.
            InvalidSettings: a variable cannot be used; nothing runs then.
        """
        if self._settings.database_url:
            external.check_postgres(self._settings.database_url)
        if self._settings.redis_url:
            external.check_redis(self._settings.redis_url)
        self._supervisor = Supervisor(self._home, self._changed)
        try:
            endpoints = self._start(self._supervisor)
            if announced:
                self._home.write_endpoints(endpoints)
        except OSError as error:
            self.stop()
            raise cannot_use(self._home.path, error) from error
        except BaseException:
            self.stop()
            raise
        return endpoints

    def announce(self, endpoints: Endpoints) -> None:
        """Write the endpoints file: from then on others of this user come.

        Raises:
            StartError: it cannot be written.
        """
        try:
            self._home.write_endpoints(endpoints)
        except OSError as error:
            raise cannot_use(self._home.path, error) from error

    def poll(self) -> None:
        """Look after the servers. Never waits."""
        if self._supervisor:
            self._supervisor.poll()

    def status(self) -> list[Status]:
        """The servers of our own."""
        return self._supervisor.status() if self._supervisor else []

    def stop(self) -> None:
        """Stop our own servers, after everything that uses them."""
        self._home.remove_endpoints()
        if self._supervisor:
            self._supervisor.stop()

    def _start(self, supervisor: Supervisor) -> Endpoints:
        database_url, redis_url = self._settings.database_url, self._settings.redis_url
        if database_url and redis_url:
            return Endpoints(database_url, redis_url)
        account = server_account(self._settings.run_as)
        return Endpoints(
            database_url or self._start_postgres(supervisor, account),
            redis_url or self._start_valkey(supervisor, account),
        )

    def _start_postgres(self, supervisor: Supervisor, account: Account) -> str:
        found = binaries.find_postgres(self._settings.postgres_bin, self._settings.path)
        program = binaries.reachable(found, account, self._home.path / "dist")
        data = postgres.data_directory(self._home, account, program, binaries.major_version(program))
        port = _start_on_port(
            supervisor,
            lambda port: postgres.process(account, program, data, port),
            "RLFLEET_POSTGRES_PORT",
            self._settings.postgres_port,
        )
        return postgres.url(self._home.secret("postgres.password"), port)

    def _start_valkey(self, supervisor: Supervisor, account: Account) -> str:
        found = binaries.find_valkey(self._settings.path)
        program = binaries.reachable(found, account, self._home.path / "dist")
        data, password = self._home.folder("valkey", account), self._home.secret("valkey.password")
        port = _start_on_port(
            supervisor,
            lambda port: valkey.process(account, program, data, password, port),
            "RLFLEET_REDIS_PORT",
            self._settings.redis_port,
        )
        return valkey.url(password, port)


def _start_on_port(supervisor: Supervisor, build: Callable[[int], Process], name: str, requested: int | None) -> int:
    """Start the server on ``requested``, or on a port of our choice; again on another if that one was taken."""
    if requested and not is_free(requested):
        raise StartError(f"{name} = {requested}: another process listens there; choose another port, or unset it")
    for _ in range(PORT_ATTEMPTS):
        port = requested or free_port()
        try:
            supervisor.start([build(port)])
        except StartError:
            if requested or is_free(port):
                raise
        else:
            return port
    raise StartError(f"no free port was found in {PORT_ATTEMPTS} attempts: set {name} to a free one")
