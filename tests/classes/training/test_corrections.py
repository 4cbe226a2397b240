from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from everymask.classes.config import ClassesConfig, MaskConfig
from everymask.classes.describers.imagenet import DIM
from everymask.classes.drawn import canvas_masks, describe_drawn
from everymask.classes.embeddings import StoredEmbeddings, write_embeddings
from everymask.classes.features import FeatureKind
from everymask.classes.head import ClassHead, HeadSpec
from everymask.classes.segmenter import describe_masks
from everymask.classes.taxonomy import Taxonomy
from everymask.classes.training.bags import make_bags, no_bags
from everymask.classes.training.corrections import (
    CorrectedImage,
    NamedMasks,
    classes_of,
    corrected_images,
    correction_class_ids,
    named_masks,
)
from everymask.classes.training.localisation import object_loss
from everymask.classes.training.train import TrainingConfig, head_spec, train_head
from everymask.errors import ConfigurationError
from everymask.files.addresses import AddressPolicy
from everymask.labels.corrections import Action, CorrectedMask, ImageCorrection, write_corrections
from everymask.labels.rows import ImageRow, to_table
from everymask.labels.store import LabelStore
from everymask.masks.rle import encode_mask
from everymask.records import ImageLabels
from tests.classes.toy import COLOURS, ColourBackbone, picture
from tests.formats.shapes import sha256_of

SIZE = (40, 48)
BOXES = ((4, 4, 20, 24), (26, 10, 44, 34))
CLASSES = Taxonomy.parse("cherry,lime")
CONFIG = TrainingConfig(
    features="token+pooled", hidden_dim=16, epochs=30, corrected_epochs=30, patience=30, learning_rate=5e-3
)
BACKBONE = ColourBackbone()

Mask = tuple[Action, str | None, tuple[int, int, int, int]]


def box_mask(box: tuple[int, int, int, int]) -> NDArray[np.bool_]:
    x0, y0, x1, y1 = box
    mask = np.zeros(SIZE, dtype=np.bool_)
    mask[y0:y1, x0:x1] = True
    return mask


