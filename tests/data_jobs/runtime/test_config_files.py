"""Values of a configuration file mean what they look like."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_jobs.label_dataset import command


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("actors: 1:16", "workers.actors", "1:16"),  # 76 by YAML 1.1
        ("max_errors: 012", "store.max_errors", "012"),  # 10 by YAML 1.1
        ("max_errors: 50%", "store.max_errors", "50%"),
        ("input: no", "input", "no"),
        (
            "method: classes\nhead: everyday\nclasses: {nms_iou_thresh: 1e-05}",
            "labels.classes.nms_iou_thresh",
            1e-05,
        ),  # text by YAML 1.1
        ("limit: null", "limit", None),
        ("verify: true", "store.verify", True),
        ("method: clip\nclass_names: cat,dog", "names", "cat,dog"),  # as it was called
    ],
)
def test_plain_values_are_not_turned_into_others(line: str, name: str, value: object, tmp_path: Path) -> None:
    file = tmp_path / "label.yaml"
    required = [text for text in ("input: photos", "output: labels") if text.split(":")[0] != line.split(":")[0]]
    file.write_text("\n".join([*required, line]))
    found: object = command.parse(["--config", str(file)])
    for part in name.split("."):
        found = getattr(found, part)
    assert found == value
