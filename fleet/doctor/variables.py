"""Variables that a process would refuse at its start, and what production asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from fleet.doctor.finding import Finding, fail, ok, warn
from fleet.settings import FleetSettings
from rl.errors import InvalidSettings


def look(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Each variable of this process's environment that cannot be used; in production, keys that are missing."""
    wrong = {str(one) for read in _readers(environ) for one in _refused(read)}
    for words in sorted(wrong):
        name, _, said = words.partition(" = ")
        yield fail("variables", words, f"correct {name} or unset it: docs/configuration.md" if said else "correct it")
    if not wrong:
        yield ok("variables", "all that are set can be used")
    if environ.get("RLFLEET_ENV") == "production":
        yield from _production(environ)


def _production(environ: Mapping[str, str]) -> Iterator[Finding]:
    keys = [one for one in environ.get("RLFLEET_GATEWAY_KEYS", "").split(",") if one.strip()]
    if keys:
        yield ok("gateway keys", f"{len(keys)} are set")
    else:
        yield fail("gateway keys", "none is set: in production no gateway starts", "set RLFLEET_GATEWAY_KEYS")
    if environ.get("RLFLEET_ENGINE_KEY"):
        yield ok("engine key", "RLFLEET_ENGINE_KEY is set")
    else:
        words = "RLFLEET_ENGINE_KEY is not set: `rlfleet up` makes one; in production nothing else starts without"
        yield warn("engine key", words, "set it to the same text for gateways and GPU workers")


def _refused(read: Callable[[], object]) -> Iterator[InvalidSettings]:
    try:
        read()
    except InvalidSettings as error:
        yield error


def _readers(environ: Mapping[str, str]) -> Iterator[Callable[[], object]]:
    """What reads the settings of each process, anew; the gateway's keys are looked at on their own."""
    import admin.settings
    import environments.settings
    import gateway.settings
    import tasks.judge_settings
    import tasks.settings
    import worker.settings

    yield lambda: FleetSettings.read(environ)
    cached = (admin.settings.settings, environments.settings.settings, tasks.judge_settings.judge_settings)
    for one in (*cached, tasks.settings.alert_settings, worker.settings.settings):
        yield one.__wrapped__
    for problem in gateway.settings.problems():
        if not str(problem).startswith(("RLFLEET_GATEWAY_KEYS = ''", "RLFLEET_ENGINE_KEY = ''")):
            yield _raising(problem)


def _raising(problem: InvalidSettings) -> Callable[[], object]:
    def read() -> object:
        raise problem

    return read
