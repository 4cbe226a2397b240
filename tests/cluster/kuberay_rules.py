"""What KubeRay's operator and Kubernetes refuse beyond the schema, as functions that name every problem.

The operator's rules are those of its `ray-operator/controllers/ray/utils/validation.go`, as far as our manifests can
meet them; where it has a constant, the constant's name stands beside ours. Those of pod security are the table of the
profile `restricted` in Kubernetes' documentation (Pod Security Standards), without what concerns Windows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

Document = Mapping[str, Any]

CLUSTER_NAME_LENGTH = 53
"""MaxRayClusterNameLength; 63 characters of a Kubernetes name, less those of `-serve-svc`."""
OWNED_NAME_LENGTH = CLUSTER_NAME_LENGTH - 6
"""MaxRayJobNameLength, MaxRayServiceNameLength: the cluster of a job or service has six characters more."""
GENERATED_CHARACTERS = 5
"""What Kubernetes appends to a generateName."""
GROUP_NAME_LENGTH = 63

_DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
_PREFIX = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_MIN_RAY = {"authOptions.mode": (2, 52, 0), "priority": (2, 56, 0)}
_SIZES = {"num-cpus", "num-gpus", "memory", "resources"}


def operator_problems(document: Document) -> list[str]:
    """What KubeRay's operator would refuse in a RayCluster, RayJob or RayService."""
    kind, spec = document["kind"], document["spec"]
    problems = list(_name_problems(kind, document["metadata"]))
    if kind == "RayJob":
        problems += _job_problems(spec)
    if kind == "RayService":
        problems += _service_problems(spec)
    cluster = spec.get("rayClusterSpec") or spec.get("rayClusterConfig") or spec
    return problems + list(_cluster_problems(cluster))


def _name_problems(kind: str, metadata: Document) -> Iterator[str]:
    generated = "name" not in metadata
    name = metadata["generateName"] + "x" * GENERATED_CHARACTERS if generated else metadata["name"]
    longest = CLUSTER_NAME_LENGTH if kind == "RayCluster" else OWNED_NAME_LENGTH
    if len(name) > longest:
        yield f"{kind} name {name} has more than {longest} characters"
    if not _DNS_1035.fullmatch(name):
        yield f"{kind} name {name} is no DNS-1035 label"


def _job_problems(spec: Document) -> Iterator[str]:
    shuts_down = spec.get("shutdownAfterJobFinishes", False)
    if spec.get("ttlSecondsAfterFinished", 0) < 0:
        yield "ttlSecondsAfterFinished is negative"
    if spec.get("ttlSecondsAfterFinished", 0) > 0 and not shuts_down:
        yield "ttlSecondsAfterFinished without shutdownAfterJobFinishes"
    if spec.get("suspend") and not shuts_down:
        yield "suspend without shutdownAfterJobFinishes"
    if spec.get("activeDeadlineSeconds", 1) <= 0:
        yield "activeDeadlineSeconds is not positive"
    if spec.get("backoffLimit", 0) < 0:
        yield "backoffLimit is negative"
    if spec.get("backoffLimit", 0) > 0 and spec.get("submissionMode") == "InteractiveMode":
        yield "backoffLimit in InteractiveMode"
    if spec.get("submissionMode") == "SidecarMode" and "submitterPodTemplate" in spec:
        yield "submitterPodTemplate in SidecarMode"
    if "deletionStrategy" in spec:
        yield "deletionStrategy needs a feature gate of the operator"


def _service_problems(spec: Document) -> Iterator[str]:
    if spec.get("upgradeStrategy", {}).get("type", "NewCluster") not in ("NewCluster", "None"):
        yield "an upgradeStrategy that needs a gateway and its options"
    if spec.get("rayClusterDeletionDelaySeconds", 0) < 0:
        yield "rayClusterDeletionDelaySeconds is negative"
    if spec["rayClusterConfig"]["headGroupSpec"].get("headService", {}).get("metadata", {}).get("name"):
        yield "headService has a name, which the operator gives"
    if "serve" not in {port.get("name") for port in _ray_container(spec["rayClusterConfig"]["headGroupSpec"])["ports"]}:
        yield "the head's container has no port named serve"


