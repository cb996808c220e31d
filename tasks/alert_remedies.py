"""What to do about each alert, as e-mails say it; ``docs/operations.md`` has the same with its reasons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

REMEDIES: Final[Mapping[str, str]] = {
    "job_failed": "read `rlfleet jobs show {job}`; correct what the error names, then `rlfleet jobs requeue {job}`",
    "job_dead": "read `rlfleet jobs show {job}` and the child's log; remove the cause, `rlfleet jobs requeue {job}`",
    "kind_paused": "find what the dead jobs have in common; then `rlfleet jobs resume {kind}` and requeue them",
    "approval_waiting": "read `rlfleet explain VERSION`, then `rlfleet approve VERSION` (`--refuse --reason TEXT`)",
    "canary_rolled_back": "nothing: the stable version answers everybody; `rlfleet explain VERSION` says why",
    "canary_finished": "nothing; `rlfleet rollback --line {line} --reason TEXT` takes it back",
    "canary_unwatched": "read the log of the workers of queue maint; until then only `rlfleet rollback` helps",
    "canary_without_rewards": "log rewards, or end the test with the commands above",
    "publication_refused": "correct what it names, then `rlfleet publish {version} --hub {repository} --later`",
    "worker_silent": "look at its machine, its log and its way to Postgres; its jobs are with others already",
    "beat_silent": "start a beat, or read its log",
    "store_lacks": "start the host that has it, or mend the store; if it is lost, `rlfleet jobs cancel {job}`",
    "service_away": "read `rlfleet jobs show {job}`; see to the way to ART_BASE_URL and to quotas there, or wait",
    "queue_old": "start a worker of queue {queue} if capacity is 0, else add workers or wait",
    "capture_refused": "read refused.jsonl in the gateway's folder: it has the calls with the reasons",
    "message_rejected": "find and correct the sender; the table rejections has an example",
    "early_stop": "decide whether the run goes on: `rlfleet resume RUN` or `rlfleet finish RUN`",
    "COLLAPSE": "read `rlfleet report VERSION` before it is released: the score in training fell from its best",
    "FORGETTING": "read `rlfleet report VERSION` before it is released: it is worse at what it could do",
    "OVEROPTIMISATION": "read `rlfleet report VERSION` before it is released: its score rose, its verdicts did not",
}
TRAINING: Final = "read `rlfleet report VERSION` before it is released: its training did not go as it should"
OTHERWISE: Final = "read `rlfleet status`, and the page of the alert's subject"


class _Known(dict[str, Any]):
    def __missing__(self, name: str) -> str:
        return name.upper()


def remedy_of(name: str, detail: Mapping[str, Any]) -> str:
    """What to do about an alert of that name; one that brings its own remedy says it."""
    own = detail.get("remedy")
    usual = TRAINING if name.isupper() else OTHERWISE
    return str(own) if own else REMEDIES.get(name, usual).format_map(_Known(detail))
