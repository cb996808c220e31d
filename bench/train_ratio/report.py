"""What was measured against what must hold, as JSON and as text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.train_ratio import exactness, heads
from bench.train_ratio.large import Bounds

SCHEMA = 1

LIMIT_SHARE = 0.85
"""Of the token ratio, which no step can pass by sharing alone, at least this much must be reached."""


@dataclass(frozen=True)
class Gate:
    """A number and its bound; ``at_least`` says on which side of it the number has to be."""

    name: str
    value: float
    bound: float
    at_least: bool = True

    @property
    def holds(self) -> bool:
        """A number that is not one holds nothing."""
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    @property
    def public(self) -> dict[str, Any]:
        """As in the report."""
        return {"name": self.name, "value": self.value, "bound": self.bound, "holds": self.holds}


RATIOS = {
    "uniform_vs_trl": ("uniform", "vs_trl", 2.7),
    "ragged_vs_trl": ("ragged", "vs_trl", 4.5),
    "conversation_vs_per_turn": ("conversation", "vs_masked", 6.5),
    "no_sharing_vs_trl": ("no_sharing", "vs_trl", 1.0),
}
"""Top-level ratios: of which workload, against which arm, and the least that they may be."""


def report(parts: Mapping[str, Any], about: Mapping[str, Any]) -> dict[str, Any]:
    """All of it as JSON. Numbers of parts that were not measured are None; what was measured decides ``passed``."""
    workloads = parts.get("workloads", {})
    numbers = {name: workloads.get(work, {}).get(key) for name, (work, key, _) in RATIOS.items()}
    gates = [*_workload_gates(workloads), *_other_gates(parts)]
    return {
        "schema": SCHEMA,
        **numbers,
        "packing_efficiency": min((one["efficiency"] for one in workloads.values()), default=None),
        "gradient_error": max(parts["exactness"].values()) if "exactness" in parts else None,
        "chunked_head_peak_ratio": parts["head"]["ratio"] if "head" in parts else None,
        **about,
        "intervals": {
            name: workloads[work][f"{key}_interval"] for name, (work, key, _) in RATIOS.items() if work in workloads
        },
        "shapes": {name: {key: one[key] for key in SHAPE} for name, one in workloads.items()},
        **parts,
        "gates": [gate.public for gate in gates],
        "passed": bool(gates) and all(gate.holds for gate in gates),
    }


SHAPE = ("what", "model", "pairs", "prefix_share", "token_ratio", "unique_tokens", "padded_tokens")


def _workload_gates(workloads: Mapping[str, Any]) -> list[Gate]:
    gates = []
    for name, (work, key, bound) in RATIOS.items():
        if work in workloads:
            limit = workloads[work]["token_ratio"]
            least = min(bound, LIMIT_SHARE * limit) if work == "uniform" else bound
            gates.append(Gate(name, workloads[work][key], least))
    if workloads:
        gates.append(Gate("packing_efficiency", min(one["efficiency"] for one in workloads.values()), LIMIT_SHARE))
    return gates


def _other_gates(parts: Mapping[str, Any]) -> list[Gate]:
    gates = []
    for name, error in parts.get("exactness", {}).items():
        gates.append(Gate(f"gradient_error of {name}", error, exactness.GATE, at_least=False))
    if "head" in parts:
        gates.append(Gate("chunked_head_peak_ratio", parts["head"]["ratio"], heads.GATE, at_least=False))
    if "large" in parts:
        large, bounds = parts["large"], Bounds()
        gates.append(Gate("error_in_noise", large["error_in_noise"], bounds.noise, at_least=False))
        gates.append(Gate("utilisation", large["utilisation"], bounds.utilisation))
        gates.append(Gate("epoch_seconds", large["epoch_seconds"], bounds.epoch_seconds, at_least=False))
        gates.append(Gate("peak_bytes", large["peak_bytes"], bounds.peak_bytes, at_least=False))
    return gates


def text(found: Mapping[str, Any]) -> str:
    """The report for people."""
    lines = [f"device {found['device']}, seed {found['seed']}"]
    for name, one in found.get("workloads", {}).items():
        lines += ["", *_workload(name, one)]
    if "head" in found:
        head = found["head"]
        sizes = f"{head['chunked_bytes'] / 1e6:.0f} MB of {head['full_bytes'] / 1e6:.0f} MB"
        lines += ["", f"head: {head['what']}: chunked takes {sizes}"]
    if "large" in found:
        lines += ["", *[f"large: {key} {value}" for key, value in found["large"].items()]]
    lines.append("")
    for gate in found["gates"]:
        word = "holds" if gate["holds"] else "MISSED"
        lines.append(f"{gate['name']:40} {gate['value']:<12.4g} bound {gate['bound']:<8.3g} {word}")
    if "conversation" in found.get("workloads", {}):
        lines.append("conversation_vs_per_turn is masked / ours; padded, without a mask, is a stricter peer.")
    if "uniform" in found.get("workloads", {}):
        lines.append(f"The bound of uniform_vs_trl is 2.7, or {LIMIT_SHARE} of the token ratio where that is less.")
    return "\n".join([*lines, "passed" if found["passed"] else "NOT PASSED", ""])


def _workload(name: str, one: Mapping[str, Any]) -> list[str]:
    shares = f"prefix share {one['prefix_share']:.1%}, token ratio {one['token_ratio']:.2f}"
    lines = [f"{name}: {one['what']}; {one['model']}; {shares}; {one['pairs']} pairs"]
    for peer in (name for name in one["arms"] if name != "ours"):
        low, high = one[f"vs_{peer}_interval"]
        lines.append(f"  {peer + ' / ours':16} {one[f'vs_{peer}']:.2f}  [{low:.2f}, {high:.2f}]")
    lines.append(f"  {'efficiency':16} {one['efficiency']:.2f}  of padded / ours in units of the token ratio")
    for arm, it in one["arms"].items():
        speed = f"{it['unique_tokens_per_second']:8.0f} unique tokens/s"
        lines.append(
            f"  {arm:8} {it['seconds']:7.3f} s {speed}  peak {it['peak_bytes'] / 1e6:6.0f} MB"
            f"  gradient {it['gradient_error']:.1e} from padded"
        )
    return lines
