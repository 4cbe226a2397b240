"""The page about a training shows what it was told: curves, confusions, reliability, the masks to look at."""

from __future__ import annotations

import re

import numpy as np
import torch

from everymask.classes.training.bags import UNNAMED, Bags, no_bags
from everymask.classes.training.report import (
    MeasuredScenes,
    ShownMask,
    draw_mask,
    most_certain,
    most_uncertain,
    training_report,
)
from everymask.classes.training.train import Epoch, TrainingResult
from everymask.masks.rle import decode_mask
from tests.classes.stored import record
from tests.classes.toy import COLOURS, colour_head, picture

HEAD = colour_head()
CHERRY, LIME = (4, 4, 20, 24), (26, 10, 44, 34)
RECORDS = [
    record("both", picture([("cherry", CHERRY), ("lime", LIME)])),
    record("plum", picture([("plum", CHERRY)])),
    record("lime", picture([("lime", LIME)])),
]
HISTORY = (
    Epoch("teacher", 1, 2.0, 3.0, 0.5),
    Epoch("teacher", 2, 1.0, None, None),
    Epoch("teacher", 3, 0.0, 1.5, 1.0),
)


def shown(masks: list[ShownMask]) -> list[tuple[str, str]]:
    return [(mask.image_id, HEAD.spec.classes[mask.class_id]) for mask in masks]


def colour_bags(*of: tuple[str, int]) -> Bags:
    """Bags of a single mask each, of a colour, in a picture of a class."""
    colours = torch.tensor([COLOURS[colour] for colour, _ in of]).float() / 255
    return Bags(
        colours,
        torch.zeros(len(of)),
        torch.zeros((len(of), 64), dtype=torch.uint8),
        torch.full((len(of),), UNNAMED),
        torch.ones(len(of), dtype=torch.int64),
        torch.tensor([class_id for _, class_id in of]),
        tuple(str(number) for number in range(len(of))),
    )


def page(held_out: Bags, confusion: list[list[int]], history: tuple[Epoch, ...] = HISTORY) -> str:
    result = TrainingResult(HEAD, HEAD, history, held_out, torch.tensor(confusion))
    picture = np.zeros((4, 4, 3), np.uint8)
    return training_report("Fruit", [("model", "colour")], result, [(picture, "sure <1>")], [(picture, "unsure")])


def test_the_most_certain_masks_are_by_class_and_one_a_picture() -> None:
    sure = most_certain(HEAD, RECORDS, per_class=9)
    assert shown(sure)[0] == ("both", "cherry")
    assert {("both", "lime"), ("lime", "lime")} <= set(shown(sure))
    for name in HEAD.spec.classes:
        of_class = [mask.probability for mask in sure if HEAD.spec.classes[mask.class_id] == name]
        assert of_class == sorted(of_class, reverse=True)
        assert of_class[0] > 0.99
    assert len({(mask.image_id, mask.class_id) for mask in sure}) == len(sure)
    assert [mask.class_id for mask in most_certain(HEAD, RECORDS, per_class=1)] == [0, 1]


def test_the_most_uncertain_masks_come_first_and_one_a_picture() -> None:
    unsure = most_uncertain(HEAD, RECORDS, count=9)
    assert [mask.image_id for mask in unsure] == [
        mask.image_id for mask in sorted(unsure, key=lambda mask: mask.uncertainty, reverse=True)
    ]
    assert sorted(mask.image_id for mask in unsure) == ["both", "lime", "plum"]
    assert unsure[0].image_id == "plum", "of no class that the head knows"
    everything = most_certain(HEAD, [RECORDS[1]], per_class=9)
    assert unsure[0].uncertainty >= max(mask.uncertainty for mask in everything) > 0
    assert most_uncertain(HEAD, RECORDS, count=1) == unsure[:1]


def test_a_picture_shows_its_mask_and_no_other() -> None:
    image = picture([("cherry", CHERRY), ("lime", LIME)])
    (mask,) = (mask for mask in most_certain(HEAD, RECORDS[:1], per_class=1) if mask.class_id == 1)
    drawn = draw_mask(image, RECORDS[0], mask, HEAD.spec.classes)
    lime = decode_mask(RECORDS[0].embeddings.rles[mask.index])
    assert lime[LIME[1] : LIME[3], LIME[0] : LIME[2]].all()
    assert lime.sum() == (LIME[3] - LIME[1]) * (LIME[2] - LIME[0])
    darkened = (drawn == np.rint(image * 0.75)).all(axis=2)
    assert np.array_equal(darkened, ~lime)


def test_the_legend_has_the_colours_of_the_overlays_and_what_held_out_means_is_said() -> None:
    image = picture([("cherry", CHERRY), ("lime", LIME)])
    result = TrainingResult(HEAD, HEAD, HISTORY, no_bags(3), torch.tensor([[0, 0], [0, 0]]))
    text = training_report("Fruit", [], result, [], [], [(image, "bowl.jpg: 2 <cherry>")], {"cherry": 1200, "lime": 3})
    legend = re.findall(r"background: rgb\((\d+) (\d+) (\d+)\)\"></i>(\w+) <b>([\d,]+)", text)
    assert [(name, count) for *_, name, count in legend] == [("cherry", "1,200"), ("lime", "3")]
    (mask,) = (mask for mask in most_certain(HEAD, RECORDS[:1], per_class=1) if mask.class_id == 1)
    drawn = draw_mask(image, RECORDS[0], mask, HEAD.spec.classes)[LIME[1] + 4, LIME[0] + 4]
    expected = (image[LIME[1] + 4, LIME[0] + 4].astype(float) + np.array(legend[1][:3], dtype=float)) / 2
    assert np.abs(drawn - expected).max() <= 1
    assert "bowl.jpg: 2 &lt;cherry&gt;" in text
    assert "pictures that the head did not learn from" in text
    assert "What the head finds in scenes" not in page(no_bags(3), [[0, 0], [0, 0]])


