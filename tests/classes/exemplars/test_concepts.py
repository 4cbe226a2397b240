"""Exemplars cut out where a model that answers names is sure, with a stand-in whose errors are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from everymask.classes.config import ConceptsConfig
from everymask.classes.exemplars.concepts import SURE, concept_pictures
from everymask.classes.taxonomy import Taxonomy
from everymask.errors import ConfigurationError
from everymask.images.decoding import ImageLimits, decode_image
from everymask.masks.rle import encode_mask
from everymask.research.oracle.concepts import ConceptErrors, NamedScene, OracleConcepts

COLOURS = {"cherry": (200, 20, 40), "lime": (60, 200, 40)}


def write_scenes(folder: Path, count: int = 8) -> list[NamedScene]:
    """Pictures of a cherry and a lime each, in flat colours on grey."""
    scenes = []
    for index in range(count):
        image = np.full((90, 160, 3), 128, np.uint8)
        objects = []
        for name, left in (("cherry", 10 + index), ("lime", 90 + index)):
            mask = np.zeros(image.shape[:2], np.bool_)
            mask[20:60, left : left + 40] = True
            image[mask] = COLOURS[name]
            objects.append((name, encode_mask(mask)))
        path = folder / f"{index}.png"
        Image.fromarray(image).save(path)
        scenes.append(NamedScene(decode_image(path.read_bytes()), tuple(objects)))
    return scenes


def cut(
    folder: Path, errors: ConceptErrors, scenes: list[NamedScene], classes: str = "cherry,lime"
) -> list[tuple[str, float]]:
    """The subject of every exemplar, and the share of it that has the subject's colour."""
    config = ConceptsConfig(score_thresh=SURE)
    found = concept_pictures(
        OracleConcepts(scenes, errors), folder, Taxonomy.parse(classes), config, 0.0, ImageLimits()
    )
    shares = []
    for origin, data in found:
        assert origin.source == "concepts"
        assert "#xyxy=" in origin.url
        pixels = decode_image(data).astype(int)
        near = np.abs(pixels - np.array(COLOURS[origin.subject])).max(axis=2) < 30
        shares.append((origin.subject, float(near.mean())))
    return shares


def test_what_a_model_is_sure_of_is_cut_out(tmp_path: Path) -> None:
    scenes = write_scenes(tmp_path)
    shares = cut(tmp_path, ConceptErrors(), scenes)
    assert sorted(name for name, _ in shares) == ["cherry"] * 8 + ["lime"] * 8
    assert min(share for _, share in shares) > 0.9
    # What another name claims is less sure, and is not cut out; of what is lost there is no exemplar.
    with_errors = cut(tmp_path, ConceptErrors(lost=0.4, taken=1.0, unsure=0.6), scenes)
    assert 4 < len(with_errors) < 16
    assert min(share for _, share in with_errors) > 0.9


def test_a_subject_that_is_nowhere_is_named_and_a_damaged_picture_is_left_out(tmp_path: Path) -> None:
    scenes = write_scenes(tmp_path, 2)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(ConfigurationError, match=r"no pear was found in .* with a score of 0.8 or more"):
        cut(tmp_path, ConceptErrors(), scenes, "cherry,lime,pear")