def correction(image_id: str, *masks: Mask) -> ImageCorrection:
    return ImageCorrection(
        image_id,
        None,
        SIZE,
        "coco",
        None,
        None,
        "2026-11-26",
        tuple(
            CorrectedMask(
                action,
                f"{number:024x}",
                None if action == "added" else f"{number:024x}",
                encode_mask(box_mask(box)),
                None if name is None else CLASSES.classes.index(name) if name in CLASSES.classes else 7,
                name,
                1.0,
            )
            for number, (action, name, box) in enumerate(masks)
        ),
    )


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two pictures of a cherry and a lime each."""
    for name, (first, second) in {"a.png": ("cherry", "lime"), "b.png": ("lime", "cherry")}.items():
        Image.fromarray(picture([(first, BOXES[0]), (second, BOXES[1])], SIZE)).save(tmp_path / name)
    return tmp_path


def corrected(pictures: Path, *corrections: ImageCorrection) -> list[CorrectedImage]:
    return [
        CorrectedImage(str(pictures / one.image_id), sha256_of(pictures / one.image_id), one) for one in corrections
    ]


def right(pictures: Path) -> list[CorrectedImage]:
    """What a person makes of labels that took cherries for limes and limes for cherries."""
    return corrected(
        pictures,
        correction("a.png", ("relabelled", "cherry", BOXES[0]), ("added", "lime", BOXES[1])),
        correction("b.png", ("confirmed", "lime", BOXES[0]), ("edited", "cherry", BOXES[1])),
    )


def learn(
    images: Sequence[CorrectedImage],
    directory: Path | None = None,
    left_out: list[str] | None = None,
    masks: MaskConfig | None = None,
    features: FeatureKind = CONFIG.features,
) -> NamedMasks:
    said = [] if left_out is None else left_out
    return named_masks(
        images,
        correction_class_ids(images, CLASSES, every_class=False),
        len(CLASSES.classes),
        BACKBONE,
        masks or MaskConfig(),
        features,
        None if directory is None else str(directory),
        lambda image_id, reason: said.append(f"{image_id}: {reason}"),
        AddressPolicy(any_local_file=True),
    )


def test_a_head_that_reads_crops_gets_those_of_corrected_masks(pictures: Path) -> None:
    crops = learn(right(pictures), masks=MaskConfig(points_per_side=4, describer="crop"), features="token+crop")
    cherry, lime = (crops.inputs[crops.labels == label, BACKBONE.token_dim :] for label in (0, 1))
    assert cherry.shape == lime.shape == (2, DIM)
    assert torch.nn.functional.cosine_similarity(cherry[0], lime[0], dim=0) < 0.9


def stored(image_id: str, image: NDArray[np.uint8]) -> StoredEmbeddings:
    return StoredEmbeddings(
        image_id, image_id, "", describe_masks(BACKBONE, BACKBONE.embed([image])[0], ClassesConfig())
    )


def named(head: ClassHead, colour: str) -> str:
    """What a head takes a patch of a colour for."""
    inputs = torch.tensor(COLOURS[colour]).float().div(255).repeat(2)[None]
    with torch.no_grad():
        return [*head.spec.classes, "background"][int(head(inputs).argmax())]


def spec() -> HeadSpec:
    return head_spec(CLASSES.classes, BACKBONE, CONFIG)


def test_corrections_of_more_weight_win_against_exemplars_that_are_wrong(pictures: Path) -> None:
    wrong = {"cherry": "lime", "lime": "cherry"}
    records = [
        stored(f"{name}{i}", picture([(name, (4 + 2 * i, 4, 24 + 2 * i, 30))], SIZE))
        for name in wrong
        for i in range(4)
    ]
    bags = make_bags(
        records, {record.image_id: wrong[record.image_id[:-1]] for record in records}, CLASSES, CONFIG.features
    )
    config = replace(CONFIG, batch_size=2, learning_rate=1e-2, correction_weight=3.0)
    before = train_head(bags, spec(), config).head
    assert [named(before, name) for name in wrong] == ["lime", "cherry"]
    result = train_head(bags, spec(), config, corrections=learn(right(pictures)))
    for head in (result.teacher, result.head):
        assert [named(head, name) for name in wrong] == ["cherry", "lime"]


def test_corrections_alone_make_a_head_that_knows_background(pictures: Path) -> None:
    corrections = learn(right(pictures))
    result = train_head(no_bags(spec().input_dim), spec(), CONFIG, corrections=corrections)
    assert [named(result.head, name) for name in ("cherry", "lime")] == ["cherry", "lime"]
    grey = torch.full((1, 6), 128 / 255)
    with torch.no_grad():
        assert int(result.head(grey).argmax()) == 2
    again = train_head(no_bags(spec().input_dim), spec(), CONFIG, corrections=corrections)
    assert torch.equal(result.head.layers[0].weight, again.head.layers[0].weight)  # type: ignore[arg-type]


def test_a_head_that_learns_corrections_goes_on_though_it_unlearns_the_exemplars(pictures: Path) -> None:
    wrong = {"cherry": "lime", "lime": "cherry"}
    records = [
        stored(f"{name}{i}", picture([(name, (4 + 2 * i, 4, 24 + 2 * i, 30))], SIZE))
        for name in wrong
        for i in range(4)
    ]
    subjects = {record.image_id: wrong[record.image_id[:-1]] for record in records}
    bags = make_bags(records, subjects, CLASSES, CONFIG.features)
    of_classes_alone = {"background_share": 0.0, "presence_weight": 0.0, "frame_weight": 0.0, "object_weight": 0.0}
    config = replace(
        CONFIG,
        **of_classes_alone,
        corrected_epochs=6,
        patience=1,
        held_out_share=0.5,
        dropout=0.0,
        correction_weight=30.0,
        distillation=False,
    )
    history = train_head(bags, spec(), config, corrections=learn(right(pictures))).history
    losses = [epoch.held_out_loss or 0.0 for epoch in history]
    assert losses[1] > losses[0]
    assert len(history) == 6


def test_corrections_have_a_number_of_epochs_of_their_own(pictures: Path) -> None:
    config = replace(CONFIG, epochs=2, corrected_epochs=5, distillation=False)
    bags = make_bags(
        [stored(name, picture([(name, BOXES[0])], SIZE)) for name in ("cherry", "lime")],
        {"cherry": "cherry", "lime": "lime"},
        CLASSES,
        CONFIG.features,
    )
    assert len(train_head(bags, spec(), config).history) == 2
    assert len(train_head(bags, spec(), config, corrections=learn(right(pictures))).history) == 5


def test_a_deleted_mask_is_background_and_so_is_what_a_finished_image_leaves_out(pictures: Path) -> None:
    masks = learn(
        corrected(pictures, correction("a.png", ("confirmed", "cherry", BOXES[0]), ("deleted", "lime", BOXES[1])))
    )
    colours = (masks.inputs[:, :3] * 255).round().int().tolist()
    labels = {tuple(colour): label for colour, label in zip(colours, masks.labels.tolist(), strict=True)}
    assert labels[COLOURS["cherry"]] == 0
    assert labels[COLOURS["lime"]] == 2
    empty = learn(corrected(pictures, correction("a.png")))
    assert set(empty.labels.tolist()) == {2}


def test_stored_masks_need_no_pixels_and_drawn_ones_alone_do(pictures: Path, tmp_path: Path) -> None:
    directory = tmp_path / "embeddings"
    image = np.asarray(Image.open(pictures / "a.png"))
    write_embeddings(directory, [stored("a.png", image)], MaskConfig())
    matching = correction("a.png", ("confirmed", "cherry", BOXES[0]), ("added", "lime", BOXES[1]))
    with_pixels = learn(corrected(pictures, matching))
    drawn = corrected(
        pictures, correction("a.png", *[("added", "cherry", (4, 4, 10, 10))], ("added", "lime", BOXES[1]))
    )
    assert (learn(drawn, directory).labels == 0).sum() == 1
    unread = corrected(pictures, matching)
    (pictures / "a.png").unlink()
    without = learn(unread, directory)
    assert torch.equal(without.inputs, with_pixels.inputs)
    assert torch.equal(without.labels, with_pixels.labels)
    said: list[str] = []
    assert (learn(drawn, directory, said).labels == 1).sum() == 1
    assert said == ["a.png: the file is not there"]


@pytest.mark.parametrize(("right_edge", "described_anew"), [(20, False), (21, True)])
def test_a_mask_that_overlaps_a_stored_one_by_four_fifths_takes_its_description(
    pictures: Path, tmp_path: Path, right_edge: int, described_anew: bool
) -> None:
    """The stored mask is 16 pixels wide, the person's 20 and so 4/5, or 21."""
    record = stored("a.png", picture([("plum", (0, 4, 16, 24))], SIZE))
    write_embeddings(tmp_path / "embeddings", [record], MaskConfig())
    one = replace(correction("a.png", ("edited", "cherry", (0, 4, right_edge, 24))), content_sha256=None)
    masks = learn(corrected(pictures, one), tmp_path / "embeddings")
    colours = (masks.inputs[masks.labels == 0, :3] * 255).round().int().tolist()
    assert (colours != [list(COLOURS["plum"])]) == described_anew


