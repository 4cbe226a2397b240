"""The image's recipe, linted: non-root, pinned, cached in the right order, nothing private in the build context."""

from __future__ import annotations

import fnmatch
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.cluster.image.dockerfile import Stage, parse

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / "cluster"


@pytest.fixture(scope="module")
def stages() -> dict[str, Stage]:
    return {stage.name: stage for stage in parse((FOLDER / "Dockerfile").read_text())}


@pytest.fixture(scope="module")
def ignored() -> list[str]:
    lines = (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def sources(stage: Stage) -> list[str]:
    """What the stage copies from the build context (not from another stage)."""
    copies = [arguments for arguments in stage.arguments("COPY") if "--from=" not in arguments]
    return [source for arguments in copies for source in arguments.split()[:-1]]


def test_python_is_one_the_project_supports(stages: dict[str, Stage]) -> None:
    text = (FOLDER / "Dockerfile").read_text()
    version = re.search(r"^ARG PYTHON_VERSION=(\d+\.\d+)$", text, re.MULTILINE)
    assert version is not None
    required = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["requires-python"]
    assert [int(part) for part in version[1].split(".")] >= [int(part) for part in required.strip(">=").split(".")]
    assert all("-slim" in stage.base for stage in stages.values() if stage.base.startswith("python:"))


def test_every_base_can_be_pinned_by_its_digest(stages: dict[str, Stage]) -> None:
    outside = [stage.base for stage in stages.values() if stage.base not in stages]
    assert outside
    assert all(base.endswith("${PYTHON_DIGEST:+@${PYTHON_DIGEST}}") for base in outside)
    make = (REPOSITORY / "Makefile").read_text()
    version = re.search(r"^ARG PYTHON_VERSION=(\S+)$", (FOLDER / "Dockerfile").read_text(), re.MULTILINE)
    assert version is not None
    assert "--build-arg PYTHON_DIGEST=" in make
    assert f"inspect python:{version[1]}-slim-bookworm" in make


def test_image_runs_as_a_numbered_user(stages: dict[str, Stage]) -> None:
    users = stages["run"].arguments("USER")
    assert users == ["1000:1000"], "Kubernetes' runAsNonRoot needs a number to judge by"
    steps = [name for name, _ in stages["run"].steps]
    assert "RUN" not in steps[steps.index("USER") :]


def test_each_layer_depends_on_no_more_than_it_is_made_of(stages: dict[str, Stage]) -> None:
    """A change of code must ship neither the environment nor the weights anew."""
    assert sources(stages["environment"]) == ["pyproject.toml", "constraints.txt"]
    assert stages["weights"].base == stages["code"].base == "environment"
    needed = {source for source in sources(stages["weights"]) if source.endswith(".py")}
    assert set(sources(stages["weights"])) == needed
    copies = [text.split()[0] for text in stages["run"].arguments("COPY") if "--from=" in text]
    assert copies == ["--from=environment", "--from=weights", "--from=code"], "what changes most comes last"


def test_the_weights_layer_has_all_that_downloading_imports(stages: dict[str, Stage], tmp_path: Path) -> None:
    for source in sources(stages["weights"]):
        (tmp_path / source).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / source, tmp_path / source)
    script = "from everymask.backbone.weights import model_weights; print(model_weights.__module__)"
    result = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_the_code_alone_is_small(stages: dict[str, Stage]) -> None:
    packages = [REPOSITORY / source for source in sources(stages["code"]) if (REPOSITORY / source).is_dir()]
    files = [path for package in packages for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert 0 < sum(path.stat().st_size for path in files) < 20e6


def test_layers_made_again_are_the_same(stages: dict[str, Stage]) -> None:
    """Bytecode that holds its source's time, or files with today's, would make 7 GB new for every node."""
    for name in ("environment", "code"):
        (made,) = [command for command in stages[name].arguments("RUN") if "pip install" in command]
        assert "--invalidation-mode unchecked-hash" in made
        assert "--date=@0" in made
    assert "PIP_NO_COMPILE=1" in stages["environment"].arguments("ENV")[0]


def test_versions_are_pinned_and_lists_removed(stages: dict[str, Stage]) -> None:
    for stage in stages.values():
        for command in stage.arguments("RUN"):
            if "pip install" in command:
                assert "--constraint constraints.txt" in command or "--no-deps" in command
            if "apt-get install" in command:
                assert "--no-install-recommends" in command
                assert "rm -rf /var/lib/apt/lists/*" in command
        assert not any(":latest" in stage.base for stage in stages.values())


def test_no_compiler_is_needed(stages: dict[str, Stage]) -> None:
    """Every pinned version comes as a wheel; a compiler would double the image and hide a version that does not."""
    commands = [command for stage in stages.values() for command in stage.arguments("RUN")]
    assert not any("build-essential" in command or "gcc" in command for command in commands)


def test_final_image_holds_what_ray_and_kuberay_call(stages: dict[str, Stage]) -> None:
    installed = " ".join(stages["run"].arguments("RUN"))
    assert {"wget", "rsync", "tini", "openssh-client"} <= set(installed.split())
    assert "/etc/profile.d/" in installed, "the launcher's login shells forget ENV PATH"


def test_every_source_exists_and_reaches_the_build(stages: dict[str, Stage], ignored: list[str]) -> None:
    assert ignored[0] == "*"
    let_in = {line[1:] for line in ignored if line.startswith("!")}
    for stage in stages.values():
        for source in sources(stage):
            assert source.split("/")[0] in let_in, source
            assert (REPOSITORY / source).exists(), source


def test_nothing_private_reaches_the_build(ignored: list[str]) -> None:
    let_in = [line[1:] for line in ignored if line.startswith("!")]
    for private in (".git", ".venv", "runs", "tests", ".env", "id_rsa"):
        assert not any(fnmatch.fnmatch(private, pattern) for pattern in let_in)


def test_packages_of_the_project_are_all_copied(stages: dict[str, Stage]) -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    packages = project["tool"]["setuptools"]["packages"]["find"]["include"]
    assert {package.partition(".")[0].rstrip("*") for package in packages} <= set(sources(stages["code"]))
