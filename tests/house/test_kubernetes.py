"""The manifests of docker/kubernetes, by Kubernetes' own schemas and by what they promise beyond them."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.house.test_env_template import _template as template
from worker.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docker" / "kubernetes"
OLDEST, NEWEST = "1.30", kubernetes_validate.latest_version()
"""preStop's ``sleep`` is in every cluster from 1.30 on."""

# Read by other people's code.
FOREIGN = {"OMP_NUM_THREADS", "TOKENIZERS_PARALLELISM", "REMAP_SIGTERM", "FLOWER_BASIC_AUTH"}
WORKLOADS = {"Deployment", "StatefulSet", "Job"}

Manifest = dict[str, Any]


def _of(name: str) -> list[Manifest]:
    return [one for one in yaml.safe_load_all((FOLDER / name).read_text()) if one]


KUSTOMIZATION = _of("kustomization.yaml")[0]
ALL = [one for name in KUSTOMIZATION["resources"] for one in _of(name)]
BY_NAME = {f"{one['kind']}/{one['metadata']['name']}": one for one in ALL}
PODS = {one["metadata"]["name"]: one["spec"]["template"]["spec"] for one in ALL if one["kind"] in WORKLOADS}
CONTAINERS = {name: pod["containers"][0] for name, pod in PODS.items()}
LASTING = sorted(set(PODS) - {"migrate"})
SERVING = {"gateway", "admin", "flower", "vllm"}
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]


def _environ(name: str) -> dict[str, Any]:
    """A container's variables, those of the ConfigMap included; one that is secret is a mapping."""
    found: dict[str, Any] = {}
    for one in CONTAINERS[name].get("envFrom", []):
        if "configMapRef" in one:
            found |= BY_NAME[f"ConfigMap/{one['configMapRef']['name']}"]["data"]
    return found | {one["name"]: one.get("value", one.get("valueFrom")) for one in CONTAINERS[name].get("env", [])}


def _interpolated(text: str) -> str:
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("manifest", [*ALL, *_of("secret.example.yaml")], ids=lambda one: one["metadata"]["name"])
def test_kubernetes_knows_every_field(manifest: Manifest, version: str) -> None:
    kubernetes_validate.validate(manifest, version, strict=True)


def test_a_field_that_is_misspelled_is_refused() -> None:
    broken = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "dta": {}}
    with pytest.raises(kubernetes_validate.ValidationError, match="dta"):
        kubernetes_validate.validate(broken, NEWEST, strict=True)


def test_every_file_is_applied_but_the_example_of_secrets() -> None:
    files = {path.name for path in FOLDER.iterdir()}
    assert files - set(KUSTOMIZATION["resources"]) == {"kustomization.yaml", "secret.example.yaml"}
    assert len(BY_NAME) == len(ALL), "no two have one name"


