"""The demo from start to end: level-triggered like the fleet itself, so that a second start goes on with it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from db.overview import Facts, read
from fleet.demo import recipe
from fleet.demo.view import View
from fleet.pipeline import starter
from fleet.pipeline.course import Course
from fleet.pipeline.place import Place
from fleet.running import Fleet
from rl.pipeline import Starter

LOGS_HOUR = 10
"""The first attempt's logs are of 2025-01-15T10:00; each fresh one takes the next hour, as ids are global."""

HEEDED_SECONDS = 10.0
"""A gateway answers by releases of up to two seconds ago; until they are heeded it is asked again."""

AGAIN = "`make demo` again tries it again, `make demo FRESH=1` starts anew"


@dataclass
class Story:
    """One demo: its name is the line's, the run's and the folder's."""

    fleet: Fleet
    seed: int
    size: recipe.Size
    base: str
    attempt: int
    view: View
    course: Course = field(init=False)

    def __post_init__(self) -> None:
        self.course = Course(Place.of(self.fleet), self.name, self.view, AGAIN)

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
        with self.course.stage("logs of a careless agent"):
            self._logs()
        with self.course.stage("a model that knows nothing"):
            self._starter()
        with self.course.stage("the fleet starts"):
            self._wait_for_fleet()
        self.course.try_again()
        with self.course.stage("v1.0.0 from the logs"):
            self._clone()
        with self.course.stage("rounds of practice"):
            self._practise()
        with self.course.stage("the gateway answers"):
            return self._ask()

    def _logs(self) -> None:
        for private in (self.folder.parent, self.folder):
            private.mkdir(mode=0o700, exist_ok=True)
        if not self.logs.exists():
            words = ["--episodes", str(self.size.episodes), "--bad-rows", str(self.size.bad_rows)]
            where = ["--seed", str(self.seed), "--hour", self.hour, "--out", str(self.logs)]
            self.course.python("environments.careless", *words, *where)

    @property
    def logs(self) -> Path:
        """The agent's logs."""
        return self.folder / "logs.jsonl"

    @property
    def starter(self) -> Path:
        """The folder of the model that training starts from."""
        return self.folder / "starter"

    def _starter(self) -> None:
        starter.make(self.course, self.logs, self.starter, Starter(), self.seed)

    def _wait_for_fleet(self) -> None:
        self.course.place.wait_for_engine()

    def _clone(self) -> None:
        config = recipe.line(self.size, self.seed, self.name, str(self.starter), f"jsonl://{self.logs}")
        self.course.clone(config, self.hour)

    def _practise(self) -> None:
        self.course.practise(recipe.run(self.size, self.seed, self.name))

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
