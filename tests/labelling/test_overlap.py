"""Several images in work at once give the labels of one after the other, in order, within bounds."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from everymask.backbone.protocol import ImageEmbedding, PromptableBackbone, PromptMasks
from everymask.backbone.sam import SamBackbone
from everymask.entities.config import AmgConfig, EntityConfig
from everymask.errors import ConfigurationError, InputError, ModelOutputError, UnforeseenError
from everymask.images.decoding import decode_image
from everymask.images.difference_hash import difference_hash
from everymask.labelling import overlap
from everymask.labelling.config import LabelConfig
from everymask.labelling.label import ImageLabeller, label_images
from everymask.labelling.overlap import File, FileLabels, OverlappedLabeller, images_at_once
from everymask.records import ImageLabels
from tests.entities.scripted import Reply, ScriptedBackbone, painted, rectangle

AMG = LabelConfig("amg", amg=AmgConfig(points_per_side=4, pred_iou_thresh=0, stability_score_thresh=0))
SIZE = (12, 16)
ENTITIES = LabelConfig(entities=EntityConfig(points_per_side=4, gallery_points_per_side=4))
WAIT_S = 30.0


def png(size_wh: tuple[int, int], seed: int = 0) -> bytes:
    return encoded(np.random.default_rng(seed).integers(0, 255, (size_wh[1], size_wh[0], 3), np.uint8))


def encoded(pixels: NDArray[np.uint8]) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def marked(value: int) -> bytes:
    """A picture of the scripted size that a backbone recognises by its first pixel."""
    return encoded(np.full((*SIZE, 3), value, dtype=np.uint8))


def found(labeller: OverlappedLabeller, groups: Iterable[Sequence[File]]) -> list[FileLabels]:
    return [file for group in labeller.label(groups) for file in group]


@pytest.mark.parametrize("at_once", [0, 1, 2, 4])
def test_labels_are_those_of_one_after_the_other_and_in_order(tiny_sam: SamBackbone, at_once: int) -> None:
    files = [png((20 + 7 * seed, 40 - 3 * seed), seed) for seed in range(7)]
    groups: list[list[File]] = [files[:2], [files[2], InputError("lost")], [b"noise"], files[3:5], files[5:]]
    answers = found(OverlappedLabeller(tiny_sam, ImageLabeller(AMG), together=2, at_once=at_once), groups)
    labels = [one.result.labels for one in answers]
    expected = [
        *label_images(tiny_sam, [decode_image(file) for file in files[:2]], AMG),
        *label_images(tiny_sam, [decode_image(files[2])], AMG),
        *label_images(tiny_sam, [decode_image(file) for file in files[3:5]], AMG),
        *label_images(tiny_sam, [decode_image(file) for file in files[5:]], AMG),
    ]
    assert [one for one in labels if isinstance(one, ImageLabels)] == expected
    assert [str(one) for one in labels[3:5]] == ["lost", "not an image in a known format (it starts with b'noise')"]
    assert answers[0].dhash == difference_hash(decode_image(files[0]))
    assert answers[3].dhash is None
    assert all(one.spent.device > 0 and one.spent.decode > 0 for one in (answers[0], answers[-1]))


@dataclass
class MeetingBackbone(ScriptedBackbone):
    """Decodes prompts of some images only while another is in work as well.

    Attributes:
        meeting: where images meet.
        asked: images of which prompts were asked, by their first pixel.
        most_inside: how many calls were in the model at once.
    """

    meeting: threading.Barrier = field(default_factory=lambda: threading.Barrier(2, timeout=WAIT_S))
    asked: list[int] = field(default_factory=list)
    inside: int = 0
    most_inside: int = 0

    def sample_features(self, embedding: ImageEmbedding, point_coords: torch.Tensor) -> torch.Tensor:
        self.meeting.wait()
        return super().sample_features(embedding, point_coords)

    def decode_points(self, embedding: ImageEmbedding, point_coords: torch.Tensor) -> PromptMasks:
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        self.asked.append(int(embedding.canvas_image[0, 0, 0]))
        answer = super().decode_points(embedding, point_coords)
        self.inside -= 1
        return answer


def two_halves() -> list[NDArray[np.bool_]]:
    return [rectangle(SIZE, 0, 0, 8, 12), rectangle(SIZE, 8, 0, 16, 12)]


def test_two_images_are_refined_at_once_and_the_model_answers_one_at_a_time() -> None:
    left, right = two_halves()
    backbone = MeetingBackbone([Reply.one(left, 0.9), Reply.one(right, 0.95)], painted(SIZE, right))
    answers = found(OverlappedLabeller(backbone, ImageLabeller(ENTITIES), at_once=2), [[marked(1)], [marked(2)]])
    assert all(isinstance(one.result.labels, ImageLabels) for one in answers), "each waited for the other"
    assert set(backbone.asked) == {1, 2}
    assert backbone.most_inside == 1


@dataclass
class FailingBackbone(ScriptedBackbone):
    """Fails on images by their first pixel, in the way that is written down for it."""

    failures: dict[int, Exception] = field(default_factory=dict)

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> list[ImageEmbedding]:
        for image in images:
            if error := self.failures.get(int(image[0, 0, 0])):
                raise error
        return super().embed(images)

    def decode_points(self, embedding: ImageEmbedding, point_coords: torch.Tensor) -> PromptMasks:
        if error := self.failures.get(100 + int(embedding.canvas_image[0, 0, 0])):
            raise error
        return super().decode_points(embedding, point_coords)


@pytest.mark.parametrize("at_once", [0, 3])
@pytest.mark.parametrize("stage", [0, 100])
def test_what_fails_on_one_image_costs_no_other(at_once: int, stage: int) -> None:
    left, right = two_halves()
    failures = {stage + 1: ModelOutputError("NaN"), stage + 3: RuntimeError("nobody\nforesaw this")}
    backbone = FailingBackbone([Reply.one(left, 0.9), Reply.one(right, 0.95)], painted(SIZE, right), failures=failures)
    groups = [[marked(value) for value in range(start, start + 2)] for start in (0, 2, 4)]
    labels = [
        file.result.labels
        for file in found(OverlappedLabeller(backbone, ImageLabeller(ENTITIES), at_once=at_once), groups)
    ]
    assert [isinstance(one, ImageLabels) for one in labels] == [True, False, True, False, True, True]
    assert isinstance(labels[1], ModelOutputError)
    assert isinstance(labels[3], UnforeseenError)
    assert str(labels[3]) == "labelling failed unexpectedly (RuntimeError: nobody foresaw this)"


@pytest.mark.parametrize("error", [ConfigurationError("of all images"), torch.AcceleratorError("the device is gone")])
def test_what_fails_for_all_images_is_raised(error: Exception) -> None:
    left, right = two_halves()
    backbone = FailingBackbone([Reply.one(left), Reply.one(right)], painted(SIZE, right), failures={102: error})
    with pytest.raises(type(error)):
        found(OverlappedLabeller(backbone, ImageLabeller(ENTITIES), at_once=2), [[marked(1)], [marked(2)], [marked(3)]])


def test_files_are_asked_for_as_there_is_room_for_them() -> None:
    left, right = two_halves()
    backbone = ScriptedBackbone([Reply.one(left), Reply.one(right)], painted(SIZE, right))
    asked = 0

    def files() -> Iterator[list[File]]:
        nonlocal asked
        for value in range(40):
            asked += 1
            yield [marked(value)]

    labeller = OverlappedLabeller(cast(PromptableBackbone, backbone), ImageLabeller(ENTITIES), at_once=2)
    for done, _ in enumerate(labeller.label(files()), start=1):
        assert asked - done <= 4, "two in work, two ahead"
    assert done == asked == 40


def test_two_callers_share_the_places_and_each_gets_its_own() -> None:
    left, right = two_halves()
    backbone = ScriptedBackbone([Reply.one(left), Reply.one(right)], painted(SIZE, right))
    labeller = OverlappedLabeller(backbone, ImageLabeller(ENTITIES), together=3, at_once=2)
    hashes: dict[int, list[str | None]] = {}

    def call(first: int) -> None:
        values = range(first, first + 6)
        files = [[picture(value) for value in values[:3]], [picture(value) for value in values[3:]]]
        hashes[first] = [file.dhash for file in found(labeller, files)]

    callers = [threading.Thread(target=call, args=(first,)) for first in (0, 6)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(WAIT_S)
    for first in (0, 6):
        expected = [difference_hash(decode_image(picture(value))) for value in range(first, first + 6)]
        assert hashes[first] == expected


def picture(seed: int) -> bytes:
    return png((SIZE[1], SIZE[0]), seed)


def test_a_cpu_does_one_image_after_the_other_and_a_gpu_a_few() -> None:
    assert images_at_once(torch.device("cpu")) == 0
    assert 2 <= images_at_once(torch.device("cuda")) <= 4


@dataclass
class CrowdedBackbone(ScriptedBackbone):
    """A device whose memory others hold for the first `refusals` calls of `decode_points`, and of `embed`.

    Attributes:
        calls: of each.
    """

    refusals: int = 0
    calls: dict[str, int] = field(default_factory=lambda: {"embed": 0, "decode_points": 0})

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> list[ImageEmbedding]:
        self._refuse("embed")
        return super().embed(images)

    def decode_points(self, embedding: ImageEmbedding, point_coords: torch.Tensor) -> PromptMasks:
        if len(point_coords) == 1:  # Smaller batches are tried before.
            self._refuse("decode_points")
        elif self.calls["decode_points"] < self.refusals:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().decode_points(embedding, point_coords)

    def _refuse(self, call: str) -> None:
        self.calls[call] += 1
        if self.calls[call] <= self.refusals:
            raise torch.OutOfMemoryError("CUDA out of memory")


def crowded(refusals: int) -> CrowdedBackbone:
    return CrowdedBackbone([Reply.one(rectangle(SIZE, 0, 0, 6, 8))], painted(SIZE), refusals=refusals)


@pytest.mark.parametrize("at_once", [0, 2])
def test_an_image_waits_for_memory_that_another_process_holds(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, at_once: int
) -> None:
    monkeypatch.setattr(overlap, "MEMORY_DELAYS_S", (0.0, 0.0, 0.0))
    (free,) = found(OverlappedLabeller(crowded(0), ImageLabeller(ENTITIES), at_once=at_once), [[marked(1)]])
    (held,) = found(OverlappedLabeller(crowded(2), ImageLabeller(ENTITIES), at_once=at_once), [[marked(1)]])
    assert isinstance(free.result.labels, ImageLabels)
    assert held.result.labels == free.result.labels
    assert "the device is out of memory, trying again" in caplog.text


def test_an_image_without_memory_is_an_error_that_can_be_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlap, "MEMORY_DELAYS_S", (0.0, 0.0, 0.0))
    backbone = crowded(1000)
    files = found(
        OverlappedLabeller(backbone, ImageLabeller(ENTITIES), together=2, at_once=0), [[marked(1), marked(2)]]
    )
    for file in files:
        assert isinstance(file.result.labels, InputError)
        assert "out of memory, 4 times in 0 s" in str(file.result.labels)
        assert "--retry-failed" in str(file.result.labels)
    assert backbone.calls["embed"] <= 2 * 5 + 1
