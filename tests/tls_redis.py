"""A Redis with TLS alone, its default user off, and the user that ``docs/perimeter.md`` writes down."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from redis import Redis
from redis.exceptions import ConnectionError as Away

from fleet.ports import free_port
from tests.certificates import Signed, signed
from tests.worker.doubles import wait_until

PAGE = Path(__file__).parents[1] / "docs" / "perimeter.md"
CONFIGURATION = """\
bind 127.0.0.1
port 0
tls-port {port}
tls-cert-file "{made.certificate}"
tls-key-file "{made.key}"
tls-auth-clients no
aclfile "{users}"
dir "{folder}"
save ""
acllog-max-len 1000
"""


@dataclass(frozen=True)
class Secured:
    """``url`` is the fleet's; ``root`` may do everything."""

    url: str
    made: Signed
    root: Redis

    def refused(self) -> set[tuple[str, str]]:
        """What the server would not let somebody do: the kind and the object of each."""
        return {(entry["reason"], entry["object"]) for entry in self.root.acl_log()}


def documented() -> str:
    """The line of the ACL file on the page."""
    (line,) = re.findall(r"^user fleet on .+$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return str(line)


@contextmanager
def secured(folder: Path, names: str = "IP:127.0.0.1") -> Iterator[Secured]:
    """The server, for as long as the block runs; its certificate is for ``names``."""
    made, port, users = signed(folder / "certificates", names), free_port(), folder / "users.acl"
    fleet = documented().replace("PASSWORD", "s3cret")
    users.write_text(f"user default off\nuser root on >hush ~* &* +@all\n{fleet}\n")
    configuration = CONFIGURATION.format(port=port, made=made, users=users, folder=folder)
    with (folder / "redis.log").open("wb") as log:
        server = subprocess.Popen(["redis-server", "-"], stdin=subprocess.PIPE, stdout=log, stderr=log)
    assert server.stdin is not None
    server.stdin.write(configuration.encode())
    server.stdin.close()
    # The owner of the test looks past the name: what is tested is who looks at it.
    options = f"ssl_ca_certs={made.authority}"
    with Redis.from_url(
        f"rediss://root:hush@127.0.0.1:{port}/0?{options}&ssl_check_hostname=false", decode_responses=True
    ) as root:
        try:
            wait_until(lambda: server.poll() is not None or _answers(root), 60)
            assert server.poll() is None, (folder / "redis.log").read_text()
            yield Secured(f"rediss://fleet:s3cret@127.0.0.1:{port}/0?{options}", made, root)
        finally:
            server.kill()
            server.wait()


def _answers(root: Redis) -> bool:
    try:
        return bool(root.ping())
    except Away:
        return False
