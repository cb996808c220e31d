"""What is asked of ART's service beside a training: the model, its newest step, and how a known training goes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Literal

from backends import art_errors
from rl.errors import InvalidInput
from rl.protocol import Remote


class Service:
    """The service by ART's own ``client``. What that raises is raised."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def model(self, entity: str | None, project: str, name: str, base: str) -> Any:
        """The model of that name, registered where it is not there yet.

        Raises:
            InvalidInput: it is there on another base model.
        """
        create = self._client.models.create
        found = await create(entity=entity, project=project, name=name, base_model=base, return_existing=True)
        if (found.project, found.name, found.base_model) != (project, name, base):
            there = f"{found.entity}/{found.project}/{found.name} on {found.base_model}"
            raise InvalidInput("base_model", base, f"the service has {there}: name another line or project")
        return found

    async def newest(self, model_id: str) -> int:
        """The step of the model's newest checkpoint; 0 before the first."""
        async for one in self._client.models.checkpoints.list(model_id=model_id, limit=1, order="desc"):
            return int(one.step)
        return 0

    async def events(self, remote: Remote) -> AsyncIterator[Any]:
        """What has happened at a training of known id since the last event that was heeded."""
        after, seen = {"after": remote.after} if remote.after else {}, set[str]()
        async for event in self._client.training_jobs.events.list(training_job_id=remote.training, **after):
            if event.id in seen:  # a page that does not advance would be followed by itself for ever
                return
            seen.add(event.id)
            if event.id != remote.after:
                yield event

    async def hear(self, remote: Remote, heard: list[Any]) -> None:
        """Put what ``events`` gives into ``heard``, where it stays when this is given up."""
        async for event in self.events(remote):
            heard.append(event)

    async def submit(self, model_id: str, groups: list[Any], asked: dict[str, object]) -> str:
        """Ask for a training. Its id; empty where the service tells none."""
        create = self._client.training_jobs.create
        job = await create(model_id=model_id, trajectory_groups=groups, experimental_config=asked)
        return str(job.id or "")

    async def end_of(self, remote: Remote, newest: int) -> Literal["ended", "failed"] | None:
        """What became of a training; None while it goes on, or where that is not known. ``newest`` is the model's step.

        One without an id has ended once there is a newer step. One that the service does not know does not go on.
        """
        if remote.training is None:
            return "ended" if newest > remote.newest else None
        try:
            async for event in self.events(remote):
                if event.type == "training_failed":
                    return "failed"
                if event.type == "training_ended":
                    return "ended"
        except Exception as error:
            if not art_errors.is_unknown(error):
                raise
            return "ended"
        return None
