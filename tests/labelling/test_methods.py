"""A method is a row and a module: one that is added here labels, is recorded, and is refused what it cannot use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data_jobs.labelling.labeller import load_model
from data_jobs.labelling.model_spec import ModelSpec
from everymask.backbone.registry import load_backbone
from everymask.errors import ConfigurationError
from everymask.images.decoding import ImageLimits
from everymask.labelling.config import LabelConfig
from everymask.labelling.label import label_images
from everymask.labelling.methods import table
from everymask.labelling.methods.table import METHODS, MethodRow, check_given
from everymask.labelling.settings import label_settings
from everymask.records import ImageLabels
from tests.labelling.squares import LOADED


@pytest.fixture
def squares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "METHODS", {**METHODS, "squares": MethodRow("tests.labelling.squares")})


def test_a_method_is_added_in_one_place(squares: None) -> None:
    image = np.zeros((40, 60, 3), np.uint8)
    config = LabelConfig("squares")
    (labels,) = label_images(load_backbone("nano"), [image], config)
    assert isinstance(labels, ImageLabels)
    assert [mask.area for mask in labels.masks] == [16]
    (small,) = label_images(load_backbone("nano"), [image], LabelConfig("squares", min_region_area=17))
    assert isinstance(small, ImageLabels)
    assert small.masks == ()
    (tiled,) = label_images(load_backbone("nano"), [image], LabelConfig("squares", tiles=2))
    assert isinstance(tiled, ImageLabels)
    assert len(tiled.masks) >= 2
    assert label_settings(config, "nano", "a")["method"] == "squares"
    load_model(ModelSpec("nano", None, None, "cpu", config, ImageLimits(), threads=1))
    assert set(LOADED) == {"cpu"}


@pytest.mark.parametrize(
    ("method", "given", "problem"),
    [
        ("squares", {}, "method 'squares' is unknown; use entities, classes, clip, concepts, amg"),
        ("entities", {"head": True}, "a class head is of no use to method entities"),
        ("classes", {"head": True, "names": True}, "names are of no use to method classes"),
        ("classes", {}, "make one with `everymask train classes`, then --head FILE"),
        ("clip", {}, "--names cat,dog"),
    ],
)
def test_what_a_method_needs_is_asked_for_and_nothing_else_is_taken(
    method: str, given: dict[str, bool], problem: str
) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        check_given(method, **{"head": False, "names": False, **given})


def test_every_row_has_its_module(tmp_path: Path) -> None:
    for row in METHODS.values():
        assert callable(row.implementation().segment)
