"""Runs over an output, opened without a worker."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from PIL import Image

from data_jobs.label_dataset import command as label
from data_jobs.labelling.attempts import Earlier, Run
from data_jobs.labelling.config import LabelDatasetConfig
from data_jobs.labelling.model_files import ModelFiles
from data_jobs.labelling.model_spec import ModelFacts
from data_jobs.labelling.run_configuration import run_configuration
from everymask.labels.rows import to_table
from everymask.labels.store import LabelStore, PartSummary
from tests.formats.shapes import sha256_of
from tests.labels.examples import images

FACTS = ModelFacts("nano", "cpu", "a" * 64, None, None)
HELD = PartSummary(images=3, errors=1, masks=2, seconds=0.75)


def config(folder: Path, *more: str) -> LabelDatasetConfig:
    found = label.parse(["--input", str(folder / "in"), "--output", str(folder / "out"), *more])
    assert isinstance(found, LabelDatasetConfig)
    return found


def opened(folder: Path, *more: str, facts: ModelFacts = FACTS) -> Run:
    """A run that knows its model, over what is in the output."""
    of = config(folder, *more)
    store = LabelStore(of.store.output)
    configuration = run_configuration(of.input, of.label_config(), facts, of.limits, of.sources)
    return Run.open(
        "label", of, store, Earlier.read(of.store, store, configuration, ModelFiles.of(of)), configuration, "cpu"
    )


def labelled(run: Run) -> None:
    """Three rows, two of them with a picture that is there."""
    folder = Path(run.record.config["input"])
    rows = []
    for image in images():
        path = folder / image.image_id
        path.parent.mkdir(parents=True, exist_ok=True)
        if image.labels is not None:
            Image.new("RGB", (image.labels.size_hw[1], image.labels.size_hw[0]), "red").save(path)
        digest = sha256_of(path) if path.is_file() else None
        rows.append(replace(image, uri=str(path), content_sha256=digest))
    run.store.write_part(to_table(rows), run.record.config)