def _cluster_problems(spec: Document) -> Iterator[str]:
    head, groups = spec["headGroupSpec"], spec.get("workerGroupSpecs", [])
    options = spec.get("autoscalerOptions", {})
    autoscaled = bool(spec.get("enableInTreeAutoscaling"))
    second_version = options.get("version") == "v2"
    yield from _group_problems("head", head)
    for group in groups:
        name = group["groupName"]
        yield from _group_problems(name, group)
        yield from _replica_problems(name, group, autoscaled)
        for key in ("priority", "idleTimeoutSeconds"):
            if group.get(key) and not second_version:
                yield f"{name}: {key} without autoscaler v2"
        if group.get("idleTimeoutSeconds", 0) < 0:
            yield f"{name}: idleTimeoutSeconds is negative"
        if group.get("priority"):
            yield from _version_problems(spec, "priority")
        if group.get("suspend"):
            yield f"{name}: suspend with the autoscaler"
    names = [group["groupName"] for group in groups]
    yield from (f"two groups are named {name}" for name in sorted({name for name in names if names.count(name) > 1}))
    if second_version:
        for template in (head["template"], *(group["template"] for group in groups)):
            if template["spec"].get("restartPolicy", "Never") != "Never":
                yield "a restartPolicy other than Never with autoscaler v2"
    if options.get("idleTimeoutSeconds", 0) < 0:
        yield "autoscalerOptions.idleTimeoutSeconds is negative"
    head_variables = _variables(_ray_container(head))
    if "RAY_enable_autoscaler_v2" in head_variables and (not autoscaled or "version" in options):
        yield "RAY_enable_autoscaler_v2 is set beside autoscalerOptions"
    if "KUBERAY_GEN_AUTOSCALER_START_CMD" in _variables(options):
        yield "KUBERAY_GEN_AUTOSCALER_START_CMD is the operator's"
    yield from _fault_tolerance_problems(spec, head, head_variables)
    if spec.get("authOptions", {}).get("mode") == "token":
        yield from _version_problems(spec, "authOptions.mode")
    for key in ("networkPolicy", "tlsOptions", "historyServerOptions"):
        if key in spec:
            yield f"{key} needs a feature gate of the operator"


def _group_problems(name: str, group: Document) -> Iterator[str]:
    if not group["template"]["spec"]["containers"]:
        yield f"{name}: no container"
    parameters = group.get("rayStartParams", {})
    if group.get("resources") and _SIZES & parameters.keys():
        yield f"{name}: resources twice, in rayStartParams and beside them"
    if "labels" in parameters:
        yield f"{name}: rayStartParams.labels, where labels belongs beside them"
    for key, value in group.get("labels", {}).items():
        prefix, slash, last = key.rpartition("/")
        if not last or len(last) > 63 or not _LABEL.fullmatch(last) or (slash and not _PREFIX.fullmatch(prefix)):
            yield f"{name}: {key} is no label's key"
        if len(value) > 63 or not _LABEL.fullmatch(value):
            yield f"{name}: {value} is no label's value"


def _replica_problems(name: str, group: Document, autoscaled: bool) -> Iterator[str]:
    fewest, most = group.get("minReplicas"), group.get("maxReplicas")
    if not autoscaled and (fewest is None or most is None):
        yield f"{name}: minReplicas and maxReplicas are needed without the autoscaler"
    if (fewest or 0) < 0 or (most or 0) < 0:
        yield f"{name}: negative replicas"
    if fewest is not None and most is not None and fewest > most:
        yield f"{name}: minReplicas above maxReplicas"
    if not (fewest or 0) <= group.get("replicas", fewest or 0) <= (most if most is not None else 2**31):
        yield f"{name}: replicas outside minReplicas and maxReplicas"


