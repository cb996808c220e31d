"""A Postgres of the system with TLS alone, in a folder of its own; the one of the wheel has no OpenSSL."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fleet.account import Account, server_account
from fleet.binaries import SYSTEM_POSTGRES
from fleet.ports import free_port
from tests.certificates import Signed, signed
from tests.worker.doubles import wait_until

HBA = "hostssl all all 127.0.0.1/32 scram-sha-256\n"


@dataclass(frozen=True)
class Secured:
    """``url`` has no word on TLS."""

    url: str
    made: Signed

    def verified(self, mode: str = "verify-full", authority: Path | None = None) -> str:
        """The URL with a mode of libpq, and an authority."""
        return f"{self.url}?sslmode={mode}&sslrootcert={authority or self.made.authority}"


@contextmanager
def secured(names: str = "IP:127.0.0.1") -> Iterator[Secured]:
    """The server, for as long as the block runs; its certificate is for ``names``."""
    programs = _programs()
    account = server_account(None)
    folder = Path(tempfile.mkdtemp(prefix="rlfleet-tls-"))
    folder.chmod(0o711)
    made, port, data = signed(folder / "certificates", names), free_port(), folder / "data"
    password = folder / "password"
    password.write_text("s3cret\n")
    data.mkdir()
    for path in (data, password, made.key, made.certificate, made.authority):
        _give(account, path)
    _run(account, programs / "initdb", "-D", data, "-U", "rlfleet", f"--pwfile={password}", "-A", "scram-sha-256", "-N")
    (data / "pg_hba.conf").write_text(HBA)
    options = {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": "",
        "ssl": "on",
        "ssl_cert_file": str(made.certificate),
        "ssl_key_file": str(made.key),
        "fsync": "off",
    }
    argv = [str(programs / "postgres"), "-D", str(data), *(f"--{name}={value}" for name, value in options.items())]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(argv, stdout=log, stderr=log, cwd="/", env=_environment(), **_as(account))
    try:
        wait_until(lambda: server.poll() is not None or b"ready to accept" in (folder / "log").read_bytes(), 120)
        assert server.poll() is None, (folder / "log").read_text()
        yield Secured(f"postgresql://rlfleet:s3cret@127.0.0.1:{port}/postgres", made)
    finally:
        server.kill()
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path:
    """Those of the newest version that is installed; ``.ci/run`` installs one."""
    found = sorted(SYSTEM_POSTGRES.glob("*/bin/initdb"), key=lambda path: int(path.parent.parent.name))
    if not found:
        pytest.skip(f"no Postgres below {SYSTEM_POSTGRES}: apt-get install postgresql")
    return found[-1].parent


def _run(account: Account, *words: object) -> None:
    done = subprocess.run(
        [str(word) for word in words],
        cwd="/",
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
        **_as(account),
    )
    assert done.returncode == 0, done.stderr


def _environment() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "UTC"}


def _as(account: Account) -> dict[str, Any]:
    return {"user": account.uid, "group": account.gid, "extra_groups": []} if account.switch else {}


def _give(account: Account, path: Path) -> None:
    if account.switch:
        os.chown(path, account.uid, account.gid)
