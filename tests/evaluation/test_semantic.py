from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from everymask.classes.taxonomy import Taxonomy
from everymask.errors import ConfigurationError, InputError
from everymask.evaluation.ground_truth import VOID, ClassTruth, InstanceTruth, read_coco_instances, read_voc
from everymask.evaluation.semantic import image_iou, match_classes, semantic_figures
from everymask.masks.rle import decode_mask, encode_mask
from everymask.records import ImageLabels, LabelledMask

SIZE = (20, 30)
CLASSES = ("cat", "dog")


def box(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros(SIZE, dtype=bool)
    mask[y0:y1, x0:x1] = True
    return mask


def found(mask: np.ndarray, name: str, score: float = 0.9) -> LabelledMask:
    return LabelledMask(encode_mask(mask), (0, 0, 1, 1), int(mask.sum()), 1, 1, (0, 0), score, 7, name, 0.0)


def labels(*masks: LabelledMask) -> ImageLabels:
    return ImageLabels(SIZE, masks, 0.0)


def truth(*objects: tuple[np.ndarray, int], crowd: bool = False) -> ClassTruth:
    semantic = np.zeros(SIZE, dtype=np.int32)
    for mask, class_id in objects:
        semantic[mask] = class_id + 1
    instances = tuple(
        InstanceTruth(class_id, encode_mask(mask), float(mask.sum()), crowd) for mask, class_id in objects
    )
    return ClassTruth(SIZE, instances, semantic)


LEFT, RIGHT, HALF = box(0, 0, 10, 10), box(15, 5, 25, 15), box(0, 0, 10, 5)


def test_perfect_labels_have_full_marks_whatever_the_ids_of_the_head() -> None:
    figures = semantic_figures(
        {"a": labels(found(LEFT, "cat"), found(RIGHT, "dog"))}, {"a": truth((LEFT, 0), (RIGHT, 1))}, CLASSES
    )
    assert (figures.miou, figures.map50) == pytest.approx((1.0, 1.0))
    assert figures.classes["dog"].instances == 1


def test_iou_is_taken_over_the_pixels_of_all_images() -> None:
    answers = {"a": labels(found(HALF, "cat")), "b": labels(found(LEFT, "cat"))}
    figures = semantic_figures(answers, {"a": truth((LEFT, 0)), "b": truth((RIGHT, 0))}, ("cat",))
    # Image a: 50 of 100 right. Image b: 100 found beside the true 100.
    assert figures.classes["cat"].iou == pytest.approx(50 / (100 + 100 + 100))
    background = (600 - 100) + (600 - 200)
    assert figures.classes["background"].iou == pytest.approx(background / (background + 50 + 200))
    assert figures.miou == pytest.approx((figures.classes["cat"].iou + figures.classes["background"].iou) / 2)


def test_ap50_needs_an_iou_of_half_and_punishes_a_false_mask_with_a_higher_score() -> None:
    image = {"a": truth((LEFT, 0), (RIGHT, 0))}
    both = labels(found(LEFT, "cat", 0.9), found(RIGHT, "cat", 0.8))
    assert semantic_figures({"a": both}, image, ("cat",)).map50 == pytest.approx(1.0)
    one = labels(found(LEFT, "cat"))
    assert semantic_figures({"a": one}, image, ("cat",)).map50 == pytest.approx(51 / 101)
    late = labels(found(box(0, 15, 5, 20), "cat", 0.95), *both.masks)
    assert semantic_figures({"a": late}, image, ("cat",)).map50 == pytest.approx(2 / 3, abs=0.01)
    small = labels(found(box(0, 0, 10, 4), "cat"))
    assert semantic_figures({"a": small}, image, ("cat",)).map50 == 0


def test_a_mask_of_half_an_object_is_right_at_the_least_iou_alone() -> None:
    cat = semantic_figures({"a": labels(found(HALF, "cat"))}, {"a": truth((LEFT, 0))}, ("cat",)).classes["cat"]
    assert (cat.ap50, cat.ap) == pytest.approx((1.0, 0.1))


def test_classes_that_the_truth_does_not_show_count_nowhere_but_as_mistakes() -> None:
    figures = semantic_figures({"a": labels(found(LEFT, "cat"), found(RIGHT, "dog"))}, {"a": truth((LEFT, 0))}, CLASSES)
    assert figures.classes["dog"].iou is None
    assert figures.classes["dog"].ap50 is None
    assert figures.map50 == pytest.approx(1.0)
    assert figures.classes["background"].iou == pytest.approx(400 / 500)


def test_masks_of_other_classes_and_images_without_labels() -> None:
    image = {"a": truth((LEFT, 0)), "b": truth((LEFT, 0))}
    figures = semantic_figures({"a": labels(found(LEFT, "cat"), found(RIGHT, "bus"))}, image, CLASSES)
    assert figures.classes["cat"].iou == pytest.approx(0.5)
    assert semantic_figures({}, image, CLASSES).map50 == 0


def test_void_pixels_count_neither_way() -> None:
    image = truth((LEFT, 0))
    image.semantic[RIGHT] = VOID
    figures = semantic_figures({"a": labels(found(LEFT, "cat"), found(RIGHT, "dog"))}, {"a": image}, CLASSES)
    assert figures.miou == pytest.approx(1.0)


def drawn_sets(seed: int) -> tuple[dict[str, ImageLabels], dict[str, ClassTruth]]:
    """Five images with objects of two classes, and masks that are near some of them, in ranks of few values."""
    rng = np.random.default_rng(seed)

    def somewhere() -> np.ndarray:
        x, y = rng.integers(0, 20), rng.integers(0, 12)
        return box(x, y, x + rng.integers(4, 10), y + rng.integers(4, 8))

    answers, wanted = {}, {}
    for name in "abcde":
        objects = [(somewhere(), int(rng.integers(2))) for _ in range(rng.integers(0, 4))]
        near = [(mask & somewhere() if rng.random() < 0.3 else mask, class_id) for mask, class_id in objects]
        near += [(somewhere(), int(rng.integers(2))) for _ in range(3)]
        masks = [found(mask, CLASSES[class_id], rng.integers(1, 5) / 5) for mask, class_id in near if mask.any()]
        answers[name], wanted[name] = labels(*masks), truth(*objects)
    return answers, wanted


@pytest.mark.parametrize("seed", range(4))
def test_average_precisions_are_those_of_cocos_evaluator(seed: int) -> None:
    answers, wanted = drawn_sets(seed)
    figures = semantic_figures(answers, wanted, CLASSES)
    truths, results = COCO(), COCO()
    results.dataset = {"images": [], "annotations": [], "categories": []}
    truths.dataset = {
        "images": [{"id": number, "height": SIZE[0], "width": SIZE[1]} for number in range(len(wanted))],
        "categories": [{"id": 1}, {"id": 2}],
        "annotations": [
            {"image_id": number, "category_id": item.class_id + 1, "segmentation": item.rle, "area": 1, "iscrowd": 0}
            for number, image in enumerate(wanted.values())
            for item in image.instances
        ],
    }
    for number, annotation in enumerate(truths.dataset["annotations"], start=1):
        annotation["id"] = number
    truths.createIndex()
    found_masks = [
        {
            "image_id": number,
            "category_id": CLASSES.index(str(mask.class_name)) + 1,
            "segmentation": dict(mask.rle),
            "score": mask.score,
        }
        for number, image in enumerate(answers.values())
        for mask in image.masks
    ]
    evaluator = COCOeval(truths, truths.loadRes(found_masks), "segm")
    evaluator.evaluate()
    evaluator.accumulate()
    precision = evaluator.eval["precision"][:, :, :, 0, -1]
    for class_id, name in enumerate(CLASSES):
        assert figures.classes[name].ap == pytest.approx(precision[:, :, class_id].mean())
        assert figures.classes[name].ap50 == pytest.approx(precision[0, :, class_id].mean())


def test_an_image_that_is_drawn_twice_counts_twice() -> None:
    answers, wanted = drawn_sets(5)
    weights = np.array([2, 0, 1, 1, 1])
    names = [f"{name}{again}" for name, times in zip("abcde", weights, strict=True) for again in range(times)]
    repeated = semantic_figures(
        {name: answers[name[0]] for name in names}, {name: wanted[name[0]] for name in names}, CLASSES
    )
    matches = match_classes(answers, wanted, CLASSES)
    assert matches._means(weights) == pytest.approx((repeated.miou, repeated.mean_ap, repeated.map50))
    drawn = matches.bootstrap(200)
    assert np.array_equal(drawn, matches.bootstrap(200), equal_nan=True), "the same images in every run"
    low, high = np.nanquantile(drawn, (0.025, 0.975), axis=0)
    figures = matches.figures()
    assert (low < (figures.miou, figures.mean_ap, figures.map50)).all()
    assert (high > (figures.miou, figures.mean_ap, figures.map50)).all()


def test_a_crowd_is_no_mistake_and_no_find() -> None:
    image = truth((LEFT, 0))
    crowd = truth((RIGHT, 0), crowd=True).instances
    figures = semantic_figures(
        {"a": labels(found(LEFT, "cat", 0.5), found(RIGHT, "cat", 0.9))},
        {"a": replace(image, instances=image.instances + crowd)},
        ("cat",),
    )
    assert figures.map50 == pytest.approx(1.0)


def test_other_sizes_and_unknown_classes_are_refused() -> None:
    with pytest.raises(InputError, match="a are for"):
        semantic_figures({"a": ImageLabels((5, 5), (), 0)}, {"a": truth((LEFT, 0))}, CLASSES)
    with pytest.raises(InputError, match="none of the classes bus"):
        semantic_figures({}, {"a": truth()}, ("bus",))


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    segmentations = [
        [[0, 0, 10, 0, 10, 10, 0, 10]],
        {"size": list(SIZE), "counts": [0, 20, 580]},
        dict(encode_mask(RIGHT)),
    ]
    content = {
        "images": [{"id": 5, "file_name": "a.jpg", "height": 20, "width": 30}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 9, "name": "dog"}, {"id": 3, "name": "bus"}],
        "annotations": [
            {"image_id": 5, "category_id": category, "segmentation": segmentation, "area": 100, "iscrowd": crowd}
            for category, segmentation, crowd in zip([1, 9, 3], segmentations, [0, 1, 0], strict=True)
        ],
    }
    (tmp_path / "instances.json").write_text(json.dumps(content))
    return tmp_path


