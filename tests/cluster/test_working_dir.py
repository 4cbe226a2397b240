"""What `ray job submit --working-dir .` uploads, computed with Ray's own packaging and this repository's .rayignore."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import pytest
from ray._private.runtime_env.packaging import create_package

REPOSITORY = Path(__file__).resolve().parents[2]
LIMIT_BYTES = 16 * 2**20


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive Ray makes of a clean copy of the tracked files, with what a user's folder has beside them."""
    copy = tmp_path_factory.mktemp("checkout")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, check=True).stdout
    for name in filter(None, tracked.decode().split("\0")):
        if (REPOSITORY / name).exists():
            target = copy / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(REPOSITORY / name)
    for name in ("sam_vit_h.pth", "weights/sam2.1.pt", "weights/own.safetensors", "heads/pets.safetensors"):
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_bytes(bytes(1000))
    archive = tmp_path_factory.mktemp("package") / "working_dir.zip"
    create_package(str(copy), archive, include_gitignore=True, include_parent_dir=False, excludes=[])
    return archive


def test_upload_holds_code_only(package: Path) -> None:
    with zipfile.ZipFile(package) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
    assert {name.split("/")[0] for name in names if "/" in name} == {
        *("everymask", "everymask_cli", "browse", "data_jobs", "serve", "ui", "heads")
    }
    assert "heads/pets.safetensors" in names, "what --head heads/pets.safetensors names goes along"
    assert "everymask/backbone/nano/weights/nano.safetensors" in names
    assert not [name for name in names if name.endswith((".pth", ".pt")) or "own.safetensors" in name]
    assert "everymask/classes/heads/everyday.safetensors" in names
    assert not [name for name in names if name.endswith((".png", ".jpg", ".parquet"))]
    assert {"everymask/__init__.py", "data_jobs/label_dataset.py", "everymask_cli/main.py", "pyproject.toml"} <= set(
        names
    )


def test_upload_is_small(package: Path) -> None:
    assert package.stat().st_size < LIMIT_BYTES


def test_what_gitignore_names_stays_behind_whatever_rayignore_says(tmp_path: Path) -> None:
    """Why .gitignore does not name heads/: a head that `--head` names would not go along."""
    folder = tmp_path / "folder"
    (folder / "heads").mkdir(parents=True)
    (folder / "heads/pets.safetensors").write_bytes(bytes(10))
    (folder / ".rayignore").write_text("!/heads/\n!/heads/*.safetensors\n")

    def uploaded(name: str) -> list[str]:
        create_package(str(folder), tmp_path / name, include_gitignore=True, include_parent_dir=False, excludes=[])
        with zipfile.ZipFile(tmp_path / name) as archive:
            return [name for name in archive.namelist() if name.endswith(".safetensors")]

    assert uploaded("before.zip") == ["heads/pets.safetensors"]
    (folder / ".gitignore").write_text("/heads/\n")
    assert uploaded("after.zip") == []
