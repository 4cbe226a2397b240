"""One self-contained HTML page about a trained head, with its pictures inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray

from everymask.classes.embeddings import StoredEmbeddings
from everymask.classes.head import ClassHead
from everymask.classes.training.reliability import Reliability, held_out_reliability
from everymask.classes.training.train import Epoch, TrainingResult
from everymask.classes.uncertainty import normalised_entropy
from everymask.masks.labelled import labelled_masks
from everymask.pictures.colours import mask_colours
from everymask.pictures.embedded import data_uri
from everymask.pictures.html_page import facts_list, html_page
from everymask.pictures.overlay import overlay
from everymask.records import ImageLabels
from everymask.wording import counted

_PICTURE_SIDE = 320


@dataclass(frozen=True)
class ShownMask:
    """One mask for the page.

    Attributes:
        image_id: its picture's id.
        index: its number in the picture.
        class_id: the likeliest object class.
        probability: of that class, [0, 1].
        uncertainty: normalised entropy, [0, 1].
    """

    image_id: str
    index: int
    class_id: int
    probability: float
    uncertainty: float


@dataclass(frozen=True)
class MeasuredScenes:
    """Figures on annotated scenes.

    Attributes:
        images: number of scenes.
        rows: figures by class and by column; shares are floats in [0, 1], counts are whole numbers.
    """

    images: int
    rows: Mapping[str, Mapping[str, float | int | None]]


def most_certain(head: ClassHead, records: Sequence[StoredEmbeddings], per_class: int) -> list[ShownMask]:
    """The masks with the highest probability of each class, one a picture, class after class."""
    masks = sorted(_object_masks(head, records), key=lambda mask: -mask.probability)
    shown = []
    for class_id in range(head.num_classes):
        best = {mask.image_id: mask for mask in reversed(masks) if mask.class_id == class_id}
        shown += sorted(best.values(), key=lambda mask: -mask.probability)[:per_class]
    return shown


def most_uncertain(head: ClassHead, records: Sequence[StoredEmbeddings], count: int) -> list[ShownMask]:
    """The masks with the highest uncertainty, one a picture."""
    worst: dict[str, ShownMask] = {}
    for mask in sorted(_object_masks(head, records), key=lambda mask: mask.uncertainty):
        worst[mask.image_id] = mask
    return sorted(worst.values(), key=lambda mask: -mask.uncertainty)[:count]


def _object_masks(head: ClassHead, records: Sequence[StoredEmbeddings]) -> list[ShownMask]:
    masks = []
    for record in records:
        probabilities = head.probabilities(record.embeddings.features)
        best, class_ids = probabilities[:, :-1].max(dim=-1)
        uncertainty = normalised_entropy(probabilities)
        masks += [
            ShownMask(record.image_id, index, int(class_ids[index]), float(best[index]), float(uncertainty[index]))
            for index in range(len(probabilities))
        ]
    return masks


def draw_mask(
    image: NDArray[np.uint8], record: StoredEmbeddings, mask: ShownMask, classes: Sequence[str]
) -> NDArray[np.uint8]:
    """The picture with one of its masks, scaled down: (h, w, 3) uint8 RGB."""
    rle = record.embeddings.rles[mask.index]
    labelled = labelled_masks(
        [rle],
        predicted_iou=[float(record.embeddings.predicted_iou[mask.index])],
        stability_score=[float(record.embeddings.stability_score[mask.index])],
        point_coords=[(0.0, 0.0)],
        score=[mask.probability],
        class_id=[mask.class_id],
        class_names=classes,
        uncertainty=[mask.uncertainty],
    )
    return overlay(image, ImageLabels(record.embeddings.size_hw, tuple(labelled), 0.0), max_side=_PICTURE_SIDE)


def training_report(
    title: str,
    facts: Sequence[tuple[str, str]],
    result: TrainingResult,
    certain: Sequence[tuple[NDArray[np.uint8], str]],
    uncertain: Sequence[tuple[NDArray[np.uint8], str]],
    scenes: Sequence[tuple[NDArray[np.uint8], str]] = (),
    pictures: Mapping[str, int] = MappingProxyType({}),
    measured: MeasuredScenes | None = None,
) -> str:
    """The page.

    Args:
        title: its heading.
        facts: (name, value) about the training.
        result: the result of training.
        certain: captioned pictures of the most certain masks of held-out exemplars.
        uncertain: the same of the most uncertain ones.
        scenes: captioned real pictures with what the head finds in them; none if none were given.
        pictures: number of exemplars by class.
        measured: figures on annotated scenes; None without such.
    """
    curves = "".join(_curves(stage, result.history) for stage in ("teacher", "student"))
    body = [
        facts_list(facts),
        _legend(result.head.spec.classes, pictures),
        *_scenes(scenes),
        *_measured(measured),
        f'<h2>Loss</h2>\n<div class="row">{curves}</div>',
        "<h2>Held-out exemplars: true class (row) and class with the highest score (column)</h2>",
        f"<p>{_HELD_OUT}</p>",
        _confusion_table(result.head.spec.classes, result.confusion),
        "<h2>Held-out exemplars: is a mask as often right as it is probable?</h2>",
        _reliability_chart(held_out_reliability(result.head, result.held_out)),
        f'<h2>Most certain masks of held-out exemplars</h2>\n<div class="gallery">{_gallery(certain)}</div>',
        f'<h2>Most uncertain masks: look at these first</h2>\n<div class="gallery">{_gallery(uncertain)}</div>',
    ]
    return html_page(title, "\n".join(body), style=_STYLE, max_width_px=1400)


_HELD_OUT = (
    "Held-out exemplars are pictures that the head did not learn from. Like the others each shows one object, mostly "
    "large and alone. In real pictures, with many things that are small or half hidden, the head is right less often: "
    "look at scenes of your own (<code>--scenes DIR</code>), or measure with <code>everymask evaluate stored</code>."
)


def _legend(classes: Sequence[str], pictures: Mapping[str, int]) -> str:
    """The colour of each class, and its number of exemplars."""
    colours = mask_colours(len(classes)).tolist()
    items = "".join(
        f'<li><i style="background: rgb({red} {green} {blue})"></i>{escape(name)}'
        f"{f' <b>{pictures[name]:,}</b>' if name in pictures else ''}</li>"
        for name, (red, green, blue) in zip(classes, colours, strict=True)
    )
    title = "Classes, their colours on this page, and their exemplars" if pictures else "Classes, and their colours"
    return f'<h2>{title}</h2>\n<ul class="legend">{items}</ul>'


def _scenes(pictures: Sequence[tuple[NDArray[np.uint8], str]]) -> list[str]:
    if not pictures:
        return []
    note = "As <code>everymask label</code> would label them with this head."
    return [f'<h2>What the head finds in scenes</h2>\n<p>{note}</p>\n<div class="scenes">{_gallery(pictures)}</div>']


def _measured(figures: MeasuredScenes | None) -> list[str]:
    if figures is None:
        return []
    columns = list(next(iter(figures.rows.values())))
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    rows = "".join(
        f"<tr><th>{escape(name)}</th>{''.join(f'<td>{_shown(value)}</td>' for value in row.values())}</tr>"
        for name, row in figures.rows.items()
    )
    note = f"In %, on {counted(figures.images, 'annotated scene')}, none of which the head learnt from."
    table = f'<table class="measured"><tr><th></th>{head}</tr>{rows}</table>'
    return [f'<h2>How right it is there</h2>\n<p>{note}</p>\n<div class="wide">{table}</div>']


def _shown(value: float | int | None) -> str:
    if value is None:
        return "–"
    return f"{100 * value:.1f}" if isinstance(value, float) else f"{value:,}"


def _curves(stage: str, history: Sequence[Epoch]) -> str:
    """Training and held-out loss of a stage over its epochs, as SVG; empty when the stage was not trained."""
    epochs = [epoch for epoch in history if epoch.stage == stage]
    if not epochs:
        return ""
    lines = {
        "training": [(epoch.number, epoch.training_loss) for epoch in epochs],
        "held out": [(epoch.number, epoch.held_out_loss) for epoch in epochs if epoch.held_out_loss is not None],
    }
    values = [value for points in lines.values() for _, value in points]
    low, high = min(values), max(max(values), min(values) + 1e-6)
    width, height, left, bottom = 420, 220, 46, 28
    step = (width - left - 12) / max(len(epochs) - 1, 1)

    def place(number: int, value: float) -> str:
        x = left + (number - 1) * step
        y = 12 + (high - value) / (high - low) * (height - bottom - 12)
        return f"{x:.1f},{y:.1f}"

    drawn = "".join(
        f'<polyline class="{name.replace(" ", "-")}" points="{" ".join(place(*point) for point in points)}"/>'
        for name, points in lines.items()
    )
    return f"""<figure class="curve"><svg viewBox="0 0 {width} {height}" role="img" aria-label="loss of the {stage}">