def test_losses_are_drawn_to_scale() -> None:
    text = page(no_bags(3), [[0, 0], [0, 0]])
    (training,) = re.findall(r'<polyline class="training" points="([^"]*)"', text)
    (held_out,) = re.findall(r'<polyline class="held-out" points="([^"]*)"', text)
    (x1, y1), (x2, y2), (x3, y3) = (map(float, point.split(",")) for point in training.split())
    (h1, highest), (h3, middle) = (map(float, point.split(",")) for point in held_out.split())
    assert (h1, h3) == (x1, x3), "an epoch without a held-out loss is left out, the others stay in their place"
    assert x2 - x1 == x3 - x2 > 0
    assert highest < y1 < middle < y2 < y3, "the lower a loss, the lower it stands"
    assert abs((y2 - y1) - (y3 - y2)) < 0.2
    assert abs((y3 - highest) - 3 * (y3 - y2)) < 0.3
    assert ">3.00</text>" in text
    assert ">0.00</text>" in text
    assert "loss of the teacher" in text
    assert "loss of the student" not in text, "which was not trained"
    width, height = map(float, re.findall(r'viewBox="0 0 (\d+) (\d+)"', text)[0])
    assert 0 < x1 < x3 < width
    assert 0 < highest < y3 < height


def test_one_epoch_and_a_constant_loss_are_drawn_too() -> None:
    text = page(no_bags(3), [[0, 0], [0, 0]], (Epoch("student", 1, 1.0, 1.0, None),))
    assert "loss of the student" in text
    assert "nan" not in text


def test_confusions_are_counted_by_true_class() -> None:
    text = page(no_bags(3), [[3, 1], [0, 0]])
    cherry, lime = re.findall(r"<tr><th>(?:cherry|lime)</th>.*?</tr>", text)
    assert re.findall(r"--share:([\d.]+)\">(\d*)<", cherry) == [("0.750", "3"), ("0.250", "1")]
    assert "75% of 4" in cherry
    assert re.findall(r"--share:([\d.]+)\">(\d*)<", lime) == [("0.000", ""), ("0.000", "")]
    assert "none held out" in lime
    assert "No picture was held out" not in text
    assert "100% of 2" in page(no_bags(3), [[1, 1], [0, 2]])
    assert "No picture was held out" in page(no_bags(3), [[0, 0], [0, 0]])


def test_reliability_counts_masks_that_are_taken_for_a_class() -> None:
    held_out = colour_bags(("cherry", 0), ("cherry", 0), ("cherry", 1), ("lime", 1))
    text = page(held_out, [[2, 0], [1, 1]])
    assert "of 4 masks" in text
    assert "calibration error 25.0%" in text
    (dot,) = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)" r="([\d.]+)"><title>([^<]*)<', text)
    assert dot[3] == "4 masks at 100%, 75% right"
    (diagonal,) = re.findall(r'<line x1="([\d.]+)" y1="([\d.]+)" x2="([\d.]+)" y2="([\d.]+)"', text)
    x0, y0, x1, y1 = map(float, diagonal)
    assert x1 - x0 == y0 - y1 > 0
    assert abs(float(dot[0]) - x1) < 0.2
    assert abs(float(dot[1]) - (y0 + 0.75 * (y1 - y0))) < 0.2
    assert "No mask of a held-out picture" not in text
    (view,) = re.findall(r'viewBox="0 0 (\d+) (\d+)" role="img" aria-label="share of masks that is right', text)
    width, height = map(float, view)
    assert 0 < x0 < x1 < width
    assert 0 < y1 < y0 < height


def test_whether_uncertainty_tells_of_wrong_masks_is_asked_only_where_some_are_wrong() -> None:
    assert "uncertainty tells of wrong ones: none is wrong, or all are<" in page(
        colour_bags(("cherry", 0), ("lime", 1)), [[1, 0], [0, 1]]
    )
    mixed = page(colour_bags(("cherry", 0), ("cherry", 1)), [[1, 0], [1, 0]])
    assert "uncertainty tells of wrong ones: AUROC 0.50<" in mixed


def test_measured_shares_are_in_percent_counts_are_whole_and_what_is_missing_is_a_dash() -> None:
    result = TrainingResult(HEAD, HEAD, (), no_bags(3), torch.zeros((2, 2)))
    rows = {"cherry": {"IoU": 0.5, "masks": 1200, "AP": None}}
    text = training_report("Fruit", [], result, [], [], measured=MeasuredScenes(3, rows))
    assert "<th>cherry</th><td>50.0</td><td>1,200</td><td>–</td>" in text


def test_where_nothing_was_held_out_the_page_says_so() -> None:
    text = page(no_bags(3), [[0, 0], [0, 0]])
    assert "No mask of a held-out picture was taken for one of the classes." in text
    assert "calibration error" not in text


def test_captions_are_text_and_pictures_lie_inside() -> None:
    text = page(no_bags(3), [[0, 0], [0, 0]])
    assert text.count("data:image/jpeg;base64") == 2
    assert text.count("sure &lt;1&gt;") == 2
    assert text.index("sure &lt;1&gt;") < text.index("look at these first") < text.index(">unsure<")
    assert "<h1>Fruit</h1>" in text