@pytest.mark.parametrize(("digest", "described_anew"), [("", True), (None, False)])
def test_stored_masks_of_another_file_than_was_corrected_are_not_used(
    pictures: Path, tmp_path: Path, digest: str | None, described_anew: bool
) -> None:
    """The store's masks are of a picture of a plum; the corrected one shows a cherry."""
    directory = tmp_path / "embeddings"
    record = stored("a.png", picture([("plum", BOXES[0]), ("plum", BOXES[1])], SIZE))
    write_embeddings(directory, [replace(record, content_sha256="0" * 64)], MaskConfig())
    one = correction("a.png", ("confirmed", "cherry", BOXES[0]))
    known = None if digest is None else sha256_of(pictures / "a.png")
    masks = learn(corrected(pictures, replace(one, content_sha256=known)), directory)
    colours = (masks.inputs[:, :3] * 255).round().int().tolist()
    assert (list(COLOURS["cherry"]) in colours) == described_anew
    assert (list(COLOURS["plum"]) in colours) != described_anew


def test_a_picture_that_changed_since_it_was_corrected_teaches_nothing(pictures: Path) -> None:
    one = replace(correction("a.png", ("added", "cherry", (4, 4, 10, 10))), content_sha256="0" * 64)
    said: list[str] = []
    both = [one, correction("b.png", ("confirmed", "lime", BOXES[0]))]
    masks = learn(corrected(pictures, *both), None, said)
    assert len(said) == 1
    assert said[0].startswith("a.png: ")
    assert 0 not in masks.labels.tolist()


def test_a_drawn_mask_is_described_by_its_own_pixels_and_the_answer_that_fits_it() -> None:
    image = picture([("cherry", BOXES[0]), ("lime", BOXES[1])], SIZE)
    (embedding,) = BACKBONE.embed([image])
    union = box_mask(BOXES[0]) | box_mask(BOXES[1])
    masks = [box_mask(BOXES[1]), union, np.ones(SIZE, dtype=np.bool_), box_mask((31, 31, 32, 32))]
    features = describe_drawn(BACKBONE, embedding, [encode_mask(mask) for mask in masks], MaskConfig())
    mean = image.reshape(-1, 3).mean(axis=0) / 255
    lime, cherry = (np.array(COLOURS[name]) / 255 for name in ("lime", "cherry"))
    weights = [18 * 24, 16 * 20]
    assert features.token == pytest.approx(np.array([lime, lime, mean, lime]), abs=2e-3)
    mixed = np.average([lime, cherry], axis=0, weights=weights)
    assert features.pooled == pytest.approx(np.array([lime, mixed, mean, lime]), abs=2e-3)


