"""Places that runs and checkpoints are copied to: which there are, and which of them is behind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.util import find_spec

from fleet.doctor.finding import Finding, fail, ok, warn
from fleet.doctor.servers import read_rows
from rl.errors import InvalidSettings


def look(environ: Mapping[str, str]) -> Iterator[Finding]:
    """The sinks of ``RLFLEET_SINKS`` and their packages, then what the database of this code's revision says."""
    from backends.sink_settings import chosen, sink_settings, wandb_account

    try:
        names = chosen()
        is_sent = sink_settings().wandb_mode == "online" and bool(wandb_account().api_key)
    except InvalidSettings as error:
        yield fail("sinks", str(error), "correct it: no run is copied anywhere until then")
        return
    missing = [name for name in names if name != "jsonl" and find_spec(name) is None]
    for name in missing:
        yield warn("sinks", f"the package of the sink {name} is not installed", f"pip install 'rlfleet[{name}]'")
    if not missing:
        words = ", ".join(names) or "none"
        not_sent = (
            "; runs for wandb are recorded on this machine and not sent" if "wandb" in names and not is_sent else ""
        )
        yield ok("sinks", f"runs are copied to: {words}{not_sent}")
    yield from _behind(environ)


def _behind(environ: Mapping[str, str]) -> Iterator[Finding]:
    from db import mirrors

    if (found := read_rows(environ, mirrors.behind)) is None:
        return
    for one in found:
        words = f"{one.target} is behind: {one.waiting} copies wait ({one.error})"
        yield warn("mirrors", words, "it catches up by itself once that is mended; nothing else waits for it")
    if not found:
        yield ok("mirrors", "none is behind")
