"""The Kubernetes manifests of one platform, as `kubectl kustomize` renders them."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).resolve().parents[2] / "cluster" / "kuberay"
PLATFORMS = ("eks", "gke")
USES = ("job", "service", "dev")
RAY_KINDS = ("RayCluster", "RayJob", "RayService")

Document = dict[str, Any]


@cache
def render(folder: Path) -> str:
    """What `kubectl apply -k` would send."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed; with it, the manifests are rendered and checked")
    result = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert not result.stderr, result.stderr
    return result.stdout


@dataclass(frozen=True)
class Manifests:
    """Everything that can be applied on one platform; what several uses share is listed once."""

    platform: str

    @cached_property
    def documents(self) -> list[tuple[str, Document]]:
        """(the use that a document is of, the document)."""
        found: dict[str, tuple[str, Document]] = {}
        for use in USES:
            for document in yaml.safe_load_all(render(FOLDER / self.platform / use)):
                found.setdefault(f"{document['kind']} {document['metadata']['name']}", (use, document))
        return list(found.values())

    @cached_property
    def ray(self) -> dict[str, Document]:
        """RayCluster, RayJob and RayService by their kind."""
        return {document["kind"]: document for _, document in self.documents if document["kind"] in RAY_KINDS}


def cluster_spec(document: Document) -> Document:
    """The cluster in a RayCluster, RayJob or RayService."""
    spec: Document = document["spec"]
    return spec.get("rayClusterSpec") or spec.get("rayClusterConfig") or spec


def pods(document: Document) -> dict[str, Document]:
    """The pods' specs by their group's name, the head's and the submitter's among them."""
    cluster = cluster_spec(document)
    found = {"head": cluster["headGroupSpec"]["template"]["spec"]}
    found |= {group["groupName"]: group["template"]["spec"] for group in cluster["workerGroupSpecs"]}
    if "submitterPodTemplate" in document["spec"]:
        found["submitter"] = document["spec"]["submitterPodTemplate"]["spec"]
    return found
