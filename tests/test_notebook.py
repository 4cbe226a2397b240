"""The notebook, run as it stands, in another folder: it finds the classes that it teaches."""

from __future__ import annotations

import ast
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import everymask
from everymask.errors import ConfigurationError, InputError

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def run_cells(notebook: Path) -> dict[str, Any]:
    """The names that its cells leave. The last expression of a cell is shown, as a notebook does it."""
    names: dict[str, Any] = {}
    for cell in json.loads(notebook.read_text())["cells"]:
        if cell["cell_type"] != "code":
            continue
        body = ast.parse("".join(cell["source"])).body
        last = body.pop() if isinstance(body[-1], ast.Expr) else None
        exec(compile(ast.Module(body, []), notebook.name, "exec"), names)
        if isinstance(last, ast.Expr):
            shown = eval(compile(ast.Expression(last.value), notebook.name, "eval"), names)
            picture = getattr(shown, "_repr_png_", None)
            assert picture()[:4] == b"\x89PNG" if picture else repr(shown)
    return names


def test_it_goes_from_one_picture_to_classes_that_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "examples").symlink_to(EXAMPLES)
    monkeypatch.chdir(tmp_path)
    names = run_cells(EXAMPLES / "first_class.ipynb")
    found = Counter(mask.class_name for mask in names["found"].masks if mask.score > 0.5)
    assert found["triangle"] == 2
    assert found["coin"] >= 5  # 7 or 8 where the CPU has no bf16, 10 and more where it has


def test_pictures_that_teach_nothing_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="name at least one"):
        everymask.train_classes({})
    with pytest.raises(ConfigurationError, match="cat"):
        everymask.train_classes({"cat": []})
    with pytest.raises(InputError, match=r"absent\.jpg cannot be read"):
        everymask.train_classes({"cat": [tmp_path / "absent.jpg"]})
