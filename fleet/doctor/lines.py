"""The lines of the database: whether what their configs ask for has its variables here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from pydantic import ValidationError

from fleet.doctor.finding import Finding, fail, ok, warn
from fleet.doctor.secrets import CREDENTIALS
from fleet.doctor.servers import read_rows

if TYPE_CHECKING:
    from rl.config import LineConfig

URL = "RLFLEET_JUDGE_URL"
KEYS, _ = CREDENTIALS["judge key"]


def look(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Each line that a judge scores or evaluates. Nothing where no database of this code's revision answers."""
    from db import lines, planning

    if (rows := read_rows(environ, planning.lines)) is None:
        return
    judged = 0
    for row in rows:
        try:
            wanted = _judges(lines.config_of(row))
        except ValidationError:
            remedy = f"`rlfleet line {row.name} FILE` gives it another one"
            yield warn(f"line {row.name}", "its config is not understood by this code", remedy)
            continue
        judged += bool(wanted)
        if wanted:
            yield _judge(row.name, " and ".join(wanted), environ)
    if not judged:
        yield ok("lines", f"{len(rows)} are there, and none has a judge")


def _judges(config: LineConfig) -> list[str]:
    """The parts of the config that a judge answers for."""
    held_out = config.held_out
    said = ["scoring.judge"] if config.scoring.is_judged else []
    return said + (["held_out.judge"] if held_out is not None and held_out.judge is not None else [])


def _judge(line: str, wanted: str, environ: Mapping[str, str]) -> Finding:
    check, keys = f"line {line}", " or ".join(KEYS)
    if not environ.get(URL):
        remedy = f"set {URL} to the judge's OpenAI-compatible server, such as https://host/v1, for its workers"
        return fail(check, f"line {line} has {wanted}, and {URL} is not set", remedy)
    if not any(environ.get(one) for one in KEYS):
        remedy = f"set {KEYS[0]} for its workers, unless the judge's server asks for no key"
        return warn(check, f"line {line} has {wanted}, and no key is set ({keys})", remedy)
    return ok(check, f"{wanted}: the judge's server and a key are set")
