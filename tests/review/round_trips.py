"""Exports for tools, as a person sends them back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from everymask.labels.store import LabelStore
from everymask.review.reviewed import EditingFormat
from tests.formats.exporting import run_export

SUFFIX = {"label-studio": ".json", "coco": ".json", "cvat": ".xml", "x-anylabeling": "", "labelme": ""}


def change_json(path: Path, change: Callable[[Any], Any]) -> None:
    """Rewrite a JSON file, or every one of a folder."""
    for file in [path] if path.is_file() else [file for file in path.rglob("*.json") if file.name[0] != "."]:
        content = json.loads(file.read_text())
        file.write_text(json.dumps(change(content) or content, indent=2))


def submit(path: Path, tool: EditingFormat) -> None:
    """What a person does who looks at every image and changes nothing."""

    def label_studio(tasks: Any) -> None:
        for number, task in enumerate(tasks):
            (prediction,) = task.pop("predictions")
            task |= {
                "id": number,
                "annotations": [{"completed_by": {"email": "a@b.c"}, "result": prediction["result"]}],
            }
            task["annotations"][0] |= {"was_cancelled": False, "updated_at": "2026-11-26T00:00:00Z"}

    if tool == "label-studio":
        change_json(path, label_studio)
    elif tool == "x-anylabeling":
        change_json(path, lambda content: content | {"checked": True})
    elif tool == "labelme":
        change_json(path, lambda content: content | {"flags": {"reviewed": True}})


def export_for(store: LabelStore, tool: EditingFormat, folder: Path, segmentation: str = "", **request: Any) -> Path:
    """An export for a tool."""
    output = folder / f"out{SUFFIX[tool]}"
    run_export(store, tool, output, segmentation or None, request.pop("tolerance_px", None), **request)
    return output