<text x="4" y="18">{high:.2f}</text><text x="4" y="{height - bottom}">{low:.2f}</text>
<text x="{left}" y="{height - 6}">epoch 1</text>
<text x="{width - 12}" y="{height - 6}" text-anchor="end">{len(epochs)}</text>{drawn}</svg>
<figcaption>{stage}: <span class="training">training loss</span> · <span class="held-out">held-out loss</span>\
</figcaption></figure>"""


def _confusion_table(classes: Sequence[str], confusion: torch.Tensor) -> str:
    if int(confusion.sum()) == 0:
        return "<p>No picture was held out.</p>"
    head = "".join(f"<th><span>{escape(name)}</span></th>" for name in classes)
    rows = []
    for name, counts in zip(classes, confusion.tolist(), strict=True):
        total = sum(counts)
        right = counts[classes.index(name)]
        cells = "".join(
            f'<td style="--share:{count / max(total, 1):.3f}">{count if count else ""}</td>' for count in counts
        )
        accuracy = f"{right / total:.0%} of {total}" if total else "none held out"
        rows.append(f"<tr><th>{escape(name)}</th>{cells}<td class='accuracy'>{accuracy}</td></tr>")
    header = f"<tr><th></th>{head}<th>right</th></tr>"
    return f'<div class="wide"><table class="confusion">{header}{"".join(rows)}</table></div>'


def _reliability_chart(found: Reliability | None) -> str:
    """Probability (x) against the share of masks that is right (y), as SVG; a dot's area grows with its masks."""
    if found is None:
        return "<p>No mask of a held-out picture was taken for one of the classes.</p>"
    side, left, bottom = 220, 46, 28
    masks, most = sum(each.count for each in found.bins), max(each.count for each in found.bins)

    def place(probability: float, right: float) -> tuple[float, float]:
        return left + probability * side, 12 + (1 - right) * side

    points = [(*place(each.probability, each.right), each) for each in found.bins]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{2 + 6 * (each.count / most) ** 0.5:.1f}">'
        f"<title>{counted(each.count, 'mask')} at {each.probability:.0%}, {each.right:.0%} right</title></circle>"
        for x, y, each in points
    )
    (x0, y0), (x1, y1) = place(0, 0), place(1, 1)
    auroc = found.wrong_name_auroc
    doubt = "none is wrong, or all are" if auroc is None else f"AUROC {auroc:.2f}"
    return f"""<figure class="curve"><svg viewBox="0 0 {left + side + 180} {12 + side + bottom}" role="img" \
aria-label="share of masks that is right, by probability">
<line x1="{x0}" y1="{y0}" x2="{x1}" y2="{y1}"/><polyline class="training" points="{line}"/>{dots}
<text x="4" y="18">100%</text><text x="4" y="{12 + side}">0%</text>
<text x="{left}" y="{side + bottom + 6}">probable 0%</text>
<text x="{left + side}" y="{side + bottom + 6}" text-anchor="end">100%</text></svg>
<figcaption>share that is right, of {counted(masks, "mask")} · calibration error {found.calibration_error:.1%} · \
uncertainty tells of wrong ones: {doubt}</figcaption></figure>"""


