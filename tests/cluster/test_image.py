"""The image, built by the Dockerfile's own steps and started as users and KubeRay start it; see `tests.cluster.image`.

    EVERYMASK_IMAGE_FOLDER=/tmp/image python -m pytest tests/cluster/test_image.py -s

keeps the layers there (8 GB), so that the next run builds only what has changed. Without it they go when the tests end.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from everymask.labels.store import LabelStore
from tests.cluster.image.build import Builder, Image
from tests.cluster.image.container import ADDRESS, Container
from tests.cluster.image.machine import this_machine
from tests.cluster.image.namespaces import why_impossible
from tests.cluster.manifests import Manifests
from tests.machine import IMAGE_TOOLS, skip_without

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]

REPOSITORY = Path(__file__).resolve().parents[2]
ROOM_BYTES = 20e9
START_S = 600
PICTURES = 12
TOKEN = "0123456789abcdef" * 4


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    kept = os.environ.get("EVERYMASK_IMAGE_FOLDER")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("image")
    folder.mkdir(exist_ok=True)
    if not IMAGE_TOOLS.found():
        skip_without(IMAGE_TOOLS)
    reason = why_impossible(folder / "probe")
    if reason is None and not kept and shutil.disk_usage(folder).free < ROOM_BYTES:
        reason = f"{folder} has less than {ROOM_BYTES / 1e9:.0f} GB left"
    if reason is not None:
        pytest.skip(f"no image can be built here: {reason}")
    with (folder / "transcript.txt").open("w") as transcript:

        def say(line: str) -> None:
            print(line, flush=True)
            print(line, file=transcript, flush=True)

        built = Builder(folder, this_machine({}), say).build(REPOSITORY / "cluster" / "Dockerfile", REPOSITORY)
        say(built.report())
    yield built
    if not kept:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def idle(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """A container that waits."""
    with Container(image, ["sleep", "infinity"], tmp_path_factory.mktemp("idle")) as container:
        container.wait_until(lambda: container.run("true").returncode == 0, START_S)
        yield container


def test_a_change_of_code_is_a_small_layer(image: Image) -> None:
    """Nodes that have the image pull it anew in a second, and no cache of a package manager lies in it."""
    sizes = {layer.step.partition("] ")[2]: layer.size_bytes for layer in image.layers}
    code = [size for step, size in sizes.items() if step.startswith("COPY") and " /app" in step]
    assert len(code) == 2
    assert sum(code) < 40e6
    for folder in ("root/.cache/pip", "var/lib/apt/lists", "var/cache/apt/archives"):
        left = [file for layer in image.folders for file in (layer / folder).rglob("*") if file.is_file()]
        assert not [file for file in left if file.stat().st_size > 4096], folder


def test_it_runs_as_user_1000_without_rights_on_a_read_only_root(idle: Container) -> None:
    assert idle.output("id", "-u", "-n").strip() == "everymask"
    assert idle.output("sh", "-c", "echo $HOME").strip() == "/home/everymask"
    status = idle.output("cat", "/proc/self/status")
    assert "CapEff:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status
    for place in ("/app", "/opt/venv", "/opt/weights", "/etc"):
        assert "Read-only file system" in idle.run("touch", f"{place}/new").stderr
    idle.output("touch", "/tmp/new", "/home/everymask/new", "/dev/shm/new")


@pytest.mark.parametrize(
    "command", ["ssh -V", "rsync --version", "wget --version", "ps --version", "tini --version", "bash --version"]
)
def test_what_ray_and_kuberay_call_is_there(idle: Container, command: str) -> None:
    idle.output(*command.split())


def test_no_compiler_and_no_private_file_is_there(idle: Container) -> None:
    assert idle.run("sh", "-c", "command -v gcc cc make git").stdout == ""
    assert sorted(idle.output("ls", "-A", "/app").split()) == [
        "LICENSE",
        "README.md",
        "browse",
        "constraints.txt",
        "data_jobs",
        "everymask",
        "everymask.egg-info",
        "everymask_cli",
        "examples",
        "pyproject.toml",
        "serve",
        "ui",
    ]


def test_the_head_s_autoscaler_can_import_its_clouds(idle: Container) -> None:
    """Their modules are imported when a class is asked for; a login shell is what the launcher gives commands."""
    code = "from ray.autoscaler._private.providers import _get_node_provider_cls as get; "
    code += "print(get({'type': 'aws'}).__name__, get({'type': 'gcp'}).__name__)"
    printed = idle.output("bash", "--login", "-c", f'python -c "{code}"')
    assert printed.split() == ["AWSNodeProvider", "GCPNodeProvider"]


def test_a_job_labels_into_a_mounted_folder(image: Image, tmp_path: Path) -> None:
    """`docker run --read-only --tmpfs /tmp … IMAGE python data_jobs/label_dataset.py …`"""
    labels = tmp_path / "labels"
    labels.mkdir()
    os.chown(labels, 1000, 1000)
    command = ["python", "data_jobs/label_dataset.py", "--input", "examples/images", "--output", "/mnt/labels"]
    with Container(image, command, tmp_path, shared={labels: "/mnt"}) as container:
        printed = container.wait(3600)
    assert f"{PICTURES} images labelled" in printed
    assert [row.error for row in LabelStore(str(labels / "labels")).images()] == [None] * PICTURES
    assert (labels / "labels" / "preview" / "index.html").stat().st_uid == 1000


ASK = """
import json, sys, httpx
picture = open("/app/examples/images/astronaut.jpg", "rb")
answer = httpx.post(sys.argv[1], files={"image": picture}, timeout=600)
answer.raise_for_status()
print(len(answer.json()["masks"]))
"""


def test_service_and_page_answer_at_the_address_a_published_port_leads_to(image: Image, tmp_path: Path) -> None:
    service, page = f"http://{ADDRESS}:8000", f"http://{ADDRESS}:7860"
    with Container(image, ["everymask", "serve", "--config", "container"], tmp_path) as container:
        container.wait_until(
            lambda: container.run("wget", "-q", "-O-", f"{service}/-/healthz").returncode == 0, START_S
        )
        container.wait_until(
            lambda: container.run("python", "-c", ASK, f"{service}/v1/entities", timeout_s=700).returncode == 0, START_S
        )
        assert int(container.output("python", "-c", ASK, f"{service}/v1/entities")) > 0
        container.start("tini", "-s", "--", "python", "ui/app.py", "--host", "0.0.0.0", "--endpoint", service)
        container.wait_until(lambda: container.run("wget", "-q", "-O-", page).returncode == 0, START_S)
        assert "everymask" in container.output("wget", "-q", "-O-", page)


def ray_start(spec: dict[str, Any], more: dict[str, str]) -> list[str]:
    """The container command that KubeRay makes of a group's rayStartParams (its `BuildPod`)."""
    limits = spec["template"]["spec"]["containers"][0]["resources"]["limits"]
    parameters = {"block": "true", "memory": str(int(limits["memory"].removesuffix("Gi")) << 30)}
    parameters |= {"num-cpus": limits["cpu"], **spec["rayStartParams"], **more}
    flags = " ".join(
        f"--{name}" if value == "true" else f"--{name}={value}" for name, value in sorted(parameters.items())
    )
    head = "" if "address" in more else "--head "
    return ["/bin/bash", "-c", "--", f"ulimit -n ${{RAY_START_ULIMIT_OPEN_FILES:-65536}}; ray start {head}{flags}"]


