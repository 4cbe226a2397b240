"""What is installed from a wheel, away from the checkout, is all that the commands need."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
WEIGHTS = ("everymask/backbone/nano/weights/nano.safetensors", "everymask/classes/heads/everyday.safetensors")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that an installation of the wheel would fill, its dependencies left to this environment."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(REPOSITORY)]
    subprocess.run(pip, check=True, cwd=folder)
    (wheel,) = folder.glob("everymask-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def everymask(installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The console command, found in the installation and nowhere else."""
    script = "import sys; from everymask_cli.main import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-P", "-c", script, *arguments],
        cwd=installed.parent,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
    )


def test_it_carries_weights_a_head_configurations_and_the_page(installed: Path) -> None:
    for name in ("serve/config/local.yaml", "ui/static/viewer.js", *WEIGHTS):
        assert (installed / name).is_file(), name
    assert not (installed / "tests").exists()


def test_the_front_door_opens(installed: Path) -> None:
    photo = REPOSITORY / "examples" / "images" / "cat.webp"
    script = f"import everymask; print(everymask.__file__, len(everymask.label({str(photo)!r}).masks))"
    answer = subprocess.run(
        [sys.executable, "-P", "-c", script],
        cwd=installed.parent,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert answer[0].startswith(str(installed))
    assert int(answer[1]) > 0


@pytest.mark.ray
def test_a_folder_is_labelled(installed: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "cat.webp").symlink_to(REPOSITORY / "examples" / "images" / "cat.webp")
    output = tmp_path / "labels"
    result = everymask(installed, "label", "--input", str(photos), "--output", str(output), "--method", "amg")
    assert result.returncode == 0, result.stderr
    assert "1 image labelled" in result.stdout
    assert (output / "preview" / "index.html").is_file()


def test_a_service_starts_from_its_shipped_configuration(installed: Path) -> None:
    result = everymask(installed, "serve", "--config", "absent")
    assert result.returncode == 2
    assert "give one of container, gpu, local" in result.stderr
