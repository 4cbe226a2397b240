from __future__ import annotations

import itertools
import zlib
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from everymask.backbone.nano.encoder import ConvEncoder, EncoderConfig
from everymask.backbone.nano.semantics import SemanticsConfig
from everymask.evaluation.ground_truth import AnnotatedPicture, PictureReference
from everymask.nano_training import loop, semantics
from everymask.nano_training.matching import TARGET_CHANNELS
from everymask.nano_training.semantics import (
    SemanticTrainingConfig,
    random_crop,
    train_semantics,
    write_shards,
)
from everymask.nano_training.teacher import Teacher
from tests.nano_training.random_teacher import write_random_teacher

CHANNELS = (8, 12, 16, 20)
CONFIG = SemanticTrainingConfig(views=2, crop_px=64, longest_side=(64, 128), batch=4)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    return Teacher(write_random_teacher(tmp_path_factory.mktemp("teacher") / "teacher.safetensors"))


@pytest.fixture(scope="module")
def encoder() -> ConvEncoder:
    torch.manual_seed(0)
    return ConvEncoder(EncoderConfig(8, CHANNELS, (1, 1, 1, 1), 8)).eval()


def picture(image: NDArray[np.uint8], name: str = "picture") -> AnnotatedPicture:
    return AnnotatedPicture(name, image, (), complete=False)


