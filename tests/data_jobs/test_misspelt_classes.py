"""A class that nothing shows is said before anything is embedded."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_jobs.train_classes import command
from tests.classes.exemplars.pictures import picture_file


@pytest.mark.parametrize(
    ("classes", "problem"),
    [
        ("cat,dgo", "class dgo has no exemplar; did you mean dog?"),
        ("pets=cat+horse", "horse (class pets) has no exemplar"),
    ],
)
def test_a_misspelt_class_is_refused_at_once(
    tmp_path: Path, classes: str, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, name in enumerate(("cat", "dog")):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        (tmp_path / "pictures" / name / "1.jpg").write_bytes(picture_file(number))
    words = [
        "--exemplars",
        str(tmp_path / "pictures"),
        "--classes",
        classes,
        "--output",
        str(tmp_path / "x.safetensors"),
    ]
    assert command(words) == 2
    assert problem in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_dir()) == ["cat", "dog", "pictures"]