def test_a_rayjob_runs_as_kuberay_would_start_it(image: Image, tmp_path: Path) -> None:
    """Head without CPUs, a worker, token authentication, the probe of the operator, the submitter's command."""
    manifest = Manifests("eks").ray["RayJob"]
    cluster = manifest["spec"]["rayClusterSpec"]
    small = {"object-store-memory": str(200 << 20)}
    head_ports = {"dashboard-agent-listen-port": "52365", "metrics-export-port": "8080"}
    worker_ports = {
        "dashboard-agent-listen-port": "52366",
        "metrics-export-port": "8081",
        "runtime-env-agent-port": "52367",
    }
    head = ray_start(cluster["headGroupSpec"], {**small, **head_ports})
    worker = ray_start(
        cluster["workerGroupSpecs"][0], {**small, **worker_ports, "address": f"{ADDRESS}:6379", "num-cpus": "4"}
    )
    dashboard = f"http://{ADDRESS}:8265"
    environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "RAY_worker_niceness": "0"}
    with Container(image, head, tmp_path, environment, entrypoint=False) as container:
        for port in ("52365",):
            probe = ["wget", "-q", "-O-", f"http://{ADDRESS}:{port}/api/healthz"]
            container.wait_until(
                lambda probe=probe: container.run("env", "-u", "RAY_AUTH_TOKEN", *probe).returncode == 0, START_S
            )
        container.start(*worker)
        nodes = ["ray", "list", "nodes", "--address", dashboard, "--filter", "state=ALIVE"]
        container.wait_until(lambda: container.run(*nodes).stdout.count("ALIVE") >= 2, START_S)
        stranger = container.run(
            "env", "-u", "RAY_AUTH_TOKEN", "ray", "job", "submit", "--address", dashboard, "--", "true"
        )
        assert stranger.returncode != 0
        entrypoint = manifest["spec"]["entrypoint"].split()[:2]
        job = [*entrypoint, "--input", "/app/examples/images", "--output", "/tmp/labels", "--actors", "1"]
        submitted = container.run("ray", "job", "submit", "--address", dashboard, "--", *job, timeout_s=3600)
        assert submitted.returncode == 0, submitted.stdout + submitted.stderr
        assert f"{PICTURES} images labelled" in submitted.stdout + submitted.stderr