@pytest.mark.platform
def test_kustomize_builds_them() -> None:
    program = shutil.which("kubectl")
    if program is None:
        pytest.skip("no kubectl")
    built = subprocess.run([program, "kustomize", str(FOLDER)], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    made = [one for one in yaml.safe_load_all(built.stdout) if one]
    assert len(made) == len(ALL)
    assert {one["metadata"].get("namespace") for one in made if one["kind"] != "Namespace"} == {"rlfleet"}
    assert re.findall(r"image: rlfleet", built.stdout) == [], "each image of ours comes from the registry"


@pytest.mark.parametrize("name", sorted(PODS))
def test_no_pod_is_root_writes_to_its_image_or_has_rights(name: str) -> None:
    pod = PODS[name]
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(pod)
    by_pod = pod["securityContext"]
    assert (by_pod["runAsNonRoot"], by_pod["runAsUser"], by_pod["fsGroup"]) == (True, 10001, 10001)
    assert by_pod["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"cpu", "memory"} <= set(container["resources"]["requests"])
    assert "memory" in container["resources"]["limits"]
    assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}
    assert not [volume for volume in pod["volumes"] if "hostPath" in volume]
    assert all(volume["emptyDir"]["sizeLimit"] for volume in pod["volumes"] if "emptyDir" in volume)


@pytest.mark.parametrize("name", LASTING)
def test_every_lasting_process_is_probed_and_who_serves_says_when(name: str) -> None:
    container = CONTAINERS[name]
    assert {"startupProbe", "livenessProbe"} <= set(container)
    assert ("readinessProbe" in container) == (name in SERVING) == (f"Service/{name}" in BY_NAME)
    if name.startswith("worker-"):
        shown = COMPOSE[name]["healthcheck"]["test"][1].replace("$$", "$")
        probe = container["livenessProbe"]
        assert probe["exec"]["command"] == ["sh", "-c", shown]
        assert (probe["periodSeconds"], probe["timeoutSeconds"], probe["failureThreshold"]) == (60, 10, 3)
        assert "celery" not in shown, "the broker that is away would end every training"
        assert shown.split()[1] == _environ(name)["RLFLEET_ALIVE_FILE"]
        assert container["startupProbe"]["exec"] == probe["exec"]


@pytest.mark.parametrize("name", sorted(set(PODS) - {"vllm"}))
def test_they_run_what_compose_runs(name: str) -> None:
    assert "command" not in CONTAINERS[name], "the image has no entry point"
    assert CONTAINERS[name]["args"] == shlex.split(_interpolated(COMPOSE[name]["command"]))
    assert CONTAINERS[name]["image"] == COMPOSE[name]["image"]


def test_vllm_is_that_of_compose() -> None:
    theirs = yaml.safe_load((ROOT / "docker" / "gpu.yml").read_text())["services"]["vllm"]
    ours = CONTAINERS["vllm"]
    assert (ours["image"], ours["command"]) == (theirs["image"], theirs["entrypoint"])
    assert ours["args"][1:] == [_interpolated(word) for word in theirs["command"][1:]]
    assert ours["args"][0] == "$(RLFLEET_VLLM_MODEL)"
    environ = _environ("vllm")
    assert set(environ) == {*theirs["environment"], "RLFLEET_VLLM_MODEL"} - {"NO_PROXY", "no_proxy"}
    assert environ["VLLM_API_KEY"] == {"secretKeyRef": {"name": "rlfleet", "key": "RLFLEET_ENGINE_KEY"}}
    upstreams = tomllib.loads(BY_NAME["ConfigMap/upstreams"]["data"]["vllm.toml"])
    assert upstreams == tomllib.loads((ROOT / "docker" / "vllm.toml").read_text())
    assert f"--max-cpu-loras={upstreams['upstreams']['vllm']['adapters']}" in ours["args"]
    mounts = {mount["mountPath"]: mount for mount in ours["volumeMounts"]}
    assert mounts[_environ("gateway")["RLFLEET_ARTIFACTS"]]["readOnly"] is True


def test_each_pod_with_a_gpu_has_one() -> None:
    given = {name: one["resources"]["limits"].get("nvidia.com/gpu") for name, one in CONTAINERS.items()}
    assert {name: count for name, count in given.items() if count} == {"worker-gpu": 1, "vllm": 1}
    assert {name for name in PODS if _environ(name).get("RLFLEET_DEVICE")} == {"worker-gpu"}
    assert _environ("worker-gpu")["RLFLEET_DEVICE"] == "cuda:0"
    assert "-c 1" in " ".join(CONTAINERS["worker-gpu"]["args"])
    assert BY_NAME["Deployment/worker-gpu"]["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 0


def test_a_worker_that_is_preempted_may_drain() -> None:
    usual = WorkerSettings.model_fields["drain_seconds"].default
    for name in (one for one in PODS if one.startswith("worker-")):
        environ = _environ(name)
        drain = float(environ.get("RLFLEET_DRAIN_SECONDS", usual))
        assert PODS[name]["terminationGracePeriodSeconds"] >= drain + 30, name
        assert environ["REMAP_SIGTERM"] == "SIGQUIT"
        assert PODS[name]["shareProcessNamespace"] is True, "nobody buries the processes of a sandbox otherwise"
        assert "sh" not in CONTAINERS[name]["args"], "the signal comes to the worker itself"
    pause = CONTAINERS["gateway"]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert PODS["gateway"]["terminationGracePeriodSeconds"] >= pause + 20 + 30


def test_two_of_what_must_not_be_away_and_a_drained_node_takes_one_at_a_time() -> None:
    counts = {one["metadata"]["name"]: one["spec"].get("replicas") for one in ALL if one["kind"] in WORKLOADS}
    assert {name for name, count in counts.items() if count == 2} >= {"beat", "gateway", "worker-maint"}
    kept = {one["spec"]["selector"]["matchLabels"]["app"]: one["spec"] for one in ALL if "DisruptionB" in one["kind"]}
    assert set(kept) == set(LASTING) - {"admin", "flower"}
    assert all(one["maxUnavailable"] == 1 for one in kept.values())


def test_a_call_that_waits_for_the_database_outlives_its_gateway() -> None:
    (claim,) = BY_NAME["StatefulSet/gateway"]["spec"]["volumeClaimTemplates"]
    (place,) = [m["mountPath"] for m in CONTAINERS["gateway"]["volumeMounts"] if m["name"] == claim["metadata"]["name"]]
    assert Path(_environ("gateway")["RLFLEET_SPOOL_DIR"]).is_relative_to(place)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for one in value.values():
            yield from _strings(one)
    elif isinstance(value, list):
        for one in value:
            yield from _strings(one)
    elif isinstance(value, str):
        yield value


def _variable(key: str) -> str:
    """What a key of the Secret is called in a container: each login of Postgres has a key of its own."""
    return re.sub(r"^(DATABASE_URL)_[A-Z]+$", r"\1", key)


def test_secrets_come_by_reference_and_no_file_has_a_value() -> None:
    example = {one["metadata"]["name"]: one["stringData"] for one in _of("secret.example.yaml")}
    assert set("".join(value for data in example.values() for value in data.values())) == set()
    secret = {_variable(key) for key in example["rlfleet"]}
    for name in PODS:
        for variable, value in _environ(name).items():
            if isinstance(value, dict) and "secretKeyRef" in value:
                assert value["secretKeyRef"]["key"] in example[value["secretKeyRef"]["name"]], variable
            elif isinstance(value, str):
                assert variable not in secret, f"{variable} of {name} is a secret"
    assert not [text for one in ALL for text in _strings(one) if re.search(r"://[^/\s]*:[^/\s]*@", text)]
    assert {"Secret"} & {one["kind"] for one in ALL} == set()


def test_variables_are_those_of_the_template() -> None:
    known = set(template()) | FOREIGN
    example = {_variable(key) for one in _of("secret.example.yaml") for key in one["stringData"]}
    set_here = {name for one in PODS if one != "vllm" for name in _environ(one)}
    assert (set_here | example) - known == set()


def test_nobody_reaches_anybody_unless_a_policy_says_so() -> None:
    policies = {one["metadata"]["name"]: one["spec"] for one in ALL if one["kind"] == "NetworkPolicy"}
    assert policies["nobody"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    entered = {name: spec for name, spec in policies.items() if "ingress" in spec}
    assert set(entered) == SERVING
    for name, spec in entered.items():
        (rule,) = spec["ingress"]
        (port,) = CONTAINERS[name]["ports"]
        assert [one["port"] for one in rule["ports"]] == [port["containerPort"]]
        assert rule["from"], "else everybody"
    (rule,) = policies["vllm"]["ingress"]
    assert rule["from"] == [{"podSelector": {"matchLabels": {"app": "gateway"}}}]
    labels = {label for one in ALL if one["kind"] in WORKLOADS for label in _labels(one)}
    wanted = {pair for spec in policies.values() for pair in _wanted(spec)}
    assert wanted <= labels, "each names pods that there are"


def _labels(workload: Manifest) -> Iterator[tuple[str, str]]:
    yield from workload["spec"]["template"]["metadata"]["labels"].items()


def _wanted(spec: Manifest) -> Iterator[tuple[str, str]]:
    """The labels of pods that a policy is about, or lets in or out to."""
    rules = [*spec.get("ingress", []), *spec.get("egress", [])]
    peers = [peer for rule in rules for peer in (*rule.get("from", []), *rule.get("to", []))]
    for selector in (spec["podSelector"], *(peer["podSelector"] for peer in peers if "podSelector" in peer)):
        yield from selector.get("matchLabels", {}).items()
        for one in selector.get("matchExpressions", []):
            yield from ((one["key"], value) for value in one["values"])


def test_what_comes_first_is_all_that_the_migration_needs() -> None:
    first = {name for name, one in BY_NAME.items() if "rlfleet/step" in one["metadata"].get("labels", {})}
    assert first == {
        "Namespace/rlfleet",
        "ConfigMap/rlfleet",
        "Job/migrate",
        "PersistentVolumeClaim/artifacts",
        "PersistentVolumeClaim/models",
        *(f"NetworkPolicy/{name}" for name in ("nobody", "names", "postgres", "redis")),
    }
