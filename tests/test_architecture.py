"""The folder tree is the dependency graph: arrows point one way."""

from __future__ import annotations

import ast
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import everymask

REPOSITORY = Path(__file__).resolve().parent.parent
FORBIDDEN = {
    "browse": {"ray", "gradio", "torch", "data_jobs", "serve", "everymask_cli"},
    "everymask": {"ray", "fastapi", "gradio", "starlette", "browse", "data_jobs", "serve", "ui", "everymask_cli"},
    "data_jobs": {"browse", "serve", "ui", "gradio", "fastapi", "everymask_cli"},
    "serve": {"browse", "data_jobs", "ui", "gradio", "everymask_cli"},
    "ui": {"everymask", "browse", "data_jobs", "serve", "ray", "torch", "everymask_cli"},
}


def imported_packages(source: Path) -> set[str]:
    """Top-level packages a file imports anywhere, including inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module)
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("folder", sorted(FORBIDDEN))
def test_no_arrow_points_back(folder: str) -> None:
    sources = list((REPOSITORY / folder).rglob("*.py"))
    assert sources
    offenders = {
        str(source.relative_to(REPOSITORY)): sorted(found)
        for source in sources
        if (found := imported_packages(source) & FORBIDDEN[folder])
    }
    assert not offenders


def test_what_tests_share_lies_in_modules_that_hold_no_test() -> None:
    borrowing = re.compile(r"^\s*(?:from|import) tests(?:\.\w+)*\.test_\w+", re.MULTILINE)
    sources = sorted((REPOSITORY / "tests").rglob("*.py"))
    assert [source.name for source in sources if borrowing.search(source.read_text(encoding="utf-8"))] == []


def room(module: str) -> str:
    """The folder or file below everymask/ that a module lies in: `everymask.masks.rle` → `masks/`."""
    name = module.split(".")[1]
    return f"{name}/" if (REPOSITORY / "everymask" / name).is_dir() else f"{name}.py"


def test_every_room_of_the_library_imports_only_rooms_below_it() -> None:
    """The table of docs/architecture.md lists them from the top down, within a row from left to right."""
    text = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    (arrows,) = re.findall(r"^## Arrows$(.*?)^## ", text, re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^\| (`[^|]+`) \|", arrows, re.MULTILINE)
    height = {name: -index for index, name in enumerate(re.findall(r"`([^`]+)`", " ".join(rows)))}
    library = REPOSITORY / "everymask"
    there = {f"{path.name}/" for path in library.iterdir() if (path / "__init__.py").exists()}
    there |= {path.name for path in library.glob("*.py")} - {"__init__.py"}
    assert set(height) == there
    upward = set()
    for source in sorted(library.rglob("*.py")):
        importer = ".".join(source.relative_to(REPOSITORY).with_suffix("").parts)
        if importer == "everymask.__init__":
            continue
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("everymask."):
                here, imported = room(importer), room(str(node.module))
                if here != imported and height[imported] >= height[here]:
                    upward.add(f"{source.relative_to(REPOSITORY)} imports {node.module}")
    assert not upward


def test_importing_the_whole_library_loads_no_ray_http_or_gradio() -> None:
    modules = [module.name for module in pkgutil.walk_packages(everymask.__path__, "everymask.")]
    assert len(modules) > 10
    script = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "print(sorted({'ray', 'fastapi', 'gradio', 'starlette'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_the_driver_of_a_labelling_run_loads_no_model_code() -> None:
    """It describes work that others do; torch alone would be half a GiB of its memory."""
    script = "import sys, data_jobs.label_dataset\nprint(sorted({'torch', 'torchvision'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_an_export_loads_neither_ray_nor_model_code() -> None:
    """Each of its processes would take half a GiB more, and seconds to start."""
    script = (
        "import sys, data_jobs.export_labels\n"
        "print(sorted({'ray', 'scipy', 'torch', 'torchvision'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_importing_the_front_door_loads_no_model_code() -> None:
    script = (
        "import sys, everymask\n"
        "assert 'label' in dir(everymask)\n"
        "print(sorted({'torch', 'numpy', 'ray', 'pyarrow'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
