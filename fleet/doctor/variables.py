"""Variables that a process would refuse at its start, and what production asks for."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping

from fleet.doctor.finding import Finding, fail, ok, warn
from fleet.processes import ROOT
from fleet.settings import FleetSettings, PlaySettings
from rl.errors import InvalidSettings

ON_THEIR_OWN = ("RLFLEET_GATEWAY_KEYS = ''", "RLFLEET_ENGINE_KEY = ''", "HF_TOKEN = ''", "WANDB_API_KEY = ''")
"""Keys that are missing, which are findings of their own."""
ENGINE_SECONDS = 60.0
ENGINE = """
from gpu.settings import checked
from rl.errors import StartError
try:
    checked()
except StartError as error:
    print(error)
"""


def look(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Each variable of this process's environment that cannot be used; in production, keys that are missing."""
    said = {str(one) for read in _readers(environ) for one in _refused(read)} | set(_engine(environ))
    wrong = sorted(words for words in said if not words.startswith(ON_THEIR_OWN))
    for words in wrong:
        name, _, rest = words.partition(" = ")
        yield fail("variables", words, f"correct {name} or unset it: docs/configuration.md" if rest else "correct it")
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
    """What reads the settings of each process, anew."""
    import admin.settings
    import backends.art_account
    import backends.settings
    import backends.sink_settings
    import db.readiness_settings
    import db.settings
    import environments.settings
    import gateway.settings
    import tasks.judge_settings
    import tasks.settings
    import worker.settings
    from fleet.train_settings import train_settings

    yield lambda: FleetSettings.read(environ)
    yield lambda: PlaySettings.read(environ)
    yield train_settings
    yield backends.settings.hub_settings
    yield backends.art_account.account
    yield backends.settings.store_settings
    yield backends.sink_settings.wandb_account
    yield backends.sink_settings.sink_settings.__wrapped__
    yield db.readiness_settings.thresholds
    cached = (admin.settings.settings, environments.settings.settings, tasks.judge_settings.judge_settings)
    for one in (*cached, tasks.settings.alert_settings, worker.settings.settings, backends.settings.settings):
        yield one.__wrapped__
    for name, url in (("DATABASE_URL", db.settings.settings), ("REDIS_URL", worker.settings.broker_url)):
        if environ.get(name):  # `rlfleet up` starts a server where it is unset
            yield url.__wrapped__
    for problem in gateway.settings.problems():
        yield _raising(problem)


def _engine(environ: Mapping[str, str]) -> Iterator[str]:
    """What an engine would refuse, asked in a process of its own: nothing here may import ``gpu``."""
    argv = [sys.executable, "-c", ENGINE]
    done = subprocess.run(
        argv, check=False, cwd=ROOT, env=dict(environ), capture_output=True, text=True, timeout=ENGINE_SECONDS
    )
    if done.returncode:
        yield f"the engine's settings were not read: {(done.stderr.strip().splitlines() or ['it said nothing'])[-1]}"
    elif said := done.stdout.strip():
        yield said


def _raising(problem: InvalidSettings) -> Callable[[], object]:
    def read() -> object:
        raise problem

    return read
