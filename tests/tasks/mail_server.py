"""An SMTP server of the standard library that keeps what it is sent, and fails as it is told."""

from __future__ import annotations

import base64
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import cast


@dataclass
class Mail:
    """What the server took: the envelope, the message, and whether it came under TLS and after a login."""

    sender: str
    recipients: list[str]
    message: EmailMessage
    tls: bool
    login: str | None


@dataclass
class Conduct:
    """``fault``: ``hang`` says nothing, ``close`` hangs up, a number is the answer to the message.

    ``slow`` are seconds before the answer to a command, by its verb; ``.`` is the end of the message. ``bye`` is the
    answer to QUIT.
    """

    fault: str | int | None = None
    context: ssl.SSLContext | None = None
    starttls: bool = False
    implicit: bool = False
    login: str | None = None
    refused: set[str] = field(default_factory=set)
    slow: dict[str, float] = field(default_factory=dict)
    bye: str = "221 bye"
    got: list[Mail] = field(default_factory=list)
    sessions: int = 0
    over: threading.Event = field(default_factory=threading.Event)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    conduct: Conduct

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up in the middle of TLS is what some tests want."""


class _Session(socketserver.StreamRequestHandler):
    def handle(self) -> None:  # noqa: PLR0912 - the protocol in one place
        how = cast(_Server, self.server).conduct
        how.sessions += 1
        self.tls, self.login = False, None
        if how.fault == "hang":
            how.over.wait(30)
        if how.fault in ("hang", "close"):
            return
        if how.implicit:
            self._secure(how)
        self._say("220 test")
        sender, recipients = "", []
        while line := self.rfile.readline().decode().strip():
            verb, _, rest = line.partition(" ")
            how.over.wait(how.slow.get(verb.upper(), 0))
            match verb.upper():
                case "EHLO":
                    offers = ["STARTTLS"] * (how.starttls and not self.tls) + ["AUTH PLAIN"] * (how.login is not None)
                    words = ["test", *offers]
                    for place, word in enumerate(words):
                        self._say(f"250{'-' if place < len(words) - 1 else ' '}{word}")
                case "STARTTLS":
                    self._say("220 go")
                    self._secure(how)
                case "AUTH":
                    self.login = base64.b64decode(rest.split()[1]).decode().lstrip("\0").replace("\0", ":")
                    self._say("235 yes" if self.login == how.login else "535 wrong user or password")
                case "MAIL":
                    sender, recipients = rest[6 : rest.index(">")], []
                    self._say("250 ok")
                case "RCPT":
                    one = rest[4:-1]
                    recipients += [one] * (one not in how.refused)
                    self._say("550 nobody" if one in how.refused else "250 ok")
                case "DATA":
                    self._say("354 go on")
                    content = b"".join(iter(self.rfile.readline, b".\r\n")).replace(b"\r\n", b"\n")
                    how.over.wait(how.slow.get(".", 0))
                    if isinstance(how.fault, int):
                        self._say(f"{how.fault} not now")
                    else:
                        made = cast(EmailMessage, message_from_bytes(content, policy=policy.default))
                        how.got.append(Mail(sender, recipients, made, self.tls, self.login))
                        self._say("250 taken")
                case "QUIT":
                    self._say(how.bye)
                    return
                case _:
                    self._say("250 ok")

    def finish(self) -> None:
        super().finish()
        self.connection.close()

    def _say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())
        self.wfile.flush()

    def _secure(self, how: Conduct) -> None:
        assert how.context is not None
        self.connection = how.context.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb")
        self.tls = True


@contextmanager
def mail_server(conduct: Conduct) -> Iterator[int]:
    """The port of a server that behaves so."""
    with _Server(("127.0.0.1", 0), _Session) as server:
        server.conduct = conduct
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield int(server.server_address[1])
        conduct.over.set()
        server.shutdown()
        thread.join()


def certificate(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """A certificate for 127.0.0.1 that signed itself, as a file and as a server uses it."""
    key, signed = folder / "key.pem", folder / "certificate.pem"
    words = ["-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(signed)]
    subprocess.run(["openssl", "req", "-x509", *words, *names], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(signed, key)
    return signed, context
