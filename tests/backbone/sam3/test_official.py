"""Names answered by our SAM 3 equal Meta's `sam3` package on the same random weights, with the real vocabulary.

`sam3` needs packages that contradict ours, so it runs in an environment of its own, which has everything else from this
one. `EVERYMASK_SAM3_VENV` names its folder; it is made there when it is missing.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from transformers import CLIPTokenizer

from everymask.backbone.registry import load_backbone
from everymask.backbone.sam3 import Sam3Backbone
from everymask.classes.config import ConceptsConfig
from everymask.labelling.config import LabelConfig
from everymask.labelling.label import label_images
from everymask.masks.rle import decode_mask
from everymask.records import ImageLabels
from everymask_cli.selftest.environments import python_with
from tests.backbone.official_pictures import SIZES, picture
from tests.backbone.sam3.tiny import save_tiny_sam3

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

TOLERANCE = 1e-4
NAMES = ("cat", "yellow school bus", "a person's left hand, holding 2 umbrellas", "ÉCOLE")
EXAMPLES: dict[str, list[tuple[list[float], bool]]] = {
    "boxes alone": [([0.3, 0.5, 0.25, 0.5], True)],
    "cat": [([0.25, 0.5, 0.125, 0.75], True), ([0.75, 0.375, 0.5, 0.25], False), ([0.5, 0.5, 1.0, 1.0], True)],
}
"""Boxes by the name they go with, (centre x, centre y, width, height) as shares of the picture, and whether each shows
what is meant."""
_PACKAGES = ("iopath==0.1.10", "portalocker", "ftfy", "wcwidth", "regex", "timm", "einops", "psutil")


def real_vocabulary(python: Path, folder: Path) -> tuple[CLIPTokenizer, int]:
    """The tokenizer of CLIP, from the merges that `open-clip-torch` ships; and the number of its tokens."""
    found = subprocess.run(
        [python, "-c", "import importlib.util as u; print(u.find_spec('open_clip').origin)"],
        check=True,
        capture_output=True,
        text=True,
    )
    packed = Path(found.stdout.strip()).with_name("bpe_simple_vocab_16e6.txt.gz").read_bytes()
    (folder / "vocabulary.txt.gz").write_bytes(packed)
    merges = gzip.decompress(packed).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    letters = list(map(chr, [*range(33, 127), *range(161, 173), *range(174, 256), *range(256, 324)]))
    words = [*letters, *(letter + "</w>" for letter in letters), *("".join(merge.split()) for merge in merges)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges))
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt")), len(words)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("official")
    steps = (_PACKAGES, ("open-clip-torch==3.3.0", "sam3==0.1.4"))
    python = python_with("EVERYMASK_SAM3_VENV", "test-sam3", steps, {})
    save_tiny_sam3(made, vocabulary=real_vocabulary(python, made))
    np.savez(made / "pictures.npz", **{name: picture(size_hw) for name, size_hw in SIZES.items()})
    (made / "names.json").write_text(json.dumps(NAMES))
    (made / "examples.json").write_text(json.dumps(EXAMPLES))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    script = Path(__file__).with_name("official_run.py")
    subprocess.run([python, "-W", "ignore", script, made], check=True, cwd=made, env=environment, stderr=sys.stderr)
    return made


@pytest.fixture(scope="module")
def backbone(folder: Path) -> Sam3Backbone:
    loaded = cast(Sam3Backbone, load_backbone("sam3", folder / "model.safetensors", "cpu"))
    loaded.load_concepts()
    return loaded


@pytest.fixture(scope="module")
def answers(folder: Path) -> Any:
    return torch.load(folder / "answers.pt", weights_only=True)


@pytest.mark.parametrize("name", SIZES)
def test_names_get_what_sam3_gives_them(backbone: Sam3Backbone, answers: Any, name: str) -> None:
    (embedding,) = backbone.embed([picture(SIZES[name])])
    view = backbone.view_for_concepts(embedding)
    together = backbone.find_concepts(view, NAMES, 0.0)
    worst = dict.fromkeys(("mask logits, as a share of their range", "scores", "presence"), 0.0)
    for phrase, ours in zip(NAMES, together, strict=True):
        theirs = answers[f"{name}: {phrase}"]
        (alone,) = backbone.find_concepts(view, [phrase], 0.0)
        wanted = theirs["logits"].flatten(1)
        for found in (ours, alone):
            differences = (
                float((found.logits - wanted).abs().max() / wanted.abs().max()),
                float((found.scores - theirs["scores"]).abs().max()),
                abs(found.presence - float(theirs["presence"])),
            )
            worst = {key: max(value, new) for (key, value), new in zip(worst.items(), differences, strict=True)}
    print(name, ", ".join(f"{what} {value:.2g}" for what, value in worst.items()))
    assert max(worst.values()) < TOLERANCE, worst


@pytest.mark.parametrize("name", SIZES)
def test_boxes_as_examples_get_what_sam3_gives_them(backbone: Sam3Backbone, answers: Any, name: str) -> None:
    (embedding,) = backbone.embed([picture(SIZES[name])])
    view = backbone.view_for_concepts(embedding)
    height, width = SIZES[name]
    worst = dict.fromkeys(("mask logits, as a share of their range", "scores", "presence"), 0.0)
    for phrase, asked in EXAMPLES.items():
        centred = torch.tensor([box for box, _ in asked], dtype=torch.float64)
        corners = torch.cat([centred[:, :2] - centred[:, 2:] / 2, centred[:, :2] + centred[:, 2:] / 2], dim=1)
        boxes = corners * torch.tensor([width, height, width, height])
        shown = torch.tensor([meant for _, meant in asked])
        words = "visual" if phrase == "boxes alone" else phrase
        ours, theirs = backbone.find_alike(view, boxes, shown, words, 0.0), answers[f"{name}: {phrase} with boxes"]
        wanted = theirs["logits"].flatten(1)
        (without,) = backbone.find_concepts(view, [words], 0.0)
        assert (without.scores - ours.scores).abs().max() > 10 * TOLERANCE, "the boxes change nothing"
        differences = (
            float((ours.logits - wanted).abs().max() / wanted.abs().max()),
            float((ours.scores - theirs["scores"]).abs().max()),
            abs(ours.presence - float(theirs["presence"])),
        )
        worst = {key: max(value, new) for (key, value), new in zip(worst.items(), differences, strict=True)}
    print(name, ", ".join(f"{what} {value:.2g}" for what, value in worst.items()))
    assert max(worst.values()) < TOLERANCE, worst


@pytest.mark.parametrize("name", SIZES)
def test_masks_are_those_of_sam3(backbone: Sam3Backbone, answers: Any, name: str) -> None:
    for phrase in NAMES:
        theirs = answers[f"{name}: {phrase}"]
        ranked = theirs["scores"].sort().values
        gap = int(ranked.diff().argmax())
        for threshold in (float(ranked[gap : gap + 2].mean()), 1.0):  # some, none
            asked = ConceptsConfig((phrase,), score_thresh=threshold, overlaps="keep")
            (labels,) = label_images(backbone, [picture(SIZES[name])], LabelConfig("concepts", concepts=asked))
            assert isinstance(labels, ImageLabels)
            kept = (theirs["scores"] > threshold) & theirs["masks"].flatten(1).any(dim=1)
            order = theirs["scores"][kept].argsort(descending=True)
            wanted = theirs["masks"][kept][order].numpy()
            found = np.stack([decode_mask(mask.rle) for mask in labels.masks] or [np.zeros(SIZES[name], bool)])
            assert len(labels.masks) == len(wanted)
            if len(wanted):
                assert (found != wanted).mean() < TOLERANCE


def test_the_vocabulary_reads_names_alike(backbone: Sam3Backbone, answers: Any) -> None:
    for phrase in NAMES:
        theirs = answers[f"square: {phrase}"]["tokens"]
        ours = backbone.name_tokens(phrase)
        assert theirs[: len(ours)].tolist() == ours
        assert not theirs[len(ours) :].any()
