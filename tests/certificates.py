"""Certificates for servers that live for one test: an authority of its own, and what it signed."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Signed:
    """The authority's certificate, and the server's with its key; all are PEM files."""

    authority: Path
    certificate: Path
    key: Path


def signed(folder: Path, names: str = "IP:127.0.0.1,DNS:localhost") -> Signed:
    """A certificate for the subject alternative ``names``, signed by a new authority."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Signed(folder / "authority.pem", folder / "server.pem", folder / "server.key")
    authority_key, request, options = folder / "authority.key", folder / "request.pem", folder / "options"
    options.write_text(f"subjectAltName={names}\n")
    new = ["req", "-newkey", "rsa:2048", "-nodes"]
    own = ["-x509", "-days", "2", "-subj", "/CN=an authority of the tests"]
    _openssl(*new, *own, "-keyout", str(authority_key), "-out", str(made.authority))
    _openssl(*new, "-subj", "/CN=a server of the tests", "-keyout", str(made.key), "-out", str(request))
    by = ["-CA", str(made.authority), "-CAkey", str(authority_key), "-CAcreateserial", "-days", "2"]
    _openssl("x509", "-req", "-in", str(request), *by, "-extfile", str(options), "-out", str(made.certificate))
    made.key.chmod(0o600)
    return made


def _openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)
