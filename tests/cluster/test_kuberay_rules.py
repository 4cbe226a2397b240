"""The KubeRay manifests, held to what the operator and the cluster refuse beyond the schema, and to each other."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from data_jobs.label_dataset import command
from everymask.errors import ConfigurationError
from tests.cluster.image.dockerfile import parse
from tests.cluster.kuberay_rules import operator_problems, restricted_problems
from tests.cluster.manifests import FOLDER, RAY_KINDS, Document, Manifests, cluster_spec, pods

REPOSITORY = FOLDER.parents[1]


@pytest.mark.parametrize("kind", RAY_KINDS)
def test_the_operator_has_nothing_against_it(manifests: Manifests, kind: str) -> None:
    assert operator_problems(manifests.ray[kind]) == []


@pytest.mark.parametrize(
    ("kind", "path", "value", "problem"),
    [
        ("RayCluster", ("metadata", "name"), "e" * 54, "more than 53 characters"),
        ("RayJob", ("metadata", "name"), "e" * 48, "more than 47 characters"),
        ("RayService", ("metadata", "name"), "1st", "no DNS-1035 label"),
        ("RayJob", ("spec", "shutdownAfterJobFinishes"), False, "ttlSecondsAfterFinished without"),
        ("RayJob", ("spec", "backoffLimit"), -1, "backoffLimit is negative"),
        ("RayJob", ("spec", "submissionMode"), "SidecarMode", "submitterPodTemplate in SidecarMode"),
        ("RayJob", ("spec", "rayClusterSpec", "rayVersion"), "2.55.1", "priority needs rayVersion 2.56.0"),
        ("RayJob", ("spec", "rayClusterSpec", "autoscalerOptions", "version"), "v1", "priority without autoscaler v2"),
        ("RayJob", ("spec", "rayClusterSpec", "headGroupSpec", "template", "spec", "restartPolicy"), "Always", "Never"),
        ("RayService", ("spec", "upgradeStrategy", "type"), "NewClusterWithIncrementalUpgrade", "needs a gateway"),
        ("RayService", ("spec", "rayClusterConfig", "gcsFaultToleranceOptions", "storage"), {}, "another backend"),
        ("RayService", ("spec", "rayClusterConfig", "headGroupSpec", "labels"), {"a b": "c"}, "no label's key"),
        ("RayCluster", ("spec", "workerGroupSpecs", 1, "minReplicas"), 5, "minReplicas above maxReplicas"),
        ("RayCluster", ("spec", "workerGroupSpecs", 1, "groupName"), "cpu", "two groups are named cpu"),
        ("RayCluster", ("spec", "headGroupSpec", "rayStartParams", "labels"), "a=b", "belongs beside them"),
        ("RayCluster", ("spec", "headGroupSpec", "resources"), {"CPU": "1"}, "resources twice"),
    ],
)
def test_the_rules_of_the_operator_find_mistakes(
    manifests: Manifests, kind: str, path: tuple[str | int, ...], value: object, problem: str
) -> None:
    document = changed(manifests.ray[kind], path, value)
    assert any(problem in found for found in operator_problems(document)), operator_problems(document)


def changed(document: Document, path: tuple[str | int, ...], value: object) -> Document:
    document = copy.deepcopy(document)
    target: Any = document
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    return document


def all_pods(manifests: Manifests) -> Iterator[tuple[str, Document]]:
    """Every pod that comes of a manifest, the operator's own container in the head's among them."""
    for name, document in manifests.documents:
        if document["kind"] in RAY_KINDS:
            for role, pod in pods(document).items():
                yield f"{name} {role}", pod
            # The operator puts the autoscaler beside the head, locked down as we tell it to.
            sidecar = {"name": "autoscaler", **cluster_spec(document)["autoscalerOptions"]}
            yield f"{name} autoscaler", {**pods(document)["head"], "containers": [sidecar]}
        elif document["kind"] in ("StatefulSet", "Deployment", "Job"):
            yield name, document["spec"]["template"]["spec"]


def test_every_pod_passes_the_restricted_profile_that_the_namespace_enforces(manifests: Manifests) -> None:
    (namespace,) = [document for _, document in manifests.documents if document["kind"] == "Namespace"]
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    problems = {place: restricted_problems(pod) for place, pod in all_pods(manifests)}
    assert len(problems) > 12
    assert not {place: found for place, found in problems.items() if found}


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        (("hostNetwork",), True, "hostNetwork"),
        (("volumes", 0), {"name": "tmp", "hostPath": {"path": "/"}}, "volume tmp"),
        (("securityContext", "runAsUser"), 0, "runAsUser is 0"),
        (("securityContext", "seccompProfile"), {"type": "Unconfined"}, "no seccompProfile"),
        (("containers", 0, "securityContext", "privileged"), True, "privileged"),
        (("containers", 0, "securityContext", "runAsNonRoot"), False, "runAsNonRoot"),
        (("containers", 0, "securityContext", "allowPrivilegeEscalation"), None, "allowPrivilegeEscalation"),
        (("containers", 0, "securityContext", "capabilities"), {"drop": ["NET_RAW"]}, "not dropped"),
        (("containers", 0, "securityContext", "capabilities"), {"drop": ["ALL"], "add": ["SYS_PTRACE"]}, "added"),
        (("containers", 0, "ports", 0, "hostPort"), 6379, "hostPort"),
    ],
)
def test_the_table_of_the_restricted_profile_finds_mistakes(
    manifests: Manifests, path: tuple[str | int, ...], value: object, problem: str
) -> None:
    pod = changed(pods(manifests.ray["RayCluster"])["head"], path, value)
    assert any(problem in found for found in restricted_problems(pod)), restricted_problems(pod)


def values(node: Any, key: str) -> Iterator[Any]:
    """Every value of a key, however deep."""
    if isinstance(node, Mapping):
        for name, child in node.items():
            if name == key:
                yield child
            yield from values(child, key)
    elif isinstance(node, list):
        for child in node:
            yield from values(child, key)


def named(manifests: Manifests, kind: str) -> set[str]:
    return {document["metadata"]["name"] for _, document in manifests.documents if document["kind"] == kind}


def test_every_image_is_ours_under_one_name_or_pinned(manifests: Manifests) -> None:
    """One `sed` over cluster/ replaces all of ours."""
    found = {image for _, document in manifests.documents for image in values(document, "image")}
    for cloud in ("aws", "gcp"):
        found |= set(values(yaml.safe_load((FOLDER.parent / f"{cloud}.yaml").read_text()), "image"))
    assert {image for image in found if "everymask" in image} == {"REGISTRY/everymask:TAG"}
    for image in found - {"REGISTRY/everymask:TAG"}:
        assert re.fullmatch(r"[\w./-]+:\d+\.\d+[\w.-]*", image), f"{image} has no version"


def test_every_account_named_exists(manifests: Manifests) -> None:
    used = {account for _, document in manifests.documents for account in values(document, "serviceAccountName")}
    assert used == named(manifests, "ServiceAccount")


def test_every_secret_named_is_made_by_a_command_that_stands_there(manifests: Manifests) -> None:
    """With the key that is asked for; operators make those of tokens by themselves."""
    texts = "\n".join(path.read_text() for path in [*FOLDER.rglob("*.yaml"), FOLDER.parent / "README.md"])
    made = re.findall(r"create secret generic (\S+) --from-(?:literal|file)=([\w-]+)=", texts)
    asked = set()
    for _, document in manifests.documents:
        asked |= {(entry["name"], entry["key"]) for entry in values(document, "secretKeyRef")}
        for volume in values(document, "secret"):
            keys = [item["key"] for item in volume.get("items", [])] or [
                key for name, key in made if name == volume["secretName"]
            ]
            assert keys, volume
            asked |= {(volume["secretName"], key) for key in keys}
    assert asked <= set(made)
    assert {name for name, _ in asked} == {"everymask-redis", "everymask-api-keys"}


def test_every_service_named_exists_with_its_port(manifests: Manifests) -> None:
    services = {
        document["metadata"]["name"]: {port["port"] for port in document["spec"]["ports"]}
        for _, document in manifests.documents
        if document["kind"] == "Service"
    }
    (address,) = {address for _, document in manifests.documents for address in values(document, "redisAddress")}
    name, port = re.fullmatch(r"redis://([\w-]+):(\d+)", address).groups()  # type: ignore[union-attr]
    assert int(port) in services[name]
    for _, document in manifests.documents:
        if document["kind"] == "Service":
            (pod,) = [
                other["spec"]["template"]
                for _, other in manifests.documents
                if other["kind"] == "StatefulSet"
                and other["spec"]["template"]["metadata"]["labels"].items() >= document["spec"]["selector"].items()
            ]
            targets = {port["containerPort"] for container in pod["spec"]["containers"] for port in container["ports"]}
            assert services[document["metadata"]["name"]] <= targets
        if document["kind"] == "StatefulSet":
            assert document["spec"]["serviceName"] in services


def test_the_network_policy_lets_in_who_has_to_come_in(manifests: Manifests) -> None:
    """It selects every pod of ours, lets them speak to each other, and opens the port that the service listens on."""
    (policy,) = [document["spec"] for _, document in manifests.documents if document["kind"] == "NetworkPolicy"]
    ours = policy["podSelector"]["matchLabels"]
    assert any(peer.get("podSelector", {}).get("matchLabels") == ours for peer in policy["ingress"][0]["from"])
    labels = [metadata["labels"] for _, document in manifests.documents for metadata in pod_metadata(document)]
    assert labels
    assert all(found.items() >= ours.items() for found in labels)
    served = yaml.safe_load(manifests.ray["RayService"]["spec"]["serveConfigV2"])["http_options"]["port"]
    assert served in {port["port"] for rule in policy["ingress"] for port in rule.get("ports", [])}
    ports = [
        port for container in pods(manifests.ray["RayService"])["head"]["containers"] for port in container["ports"]
    ]
    assert {"name": "serve", "containerPort": served} in ports


def pod_metadata(document: Document) -> Iterator[Document]:
    for key in ("template", "submitterPodTemplate"):
        yield from (template["metadata"] for template in values(document, key))


def test_every_path_named_is_mounted_or_in_the_image(manifests: Manifests) -> None:
    """Paths of the service's configuration and of the job's command; a bucket needs no mount."""
    (run,) = [stage for stage in parse((FOLDER.parent / "Dockerfile").read_text()) if stage.name == "run"]
    in_image = {text.split()[-1] for text in run.arguments("COPY")} | set(run.arguments("WORKDIR"))
    service = manifests.ray["RayService"]
    arguments = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"][0]["args"]
    optional = {"/shared"}  # of shared-storage.yaml; without it the service has the shipped class head alone
    for role, pod in pods(service).items():
        mounted = {mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
        (of_user,) = arguments["heads"]
        for path in (of_user, arguments["api_keys_file"]):
            assert any(Path(path).is_relative_to(place) for place in mounted | optional), (role, path)
    job = manifests.ray["RayJob"]
    program, option, config = job["spec"]["entrypoint"].split()[1:]
    assert any(Path(program).is_relative_to(place) for place in in_image), program
    assert (REPOSITORY / Path(program).relative_to("/app")).is_file()
    assert option == "--config"
    head = pods(job)["head"]
    (mount,) = [m for m in head["containers"][0]["volumeMounts"] if Path(config).is_relative_to(m["mountPath"])]
    (volume,) = [volume for volume in head["volumes"] if volume["name"] == mount["name"]]
    assert set(config_maps(manifests)[volume["configMap"]["name"]]) == {Path(config).name}


def config_maps(manifests: Manifests) -> dict[str, dict[str, str]]:
    return {
        document["metadata"]["name"]: document["data"]
        for _, document in manifests.documents
        if document["kind"] == "ConfigMap"
    }


def test_the_job_s_settings_are_settings_of_the_job(manifests: Manifests, tmp_path: Path) -> None:
    (data,) = config_maps(manifests).values()
    (tmp_path / "label.yaml").write_text(data["label.yaml"])
    config = command.parse(["--config", str(tmp_path / "label.yaml")])
    assert config.input.endswith("://BUCKET/images")
    groups = {group["groupName"]: group for group in cluster_spec(manifests.ray["RayJob"])["workerGroupSpecs"]}
    most = int(config.workers.actors.partition(":")[2])
    assert groups["gpu-spot"]["maxReplicas"] >= most * (config.workers.gpus_per_actor or 0)


def test_the_job_s_settings_may_be_names_for_sam3(manifests: Manifests, tmp_path: Path) -> None:
    (data,) = config_maps(manifests).values()
    named = data["label.yaml"].replace("model: vit_h", "model: sam3\nmethod: concepts\nnames: animals=cat+dog,-toy dog")
    (tmp_path / "label.yaml").write_text(named)
    config = command.parse(["--config", str(tmp_path / "label.yaml")])
    assert config.label_config().concepts.class_names == ("animals",)
    assert config.label_config().concepts.negatives == ("toy dog",)
    (tmp_path / "label.yaml").write_text(named.replace("model: sam3", "model: vit_h"))
    with pytest.raises(ConfigurationError, match="model vit_h knows no concepts; use --model sam3"):
        command.parse(["--config", str(tmp_path / "label.yaml")])


def test_pods_that_want_a_gpu_say_which_market_s_nodes(manifests: Manifests) -> None:
    for place, pod in all_pods(manifests):
        wants_gpu = any("nvidia.com/gpu" in c.get("resources", {}).get("limits", {}) for c in pod["containers"])
        assert bool(pod.get("nodeSelector")) == wants_gpu, place
        if wants_gpu:
            assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in pod["tolerations"], place
