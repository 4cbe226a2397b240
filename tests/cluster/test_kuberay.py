"""The KubeRay manifests: valid, locked down, and saying the same thing as the rest of the repository."""

from __future__ import annotations

import copy
import importlib.metadata
import json
import os
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.cluster.manifests import FOLDER, RAY_KINDS, USES, Manifests, cluster_spec, pods, render

REPOSITORY = Path(__file__).resolve().parents[2]
SCHEMA = yaml.safe_load((Path(__file__).parent / "kuberay_schema.yaml").read_text())


def strict(schema: Any) -> Any:
    """An openAPIV3Schema as a strict JSON Schema: unknown keys refused, defaulted keys not required."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: strict(value) for key, value in schema.items() if key not in ("format", "default", "required")}
    properties = schema.get("properties")
    if isinstance(properties, dict):
        result["properties"] = {name: strict(child) for name, child in properties.items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            result.setdefault("additionalProperties", False)
    if isinstance(schema.get("required"), list):
        result["required"] = [name for name in schema["required"] if "default" not in (properties or {}).get(name, {})]
    if schema.get("x-kubernetes-int-or-string"):
        result.pop("type", None)
        result["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    return result


@pytest.mark.parametrize("kind", RAY_KINDS)
def test_manifest_fits_the_schema_of_used_fields(manifests: Manifests, kind: str) -> None:
    jsonschema.validate(manifests.ray[kind], SCHEMA, cls=jsonschema.Draft202012Validator)


@pytest.mark.parametrize("kind", RAY_KINDS)
def test_manifest_fits_the_full_definition(manifests: Manifests, kind: str) -> None:
    folder = os.environ.get("EVERYMASK_KUBERAY_CRDS")
    if not folder:
        pytest.skip("set EVERYMASK_KUBERAY_CRDS to a folder of KubeRay's definitions (ray.io_rayjobs.yaml, …)")
    definition = yaml.safe_load((Path(folder) / f"ray.io_{kind.lower()}s.yaml").read_text())
    version = next(version for version in definition["spec"]["versions"] if version["name"] == "v1")
    schema = strict(version["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    jsonschema.validate(manifests.ray[kind], schema, cls=jsonschema.Draft202012Validator)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("autoscalerOptions", "version"), "v3"),
        (("workerGroupSpecs", 1, "maxreplicas"), 4),
        (("headGroupSpec", "template", "spec", "containers", 0, "resources", "limits", "memory"), 8),
        (("headGroupSpec", "template", "spec", "securityContext", "runAsUser"), 0),
        (("headGroupSpec", "template", "spec", "containers", 0, "securityContext", "readOnlyRootFilesystem"), False),
        (("headGroupSpec", "rayStartParams", "num-cpus"), 0),
    ],
)
def test_schema_refuses_mistakes(manifests: Manifests, path: tuple[str | int, ...], value: object) -> None:
    document = copy.deepcopy(manifests.ray["RayCluster"])
    target: Any = document["spec"]
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, SCHEMA, cls=jsonschema.Draft202012Validator)


@pytest.mark.parametrize("kind", RAY_KINDS)
def test_pods_can_start_with_a_read_only_root(manifests: Manifests, kind: str) -> None:
    for name, pod in pods(manifests.ray[kind]).items():
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
            assert set(mounts) <= volumes, name
            assert {"/tmp", "/home/everymask"} <= set(mounts.values()), name


@pytest.mark.parametrize("kind", RAY_KINDS)
def test_cluster_is_authenticated_and_scales_with_version_2(manifests: Manifests, kind: str) -> None:
    cluster = cluster_spec(manifests.ray[kind])
    assert cluster["authOptions"]["mode"] == "token"
    assert cluster["enableInTreeAutoscaling"] is True
    assert cluster["autoscalerOptions"]["version"] == "v2"
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


@pytest.mark.parametrize("kind", RAY_KINDS)
def test_spot_comes_before_on_demand(manifests: Manifests, kind: str) -> None:
    groups = {group["groupName"]: group for group in cluster_spec(manifests.ray[kind])["workerGroupSpecs"]}
    spot, on_demand = groups["gpu-spot"], groups["gpu-on-demand"]
    assert spot["priority"] > on_demand["priority"]
    assert spot["labels"]["ray.io/market-type"] == "spot"
    assert on_demand["labels"]["ray.io/market-type"] == "on-demand"
    # As the clouds' own node pools are labelled.
    chosen = {
        "eks": ({"eks.amazonaws.com/capacityType": "SPOT"}, {"eks.amazonaws.com/capacityType": "ON_DEMAND"}),
        "gke": ({"cloud.google.com/gke-spot": "true"}, {"cloud.google.com/gke-provisioning": "standard"}),
    }[manifests.platform]
    for group, labels in zip((spot, on_demand), chosen, strict=True):
        assert group["template"]["spec"]["nodeSelector"].items() >= labels.items()
    for group in (spot, on_demand):
        # What the autoscaler adds must be what it weighed: unequal requests and limits would differ.
        resources = group["template"]["spec"]["containers"][0]["resources"]
        assert resources["requests"] == resources["limits"]
        assert resources["limits"]["nvidia.com/gpu"] == "1"


def test_job_and_development_clusters_cost_no_gpu_while_idle(manifests: Manifests) -> None:
    for kind in ("RayCluster", "RayJob"):
        for group in cluster_spec(manifests.ray[kind])["workerGroupSpecs"]:
            assert group["minReplicas"] == 0


def test_service_runs_the_repository_s_gpu_configuration(manifests: Manifests) -> None:
    manifest = yaml.safe_load(manifests.ray["RayService"]["spec"]["serveConfigV2"])
    assert manifest == yaml.safe_load((REPOSITORY / "serve" / "config" / "gpu.yaml").read_text())


def test_service_s_first_replicas_fit_the_node_that_is_always_there(manifests: Manifests) -> None:
    service = manifests.ray["RayService"]
    arguments = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"][0]["args"]
    deployments = [options for options in arguments.values() if isinstance(options, dict) and "num_cpus" in options]
    steady = next(group for group in cluster_spec(service)["workerGroupSpecs"] if group["minReplicas"])
    limits = steady["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert sum(options["min_replicas"] * options["num_cpus"] for options in deployments) <= int(limits["cpu"])
    needed_gpus = sum(options["min_replicas"] * options.get("num_gpus", 0) for options in deployments)
    assert 0 < needed_gpus <= int(limits["nvidia.com/gpu"])


@pytest.mark.parametrize("kind", RAY_KINDS)
def test_no_volume_is_claimed_and_accounts_exist(manifests: Manifests, kind: str) -> None:
    known = {(document["kind"], document["metadata"].get("name")) for _, document in manifests.documents}
    for pod in pods(manifests.ray[kind]).values():
        assert ("ServiceAccount", pod["serviceAccountName"]) in known
        assert not any("persistentVolumeClaim" in volume for volume in pod["volumes"])


@pytest.mark.parametrize("use", USES)
def test_shared_storage_reaches_every_pod_of_the_cluster(manifests: Manifests, use: str, tmp_path: Path) -> None:
    """As the line in storage/kustomization.yaml says: before the other components."""
    copy = tmp_path / "kuberay"
    shutil.copytree(FOLDER, copy)
    chosen = copy / manifests.platform / use / "kustomization.yaml"
    written = yaml.safe_load(chosen.read_text())
    written["components"] = ["../../storage", *written.get("components", [])]
    chosen.write_text(yaml.safe_dump(written))
    found = list(yaml.safe_load_all(render(chosen.parent)))
    claims = {document["metadata"]["name"] for document in found if document["kind"] == "PersistentVolumeClaim"}
    assert claims == {"everymask-data", "everymask-weights"}
    (document,) = [document for document in found if document["kind"] in RAY_KINDS]
    for role, pod in pods(document).items():
        if role == "submitter":
            continue
        volumes = [volume for volume in pod["volumes"] if "persistentVolumeClaim" in volume]
        claimed = {volume["persistentVolumeClaim"]["claimName"] for volume in volumes}
        assert claimed == claims
        assert {"/shared", "/weights"} <= {mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
        assert {"name": "EVERYMASK_CACHE", "value": "/weights"} in pod["containers"][0]["env"]
    jsonschema.validate(document, SCHEMA, cls=jsonschema.Draft202012Validator)


@pytest.mark.parametrize("use", USES)
def test_workers_of_sam3_get_the_token_and_a_volume_for_its_weights(
    manifests: Manifests, use: str, tmp_path: Path
) -> None:
    """As the lines in sam3/kustomization.yaml say."""
    copy = tmp_path / "kuberay"
    shutil.copytree(FOLDER, copy)
    chosen = copy / manifests.platform / use / "kustomization.yaml"
    written = yaml.safe_load(chosen.read_text())
    written["components"] = ["../../storage", "../../sam3", *written.get("components", [])]
    chosen.write_text(yaml.safe_dump(written))
    (document,) = [one for one in yaml.safe_load_all(render(chosen.parent)) if one["kind"] in RAY_KINDS]
    secret = {"secretKeyRef": {"name": "everymask-huggingface", "key": "token"}}
    for role, pod in pods(document).items():
        env = pod["containers"][0].get("env", [])
        holds_token = {"name": "HF_TOKEN", "valueFrom": secret} in env
        assert holds_token == (role not in ("submitter", "head")), role
        if holds_token:
            assert {"name": "EVERYMASK_CACHE", "value": "/weights"} in env
    jsonschema.validate(document, SCHEMA, cls=jsonschema.Draft202012Validator)


@pytest.mark.parametrize("kind", RAY_KINDS)
def test_only_the_head_holds_a_token_of_kubernetes(manifests: Manifests, kind: str) -> None:
    for role, pod in pods(manifests.ray[kind]).items():
        if role == "head":
            assert pod["serviceAccountName"] == "everymask-head"
            assert pod.get("automountServiceAccountToken", True)
        else:
            assert pod["serviceAccountName"] != "everymask-head"
            assert pod["automountServiceAccountToken"] is False


@pytest.mark.parametrize("kind", RAY_KINDS)
def test_a_pod_fits_beside_its_image_on_the_default_disk_of_eks(manifests: Manifests, kind: str) -> None:
    """20 GiB, of which the system and an image of 7 GB leave about 10."""
    for pod in pods(manifests.ray[kind]).values():
        folders = [volume["emptyDir"] for volume in pod["volumes"] if "emptyDir" in volume]
        on_disk = [folder["sizeLimit"] for folder in folders if folder.get("medium") != "Memory"]
        assert sum(int(size.removesuffix("Gi")) for size in on_disk) <= 10


@pytest.mark.parametrize("kind", RAY_KINDS)
def test_prometheus_finds_the_metrics_of_every_pod_and_is_let_in(manifests: Manifests, kind: str) -> None:
    cluster = cluster_spec(manifests.ray[kind])
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        (port,) = [
            port for port in group["template"]["spec"]["containers"][0]["ports"] if port.get("name") == "metrics"
        ]
        assert group["rayStartParams"]["metrics-export-port"] == str(port["containerPort"])
    (policy,) = [document for _, document in manifests.documents if document["kind"] == "NetworkPolicy"]
    (rule,) = [
        rule for rule in policy["spec"]["ingress"] if {"port": "metrics", "protocol": "TCP"} in rule.get("ports", [])
    ]
    assert rule["from"] == [
        {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app.kubernetes.io/name": "prometheus"}}}
    ]


@pytest.mark.parametrize("use", USES)
def test_monitoring_is_a_line_in_any_folder(manifests: Manifests, use: str, tmp_path: Path) -> None:
    shutil.copytree(FOLDER.parent, tmp_path / "cluster")
    chosen = tmp_path / "cluster/kuberay" / manifests.platform / use / "kustomization.yaml"
    written = yaml.safe_load(chosen.read_text())
    written["components"] = [*written.get("components", []), "../../../monitoring"]
    chosen.write_text(yaml.safe_dump(written))
    found = {document["kind"]: document for document in yaml.safe_load_all(render(chosen.parent))}
    monitor = found["PodMonitor"]["spec"]
    assert [endpoint["port"] for endpoint in monitor["podMetricsEndpoints"]] == ["metrics"]
    labels = cluster_spec(manifests.ray["RayCluster"])["headGroupSpec"]["template"]["metadata"]["labels"]
    (chosen_by, _) = monitor["selector"]["matchExpressions"]
    assert labels[chosen_by["key"]] in chosen_by["values"]
    assert len(found["PrometheusRule"]["spec"]["groups"][0]["rules"]) == 4
    (dashboard,) = [
        document
        for document in yaml.safe_load_all(render(chosen.parent))
        if document["kind"] == "ConfigMap" and document["metadata"]["name"] == "everymask-dashboard"
    ]
    assert dashboard["metadata"]["labels"] == {"grafana_dashboard": "1"}
    assert json.loads(dashboard["data"]["everymask.json"])["title"] == "everymask"


def test_every_manifest_runs_the_installed_ray_and_one_image(manifests: Manifests) -> None:
    installed = importlib.metadata.version("ray")
    images = set()
    for kind in RAY_KINDS:
        assert cluster_spec(manifests.ray[kind])["rayVersion"] == installed
        for pod in pods(manifests.ray[kind]).values():
            images |= {container["image"] for container in pod["containers"]}
    assert len(images) == 1


def test_the_operator_finds_the_port_it_makes_the_service_from(manifests: Manifests) -> None:
    """KubeRay's operator looks for a port named `serve` of the head's container, and makes no Service without one."""
    (container,) = [c for c in pods(manifests.ray["RayService"])["head"]["containers"] if c["name"] == "ray-head"]
    assert {"name": "serve", "containerPort": 8000} in container["ports"]


@pytest.mark.parametrize("kind", RAY_KINDS)
def test_scaling_is_bounded_and_a_pending_group_gives_way(manifests: Manifests, kind: str) -> None:
    options = cluster_spec(manifests.ray[kind])["autoscalerOptions"]
    assert options["upscalingMode"] == "Conservative"
    environment = {entry["name"]: entry["value"] for entry in options["env"]}
    assert 0 < int(environment["RAY_AUTOSCALER_RECONCILE_ALLOCATE_STATUS_TIMEOUT_S"]) < 3600


@pytest.mark.parametrize("kind", RAY_KINDS)
def test_gpu_pods_find_the_driver_where_gke_puts_it(manifests: Manifests, kind: str) -> None:
    for pod in pods(manifests.ray[kind]).values():
        for container in pod["containers"]:
            if "nvidia.com/gpu" in container["resources"]["limits"]:
                assert {"name": "LD_LIBRARY_PATH", "value": "/usr/local/nvidia/lib64"} in container["env"]