def test_coco_instances_of_every_encoding_are_read_and_restricted(coco: Path) -> None:
    image = read_coco_instances(coco, Taxonomy.parse("animal=dog,bus"))["a.jpg"]
    assert [(item.class_id, item.iscrowd) for item in image.instances] == [(0, True), (1, False)]
    np.testing.assert_array_equal(decode_mask(image.instances[1].rle), RIGHT)
    assert set(np.unique(image.semantic)) == {0, 1, 2}
    polygon = read_coco_instances(coco, Taxonomy.parse("cat"))["a.jpg"].instances[0]
    assert abs(int(decode_mask(polygon.rle).sum()) - 100) <= 20


def test_of_overlapping_objects_the_smaller_is_on_top(coco: Path) -> None:
    image = read_coco_instances(coco, Taxonomy.parse("cat,dog"))["a.jpg"]
    # The dog is the first column of 20 pixels, over the cat's 100.
    assert image.semantic[5, 0] == 2
    assert image.semantic[5, 5] == 1


def test_a_class_that_coco_does_not_know_is_named(coco: Path) -> None:
    with pytest.raises(ConfigurationError, match="unicorn"):
        read_coco_instances(coco, Taxonomy.parse("cat,unicorn"))
    with pytest.raises(ConfigurationError, match=r"instances\.json"):
        read_coco_instances(coco / "nowhere", Taxonomy.parse("cat"))


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    classes, objects = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
    classes[LEFT], objects[LEFT] = 8, 1  # cat
    classes[RIGHT], objects[RIGHT] = 12, 2  # dog
    for array in (classes, objects):
        array[0] = 255
    for name, array in {"SegmentationClass": classes, "SegmentationObject": objects}.items():
        (tmp_path / name).mkdir()
        for stem in ("2007_1", "2007_2"):
            image = Image.fromarray(array, mode="P")
            image.putpalette(list(range(256)) * 3)
            image.save(tmp_path / name / f"{stem}.png")
    (tmp_path / "JPEGImages").mkdir()
    (tmp_path / "ImageSets" / "Segmentation").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Segmentation" / "val.txt").write_text("2007_2\n")
    return tmp_path