def _fault_tolerance_problems(spec: Document, head: Document, variables: set[str]) -> Iterator[str]:
    reserved = {"RAY_REDIS_ADDRESS", "REDIS_PASSWORD", "REDIS_USERNAME"} & variables
    yield from (f"{name} is set on the head, where gcsFaultToleranceOptions has it" for name in sorted(reserved))
    if {"redis-password", "redis-username"} & head.get("rayStartParams", {}).keys():
        yield "Redis' password or user in rayStartParams"
    options = spec.get("gcsFaultToleranceOptions", {})
    if options.get("backend", "redis") == "redis" and "storage" in options:
        yield "gcsFaultToleranceOptions.storage is for another backend than Redis"


def _version_problems(spec: Document, what: str) -> Iterator[str]:
    version = tuple(int(part) for part in re.findall(r"\d+", spec.get("rayVersion", "")))
    if version < _MIN_RAY[what]:
        yield f"{what} needs rayVersion {'.'.join(map(str, _MIN_RAY[what]))}"


def _ray_container(group: Document) -> Document:
    """The operator takes the first container for Ray's."""
    container: Document = group["template"]["spec"]["containers"][0]
    return container


def _variables(container: Document) -> set[str]:
    return {entry["name"] for entry in container.get("env", [])}


# The table of `restricted`: volumes that may be used, and sysctls and annotations that none of ours has.
_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
_SECCOMP = ("RuntimeDefault", "Localhost")


def restricted_problems(pod: Document) -> list[str]:
    """What the profile `restricted` refuses in a pod's spec."""
    return [*_pod_problems(pod), *(problem for container in _containers(pod) for problem in _locked(pod, container))]


def _containers(pod: Document) -> list[Document]:
    return [
        container for key in ("initContainers", "containers", "ephemeralContainers") for container in pod.get(key, [])
    ]


def _pod_problems(pod: Document) -> Iterator[str]:
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(key):
            yield key
    for volume in pod.get("volumes", []):
        if set(volume) - {"name"} - _VOLUMES:
            yield f"volume {volume['name']} of a kind that is not allowed"
    if pod.get("securityContext", {}).get("sysctls"):
        yield "sysctls"


def _locked(pod: Document, container: Document) -> Iterator[str]:
    name, of_pod, own = container["name"], pod.get("securityContext", {}), container.get("securityContext", {})

    def setting(key: str) -> Any:
        """The container's own word, else the pod's."""
        return own.get(key, of_pod.get(key))

    if own.get("privileged"):
        yield f"{name}: privileged"
    if own.get("procMount", "Default") != "Default":
        yield f"{name}: procMount"
    if own.get("allowPrivilegeEscalation") is not False:
        yield f"{name}: allowPrivilegeEscalation is not false"
    if setting("runAsNonRoot") is not True:
        yield f"{name}: runAsNonRoot is not true"
    if setting("runAsUser") == 0:
        yield f"{name}: runAsUser is 0"
    if (setting("seccompProfile") or {}).get("type") not in _SECCOMP:
        yield f"{name}: no seccompProfile"
    capabilities = own.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", []):
        yield f"{name}: capabilities are not dropped"
    if set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        yield f"{name}: capabilities are added"
    for port in container.get("ports", []):
        if port.get("hostPort"):
            yield f"{name}: hostPort"
    for selinux in (own.get("seLinuxOptions", {}), of_pod.get("seLinuxOptions", {})):
        if selinux.get("type", "") not in (
            "",
            "container_t",
            "container_init_t",
            "container_kvm_t",
            "container_engine_t",
        ):
            yield f"{name}: seLinuxOptions.type"
        if "user" in selinux or "role" in selinux:
            yield f"{name}: seLinuxOptions"
    if (setting("appArmorProfile") or {}).get("type", "RuntimeDefault") not in ("RuntimeDefault", "Localhost"):
        yield f"{name}: appArmorProfile"
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        if container.get(probe, {}).get("httpGet", {}).get("host"):
            yield f"{name}: {probe} asks another host"