def test_masks_come_to_the_cells_that_they_cover() -> None:
    (embedding,) = BACKBONE.embed([picture([("cherry", BOXES[0])], SIZE)])
    cells = canvas_masks(embedding.canvas, np.stack([box_mask(BOXES[0]), ~box_mask(BOXES[0])]))
    assert torch.equal(cells[0], ~cells[1])
    assert torch.equal(embedding.canvas.to_pixels(cells[0]), torch.from_numpy(box_mask(BOXES[0])[::2, ::2]))


def test_subjects_are_learnt_as_their_class(pictures: Path) -> None:
    gathered = Taxonomy.parse("fruit=cherry+lime,plum")
    assert correction_class_ids(right(pictures), gathered, every_class=False) == {"cherry": 0, "lime": 0}


def test_what_teaches_nothing_is_one_sentence(pictures: Path) -> None:
    images = right(pictures)
    assert classes_of(images).classes == ("cherry", "lime")
    with pytest.raises(ConfigurationError, match="name lime, but the classes to train are cherry"):
        correction_class_ids(images, Taxonomy.parse("cherry"), every_class=False)
    with pytest.raises(ConfigurationError, match="no mask of plum; correct"):
        correction_class_ids(images, Taxonomy.parse("cherry,lime,plum"), every_class=True)
    with pytest.raises(ConfigurationError, match="no mask of any class"):
        classes_of(corrected(pictures, correction("a.png", ("deleted", "lime", BOXES[0]))))
    (pictures / "a.png").write_bytes(b"no picture")
    with pytest.raises(ConfigurationError, match="make their images readable"):
        learn(images[:1])


def test_a_store_without_corrections_or_classes_is_one_sentence(tmp_path: Path) -> None:
    store = LabelStore(str(tmp_path / "store"))
    store.write_part(to_table([ImageRow("a.png", "/a.png", ImageLabels(SIZE, (), 0.0))]))
    with pytest.raises(ConfigurationError, match="holds no corrections"):
        corrected_images(store)
    write_corrections(store, [correction("a.png", ("added", None, BOXES[0]))])
    with pytest.raises(ConfigurationError, match="without classes"):
        corrected_images(store)
    write_corrections(store, [correction("a.png", ("added", "cherry", BOXES[0]))])
    (image,) = corrected_images(store)
    assert (image.uri, image.correction.masks[0].class_name) == ("/a.png", "cherry")


def test_embeddings_of_another_backbone_are_refused(pictures: Path, tmp_path: Path) -> None:
    other = ColourBackbone("b" * 64)
    image = np.asarray(Image.open(pictures / "a.png"))
    record = StoredEmbeddings("a.png", "", "", describe_masks(other, other.embed([image])[0], ClassesConfig()))
    write_embeddings(tmp_path / "embeddings", [record], MaskConfig())
    with pytest.raises(ConfigurationError, match="choose that --model"):
        learn(right(pictures), tmp_path / "embeddings")


def test_corrections_weigh_what_they_are_told_to(pictures: Path) -> None:
    corrections = learn(right(pictures))
    config = replace(CONFIG, corrected_epochs=3, distillation=False)
    heads = {
        weight: train_head(
            no_bags(spec().input_dim), spec(), replace(config, correction_weight=weight), corrections=corrections
        ).head
        for weight in (0.0, 0.3, 3.0)
    }
    with torch.no_grad():
        sure = {
            weight: float(head(corrections.inputs).softmax(dim=-1).gather(1, corrections.labels[:, None]).mean())
            for weight, head in heads.items()
        }
    assert sure[0.0] < sure[0.3]
    assert not torch.equal(*(next(heads[weight].parameters()) for weight in (0.3, 3.0)))


def test_the_loss_of_an_epoch_is_that_of_a_step(pictures: Path) -> None:
    """Heads that do not learn: all steps of an epoch have the loss of a head that was never trained."""
    corrections = learn(right(pictures))
    config = replace(CONFIG, corrected_epochs=1, dropout=0.0, learning_rate=1e-12, correction_weight=1.0)
    result = train_head(no_bags(spec().input_dim), spec(), config, corrections=corrections)
    with torch.no_grad():
        expected = float(object_loss(result.head(corrections.inputs), corrections.labels))
    assert result.history[0].training_loss == pytest.approx(expected, rel=1e-4)