def test_voc_objects_classes_and_void_are_read(voc: Path) -> None:
    image = read_voc(voc, Taxonomy.parse("dog,cat"))["2007_1.jpg"]
    assert (image.semantic[0] == VOID).all()
    assert image.semantic[5, 5] == 2
    assert image.semantic[10, 20] == 1
    assert sorted((item.class_id, item.area) for item in image.instances) == [(0, 100.0), (1, 90.0)]


def test_voc_splits_and_other_layouts(voc: Path, tmp_path: Path) -> None:
    assert list(read_voc(voc, Taxonomy.parse("cat"), "val")) == ["2007_2.jpg"]
    with pytest.raises(ConfigurationError, match="split test"):
        read_voc(voc, Taxonomy.parse("cat"), "test")
    with pytest.raises(ConfigurationError, match="giraffe"):
        read_voc(voc, Taxonomy.parse("giraffe"))
    with pytest.raises(ConfigurationError, match="JPEGImages"):
        read_voc(voc / "ImageSets", Taxonomy.parse("cat"))


def test_the_iou_of_an_image_is_the_mean_of_what_its_truth_or_its_labels_show() -> None:
    shown = truth((LEFT, 0), (RIGHT, 1))
    assert image_iou(labels(found(HALF, "cat"), found(RIGHT, "dog")), shown, CLASSES) == pytest.approx(0.75)
    assert image_iou(labels(found(HALF, "cat")), shown, CLASSES) == pytest.approx(0.25)
    assert image_iou(None, shown, CLASSES) == 0.0
    assert image_iou(labels(found(HALF, "cat")), truth(), CLASSES) == 0.0
    assert image_iou(labels(found(HALF, "bird")), truth(), CLASSES) == 1.0, "a class that is not measured"
    assert image_iou(None, truth(), CLASSES) == 1.0