def references(count: int) -> list[PictureReference]:
    images = np.random.default_rng(0).integers(0, 256, size=(count, 12, 9, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
    return [PictureReference(f"p/{i}", partial(picture, image, f"p/{i}")) for i, image in enumerate(images)]


def shard_of(
    folder: Path, encoder: ConvEncoder, teacher: Teacher, config: SemanticTrainingConfig, pictures: int = 3
) -> list[Path]:
    return write_shards(references(pictures), folder, encoder, teacher, config, 0, lambda done: None)


@pytest.mark.parametrize("size", [(90, 120), (1, 1), (3000, 2), (64, 64)])
def test_a_crop_is_square_whatever_the_picture(size: tuple[int, int]) -> None:
    image = np.full((*size, 3), 200, dtype=np.uint8)
    for seed in range(4):
        crop = random_crop(picture(image), replace(CONFIG, jitter=0), np.random.default_rng(seed))
        assert crop.shape == (64, 64, 3)
        assert set(np.unique(crop)) <= {127, 200}
        assert (crop == 200).any()


def test_a_filled_crop_lies_inside_the_picture_and_others_may_not() -> None:
    image = np.full((90, 200, 3), 200, dtype=np.uint8)
    filled, loose = (
        [
            random_crop(picture(image), replace(CONFIG, jitter=0, filled_share=share, stretch=0), rng)
            for rng in map(np.random.default_rng, range(8))
        ]
        for share in (1.0, 0.0)
    )
    assert all((crop == 200).all() for crop in filled)
    assert any((crop == 127).any() for crop in loose)


def test_crops_show_the_picture_at_the_scale_that_was_drawn() -> None:
    """A ramp over a picture of 200 px at a longest side of 100 px rises twice as fast."""
    ramp = np.broadcast_to(np.arange(200, dtype=np.uint8)[None, :, None], (200, 200, 3))
    config = replace(CONFIG, longest_side=(100, 100), stretch=0, jitter=0)
    starts = set()
    for seed in range(6):
        crop = random_crop(picture(ramp), config, np.random.default_rng(seed)).astype(int)
        assert abs(crop[5, 50, 0] - crop[5, 10, 0]) == pytest.approx(80, abs=3)
        starts.add((int(crop[5].min()), bool(crop[5, 50, 0] > crop[5, 10, 0])))
    assert len({start for start, _ in starts}) > 1
    assert len({rising for _, rising in starts}) == 2


def test_shards_hold_the_maps_of_every_view(tmp_path: Path, encoder: ConvEncoder, teacher: Teacher) -> None:
    told: list[int] = []
    paths = write_shards(references(3), tmp_path, encoder, teacher, CONFIG, 0, told.append)
    assert told == [3, 6]
    assert sorted(paths) == sorted(tmp_path.iterdir())
    shard = torch.load(paths[0])
    assert {name: tuple(maps.shape) for name, maps in shard.items()} == {
        "encoder8": (3, 8, 8, CHANNELS[1]),
        "encoder16": (3, 4, 4, CHANNELS[2]),
        "encoder32": (3, 2, 2, CHANNELS[3]),
        "stride16": (3, 4, 4, TARGET_CHANNELS[1]),
        "stride32": (3, 2, 2, TARGET_CHANNELS[2]),
    }
    assert {maps.dtype for maps in shard.values()} == {torch.float16}
    reference = references(3)[1]
    crop = random_crop(reference.read(), CONFIG, np.random.default_rng([0, zlib.crc32(b"p/1"), 0]))
    pixels = torch.from_numpy(crop.copy()).permute(2, 0, 1)[None].float()
    with torch.inference_mode():
        expected, features = teacher(pixels).stride32, encoder(pixels).features
    torch.testing.assert_close(shard["stride32"][1:2].permute(0, 3, 1, 2).float(), expected, atol=1e-2, rtol=1e-2)
    torch.testing.assert_close(shard["encoder16"][1:2].permute(0, 3, 1, 2).float(), features[2], atol=0.1, rtol=0.1)


def test_shards_that_are_there_are_kept_and_others_are_not_mistaken_for_them(
    tmp_path: Path, encoder: ConvEncoder, teacher: Teacher
) -> None:
    paths = shard_of(tmp_path, encoder, teacher, CONFIG)
    stamps = [path.stat().st_mtime_ns for path in paths]
    longer = shard_of(tmp_path, encoder, teacher, replace(CONFIG, views=3))
    assert longer[:2] == paths
    assert [path.stat().st_mtime_ns for path in paths] == stamps
    assert set(shard_of(tmp_path, encoder, teacher, replace(CONFIG, stretch=0.2))).isdisjoint(longer)
    assert set(shard_of(tmp_path, encoder, teacher, CONFIG, pictures=2)).isdisjoint(longer)


def test_places_are_classified_one_by_one() -> None:
    maps = torch.arange(2 * 3 * 2 * 2).view(2, 3, 2, 2)
    apart = semantics._apart(maps, torch.tensor([3, 0]))
    assert apart.shape == (4, 3, 1, 1)
    assert torch.equal(apart[0, :, 0, 0], maps[0, :, 1, 1])
    assert torch.equal(apart[1, :, 0, 0], maps[0, :, 0, 0])
    assert torch.equal(apart[2, :, 0, 0], maps[1, :, 1, 1])


def test_the_branch_learns_and_goes_on_where_it_stopped(
    tmp_path: Path, encoder: ConvEncoder, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Minutes of a clock that advances when it is read: as many steps on a busy machine as on an idle one.
    ticks = itertools.count()
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: next(ticks) / 100))
    paths = shard_of(tmp_path / "shards", encoder, teacher, CONFIG)
    rows: list[Mapping[str, Any]] = []

    def run(minutes: float) -> dict[str, torch.Tensor]:
        branch = train_semantics(
            paths, teacher, SemanticsConfig(16, 1), CHANNELS, CONFIG, minutes, tmp_path / "state.pt", rows.append, 0
        )
        assert not branch.training
        return branch.state_dict()

    run(0.03)
    trained = run(0.1)
    steps = [row["step"] for row in rows]
    assert steps == sorted(steps)
    for name in ("stride16", "stride32", "classes"):
        assert rows[-1][name] < 0.9 * rows[0][name], (name, rows)
    before = steps[-1]
    again = run(0.1)  # The minutes are used up.
    assert rows[-1]["step"] == before
    assert all(torch.equal(tensor, again[name]) for name, tensor in trained.items())
