from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from everymask.classes.exemplars.diffusion import DiffusionConfig, PictureGenerator, planned_pictures
from everymask.classes.exemplars.queries import Queries
from everymask.classes.taxonomy import Taxonomy
from everymask.errors import ConfigurationError
from everymask.images.decoding import decode_image
from tests.classes.exemplars.tiny_diffusion import save_tiny_pipeline


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> DiffusionConfig:
    model = save_tiny_pipeline(tmp_path_factory.mktemp("model"))
    return DiffusionConfig(model=str(model), num_inference_steps=2, size_px=32, images_per_subject=3, first_seed=7)


@pytest.fixture(scope="module")
def generator(config: DiffusionConfig) -> PictureGenerator:
    return PictureGenerator(config, "cpu")


def test_every_picture_of_a_run_is_planned_with_its_prompt_and_seed(config: DiffusionConfig) -> None:
    queries = Queries({"cat": ("cat",), "chair": ("armchair", "office chair")})
    plan = planned_pictures(Taxonomy.parse("animals=bird+cat,chair"), config, queries)
    assert [(origin.subject, origin.seed) for origin in plan] == [
        (subject, seed) for subject in ("bird", "cat", "chair") for seed in (7, 8, 9)
    ]
    assert plan[3].prompt == "a photo of a cat"
    assert [origin.prompt.removeprefix("a photo of a ") for origin in plan[6:]] == [
        "armchair",
        "office chair",
        "armchair",
    ]
    assert len({origin.key for origin in plan}) == len(plan)


def test_a_picture_is_made_from_its_own_seed_whatever_else_is_in_the_batch(generator: PictureGenerator) -> None:
    alone = decode_image(generator(["a photo of a cat"], [5])[0])
    both = [decode_image(data) for data in generator(["a photo of a dog", "a photo of a cat"], [4, 5])]
    other = decode_image(generator(["a photo of a cat"], [6])[0])
    assert alone.shape == (32, 32, 3)
    # A batch may round differently in the last bit.
    assert np.abs(alone.astype(int) - both[1]).max() <= 4
    assert np.abs(alone.astype(int) - other).max() > 16


def test_the_prompt_reaches_the_model(generator: PictureGenerator) -> None:
    cat, dog = (decode_image(generator([f"a photo of a {name}"], [1])[0]) for name in ("cat", "zzzzzzzz"))
    assert not np.array_equal(cat, dog)


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigurationError, match="empty cannot be loaded"):
        PictureGenerator(DiffusionConfig(model=str(tmp_path / "empty")), "cpu")


@pytest.mark.parametrize(
    "bad", [{"prompt": "a photo"}, {"images_per_subject": 0}, {"size_px": 30}, {"num_inference_steps": 0}]
)
def test_settings_that_cannot_work_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(bad))):
        DiffusionConfig(**bad)
