"""The demo from start to end: level-triggered like the fleet itself, so that a second start goes on with it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from db import job_views, jobs, lines, versions
from db.overview import Facts, read
from db.session import transaction
from fleet.demo import recipe
from fleet.demo.view import View
from fleet.processes import ROOT
from fleet.running import Fleet
from rl.errors import StartError

LOGS_HOUR = 10
"""The first attempt's logs are of 2025-01-15T10:00; each fresh one takes the next hour, as ids are global."""

HEEDED_SECONDS = 10.0
"""A gateway answers by releases of up to two seconds ago; until they are heeded it is asked again."""


@dataclass
class Story:
    """One demo: its name is the line's, the run's and the folder's."""

    fleet: Fleet
    seed: int
    size: recipe.Size
    base: str
    attempt: int
    view: View
    stages: dict[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """``base``, such as ``demo-3``, with the attempt behind it from the second on."""
        return self.base + (f"-{self.attempt}" if self.attempt > 1 else "")

    @property
    def folder(self) -> Path:
        """Logs, starter model, figure and report of this demo."""
        return self.fleet.home.path / "demo" / self.name

    @property
    def hour(self) -> str:
        """The window that holds the agent's logs."""
        return f"2025-01-{15 + (LOGS_HOUR + self.attempt - 1) // 24:02d}T{(LOGS_HOUR + self.attempt - 1) % 24:02d}:00"

    def tell(self) -> Facts:
        """Play the whole demo and return what came of it."""
        with self.stage("logs of a careless agent"):
            self._logs()
        with self.stage("a model that knows nothing"):
            self._starter()
        with self.stage("the fleet starts"):
            self._wait_for_fleet()
        self._try_again()
        with self.stage("v1.0.0 from the logs"):
            self._clone()
        with self.stage("rounds of practice"):
            self._practise()
        with self.stage("the gateway answers"):
            return self._ask()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage and show it."""
        started = time.monotonic()
        self.view.begin(name)
        yield
        self.stages[name] = time.monotonic() - started
        self.view.end(name, self.stages[name])

    def _logs(self) -> None:
        for private in (self.folder.parent, self.folder):
            private.mkdir(mode=0o700, exist_ok=True)
        if not self.logs.exists():
            words = ["--episodes", str(self.size.episodes), "--bad-rows", str(self.size.bad_rows)]
            where = ["--seed", str(self.seed), "--hour", self.hour, "--out", str(self.logs)]
            self._python("environments.careless", *words, *where)

    @property
    def logs(self) -> Path:
        """The agent's logs."""
        return self.folder / "logs.jsonl"

    @property
    def starter(self) -> Path:
        """The folder of the model that training starts from."""
        return self.folder / "starter"

    def _starter(self) -> None:
        if self.starter.exists():
            return
        texts = self.folder / "texts.jsonl"
        texts.write_text("\n".join(json.dumps(text) for text in _texts(self.logs)))
        self._python("gpu.starter", "--texts", str(texts), "--out", str(self.starter), "--seed", str(self.seed))

    def _wait_for_fleet(self) -> None:
        self.fleet.wait_for_engine()

    def _try_again(self) -> None:
        """Queue again what an earlier start of this demo left failed or dead, and say so."""
        for job in self._broken():
            if jobs.requeue(job.job_id):
                self.view.note(f"tried again: {job}")

    def _clone(self) -> None:
        from tasks import train_window

        config = recipe.line(self.size, self.seed, self.name, str(self.starter), f"jsonl://{self.logs}")
        with transaction() as session:
            line_id = lines.put(session, self.name, config)
            done = versions.stable_name(session, line_id)
        if done is None:
            train_window.delay(self.hour, self.name)
            self._until(lambda facts: facts.stable is not None)

    def _practise(self) -> None:
        from tasks.ring import advance

        config = recipe.run(self.size, self.seed, self.name)
        with transaction() as session:
            line = lines.named(session, self.name)
            first = versions.named(session, f"{self.name}-v1.0.0")[0]
            lines.start_run(session, line.id, config, first.id)
        advance(self.name)
        self._until(lambda facts: facts.run_state != "running")

    def _until(self, done: Callable[[Facts], bool]) -> None:
        """Show the facts until ``done``; a failed or dead job ends the demo with its own words."""
        while True:
            facts = read(self.name)
            self.view.show(facts)
            if done(facts):
                return
            if broken := self._broken():
                remedy = "`make demo` again tries it again, `make demo FRESH=1` starts anew"
                raise StartError(f"{broken[0]}; the logs are in {self.fleet.home.logs}; {remedy}")
            self.fleet.poll()
            time.sleep(0.25)

    def _broken(self) -> list[job_views.Summary]:
        """This demo's jobs that ended without success."""
        return [job for state in ("failed", "dead") for job in job_views.listing(state) if job.line == self.name]

    def _ask(self) -> Facts:
        """One call through the gateway, as any client would make it."""
        import httpx

        body = {"model": self.name, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
        url, key = f"{self.fleet.plan.gateway_url}/v1/chat/completions", self.fleet.plan.environ["RLFLEET_GATEWAY_KEY"]
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        deadline = time.monotonic() + HEEDED_SECONDS
        while True:
            answer = httpx.post(url, json=body, headers=headers, timeout=60, trust_env=False)
            facts = read(self.name)
            facts.gateway_version = answer.headers.get("X-Rlfleet-Version")
            is_heeded = facts.gateway_version is not None and facts.stable in (None, facts.gateway_version)
            if is_heeded or time.monotonic() > deadline:
                return facts
            time.sleep(0.25)

    def _python(self, module: str, *words: str) -> None:
        """Run one of our modules to its end, with the fleet's environment."""
        environ: Mapping[str, str] = self.fleet.plan.environ
        done = subprocess.run(
            [sys.executable, "-m", module, *words],
            cwd=ROOT,
            env=dict(environ),
            capture_output=True,
            text=True,
            umask=0o077,
            check=False,
        )
        if done.returncode != 0:
            raise StartError(f"python -m {module} ended with {done.returncode}:\n{done.stderr[-2000:]}")


def _texts(logs: Path) -> Iterator[str]:
    """What was said in the first rows of the logs, for the tokenizer."""
    with logs.open(encoding="utf-8") as rows:
        for number, row in enumerate(rows):
            if number >= 300:
                return
            try:
                calls = json.loads(row)["calls"]
            except ValueError:
                continue
            for message in calls[-1]["messages"] if calls else []:
                yield message["content"]
            if calls:
                yield calls[-1]["response"]["content"]