def _gallery(pictures: Sequence[tuple[NDArray[np.uint8], str]]) -> str:
    return "".join(
        f'<figure><img loading="lazy" src="{data_uri(picture)}" alt="{escape(caption)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
        for picture, caption in pictures
    )


_STYLE = """
.row { display: flex; flex-wrap: wrap; gap: 1rem; }
figure { margin: 0; overflow: hidden; background: var(--card); border: 1px solid var(--line); border-radius: .6rem; }
figcaption { padding: .4rem .6rem; font-size: .85rem; color: var(--soft); }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(10.5rem, 1fr)); gap: .75rem; }
.scenes { display: grid; grid-template-columns: repeat(auto-fill, minmax(18rem, 1fr)); gap: .75rem; }
.scenes img { display: block; width: 100%; }
.legend { display: flex; flex-wrap: wrap; gap: .4rem 1.2rem; margin: 0; padding: 0; list-style: none; }
.legend i { display: inline-block; width: .8rem; height: .8rem; margin-right: .4rem; border-radius: .2rem; }
.legend b { color: var(--soft); font-weight: 400; }
.gallery img { display: block; width: 100%; height: 10.5rem; object-fit: contain; }
.curve { flex: 1 1 22rem; max-width: 36rem; }
svg { display: block; width: 100%; }
svg text { fill: var(--soft); font-size: 12px; }
polyline { fill: none; stroke-width: 2; stroke-linejoin: round; }
polyline.training { stroke: var(--first); }
polyline.held-out { stroke: var(--second); }
svg line { stroke: var(--line); stroke-dasharray: 4; }
circle { fill: var(--first); }
span.training { color: var(--first); }
span.held-out { color: var(--second); }
.wide { overflow-x: auto; }
.confusion { border-collapse: collapse; font-size: .85rem; }
.confusion th { font-weight: 600; padding: .25rem .5rem; text-align: left; white-space: nowrap; }
.confusion tr:first-child th span { writing-mode: vertical-rl; }
.confusion tr:first-child th { vertical-align: bottom; }
.confusion td { text-align: center; min-width: 2.1rem; padding: .3rem; border: 1px solid var(--line);
  background: color-mix(in srgb, var(--first) calc(var(--share, 0) * 70%), transparent); }
.confusion td.accuracy { white-space: nowrap; padding: .3rem .6rem; }
.measured { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.measured th, .measured td { padding: .25rem .9rem .25rem 0; text-align: right; }
.measured th:first-child { text-align: left; }
"""
