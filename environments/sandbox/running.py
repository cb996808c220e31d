"""Programs run in the strongest sandbox of this machine. May be called from many threads at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from environments.sandbox import probe
from environments.sandbox.commands import Site
from environments.sandbox.folder import restore, snapshot
from environments.sandbox.launch import Launch
from environments.sandbox.records import Level, Limits, Ran
from rl.errors import InvalidInput, SandboxUnavailable

DEFAULT = Limits()


def level() -> Level:
    """What programs run in here, found out once a process.

    Raises:
        SandboxUnavailable: less than ``RLFLEET_SANDBOX`` asks for; says why.
    """
    return probe.site().level


def level_name() -> str | None:
    """``level`` as results name it; None where nothing would be run at all."""
    try:
        return level().value
    except SandboxUnavailable:
        return None


def run(program: str, stdin: str = "", *, limits: Limits = DEFAULT, folder: Path | None = None) -> Ran:
    """Run a Python program as ``__main__``, with ``stdin`` to read.

    The content of ``folder`` is its working directory; what the program changed there is changed in ``folder`` when
    this returns, whatever the outcome, unless it left more than fits. Only files and folders come back. What the
    program writes to the descriptor that the environment variable ``RESULT_FD`` numbers is the ``result``.

    Raises:
        SandboxUnavailable: no sandbox is strong enough here, or it does not start.
        InvalidInput: ``stdin`` or ``folder`` is larger than fits.
    """
    return run_at(probe.site(), program, stdin, limits=limits, folder=folder)


def run_each(
    program: str,
    inputs: Sequence[str],
    *,
    limits: Limits = DEFAULT,
    enough: Callable[[Sequence[Ran]], bool] = lambda _: False,
) -> list[Ran]:
    """Run a program once for each input, with the limits for each run. All take one launch, and none sees another.

    After each run ``enough`` is asked about all so far; where it says yes, they are all that is returned.

    Raises:
        SandboxUnavailable: no sandbox is strong enough here, or it does not start.
        InvalidInput: an input is larger than fits.
    """
    return run_each_at(probe.site(), program, inputs, limits=limits, enough=enough)


def run_at(site: Site, program: str, stdin: str = "", *, limits: Limits = DEFAULT, folder: Path | None = None) -> Ran:
    """``run`` in a sandbox of the site."""
    before = None if folder is None else snapshot(folder, limits.folder_bytes // 2)
    given = _bytes("stdin", stdin, limits)
    with Launch(site, limits) as launch:
        ran, left = launch.run(_bytes("program", program, limits), given, before)
    if folder is not None and before is not None and left is not None:
        restore(folder, before, left)
    return ran


def run_each_at(
    site: Site,
    program: str,
    inputs: Sequence[str],
    *,
    limits: Limits = DEFAULT,
    enough: Callable[[Sequence[Ran]], bool] = lambda _: False,
) -> list[Ran]:
    """``run_each`` in sandboxes of the site: another one when a run has left something behind, or has ended it."""
    text, given = _bytes("program", program, limits), [_bytes("input", one, limits) for one in inputs]
    done: list[Ran] = []
    while len(done) < len(given):
        with Launch(site, limits) as launch:
            while launch.clean and len(done) < len(given):
                last = len(done) + 1 == len(given)
                done.append(launch.run(text, given[len(done)], last=last).ran)
                if enough(done):
                    return done
    return done


def _bytes(name: str, text: str, limits: Limits) -> bytes:
    """UTF-8; what is no text for UTF-8 becomes bytes that Python refuses to read as a program."""
    content = text.encode("utf-8", "surrogatepass")
    if len(content) > limits.file_bytes:
        raise InvalidInput(name, f"{len(content)} bytes", f"at most {limits.file_bytes} bytes fit")
    return content
