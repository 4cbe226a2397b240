"""`everymask selftest` says that equal models agree, and that others do not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from segment_anything import SamAutomaticMaskGenerator, SamPredictor

from everymask.backbone.models import SAM_THRESHOLDS
from everymask.backbone.sam import build_sam
from everymask_cli.main import main
from everymask_cli.selftest import command
from everymask_cli.selftest.comparison import LIMITS, agreements, disagreements
from everymask_cli.selftest.ours import answer
from everymask_cli.selftest.pictures import pictures_in
from everymask_cli.selftest.predictors import answer_with
from everymask_cli.selftest.task import Answers, PictureAnswers, Task
from tests.tiny_sam import TINY, write_tiny_checkpoint

WEIGHTS = 3


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for name, size_hw in (("wide", (48, 80)), ("tall", (200, 77))):
        Image.fromarray(generator.integers(0, 256, (*size_hw, 3), dtype=np.uint8)).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def task(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Task:
    folder = tmp_path_factory.mktemp("task")
    np.savez(folder / "pictures.npz", **pictures_in(pictures))
    checkpoint = write_tiny_checkpoint(folder, WEIGHTS)
    return Task(
        "vit_b", str(checkpoint), True, "cpu", str(folder / "pictures.npz"), 4, None, str(folder / "answers.json")
    )


@pytest.fixture(scope="module")
def theirs(task: Task) -> Answers:
    """Of `segment_anything`, through the file that its program writes."""
    answers = Answers("segment_anything", "fp32")
    model = build_sam(TINY, seed=WEIGHTS)

    def make_generator(**settings: object) -> object:
        return SamAutomaticMaskGenerator(model, **settings)

    answer_with(SamPredictor(model), make_generator, SAM_THRESHOLDS, task, answers)
    answers.write(task.answers)
    return Answers.read(task.answers)


@pytest.fixture(scope="module")
def ours(task: Task, theirs: Answers) -> Answers:
    return answer(replace(task, thresholds=theirs.thresholds))


def test_the_same_weights_agree(theirs: Answers, ours: Answers) -> None:
    found = agreements(theirs, ours)
    assert set(found) == {"wide.png", "tall.png"}
    assert sum(agreement.automatic[0] for agreement in found.values()) >= 5
    assert disagreements(found, LIMITS["fp32"]) == []


def test_other_weights_do_not(task: Task, theirs: Answers, tmp_path: Path) -> None:
    others = replace(task, checkpoint=str(write_tiny_checkpoint(tmp_path, WEIGHTS + 1)), thresholds=theirs.thresholds)
    said = " ".join(disagreements(agreements(theirs, answer(others)), LIMITS["bf16"]))
    assert "mean IoU" in said
    assert "predicted IoUs differ" in said
    assert "automatic masks" in said


def lost(picture: PictureAnswers) -> PictureAnswers:
    return replace(picture, automatic=(picture.automatic or [])[: len(picture.automatic or []) // 2])


def doubled(picture: PictureAnswers) -> PictureAnswers:
    return replace(picture, automatic=[*(picture.automatic or []), *(picture.automatic or [])])


def unsure(picture: PictureAnswers) -> PictureAnswers:
    return replace(picture, predicted_iou=(np.array(picture.predicted_iou) + 0.002).tolist())


def swapped(picture: PictureAnswers) -> PictureAnswers:
    return replace(picture, masks=[three[::-1] for three in picture.masks])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lost, "automatic masks are found again"),
        (doubled, "automatic masks where there should be"),
        (unsure, "predicted IoUs differ by 0.002"),
        (swapped, "a mask has an IoU of"),
    ],
)
def test_each_fault_is_named(
    theirs: Answers, ours: Answers, change: Callable[[PictureAnswers], PictureAnswers], words: str
) -> None:
    wrong = replace(ours, pictures={name: change(picture) for name, picture in ours.pictures.items()})
    assert any(words in line for line in disagreements(agreements(theirs, wrong), LIMITS["fp32"]))


def test_nano_gives_its_recorded_answers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["selftest", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["agree"]
    assert len(report["pictures"]) == 3
    assert all(found["automatic"][0] > 5 for found in report["pictures"].values())
    assert {"embed", "prompts", "automatic masks", "entities: prompts", "entities: refinement"} <= set(
        report["programs"][1]["seconds"]
    )


def test_nanos_answers_do_not_depend_on_the_processor(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A processor without bf16, and without AVX at all, as PyTorch and oneDNN then compute."""
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    assert main(["selftest"]) == 0
    assert capsys.readouterr().out.endswith("next: everymask label --input IMAGES --output LABELS --model nano\n")


def test_answers_of_other_weights_are_refused(
    monkeypatch: pytest.MonkeyPatch, theirs: Answers, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = replace(theirs, pictures={}, thresholds={}, weights_sha256="0" * 64)
    monkeypatch.setattr(command, "recorded_answers", lambda: recorded)
    monkeypatch.setattr(command, "_run", lambda *words: replace(recorded, weights_sha256="1" * 64))
    assert main(["selftest"]) == 2
    assert "recorded with other weights" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--random-weights"], "goes with a model that has a publisher"),
        (["--model", "vit_b", "--random-weights", "--checkpoint", "x.pth"], "without --checkpoint"),
        (["--points-per-side", "4"], "give --model nano alone"),
        (["--precision", "bf16"], "give --model nano alone"),
        (["--model", "vit_b", "--random-weights", "--images", "EMPTY"], "holds no picture"),
        (["--model", "vit_b", "--checkpoint", "EMPTY/none.pth"], "does not exist"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(
    options: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["selftest", *(option.replace("EMPTY", str(tmp_path)) for option in options)]) == 2
    said = capsys.readouterr()
    assert words in said.err
    assert len(said.err.strip().splitlines()) == 1
    assert not said.out


def test_a_program_that_fails_is_one_sentence(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "weights.pth"
    bad.write_bytes(b"no weights")
    assert main(["selftest", "--model", "vit_b", "--checkpoint", str(bad), "--images", str(pictures)]) == 2
    error = capsys.readouterr().err
    assert "segment_anything did not answer" in error
    assert "Traceback" not in error


def test_a_package_that_pip_cannot_get_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EVERYMASK_SAM2_VENV", str(tmp_path / "venv"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert main(["selftest", "--model", "sam2.1_tiny", "--random-weights"]) == 2
    assert "cannot be installed" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "venv" / "complete").exists()


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("model", ["vit_b", "mobile_sam", "sam2.1_tiny"])
def test_random_weights_of_the_published_sizes_agree(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 500, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    options = ["--model", model, "--random-weights", "--images", str(tmp_path), "--points-per-side", "4"]
    assert main(["selftest", *options]) == 0
    said = capsys.readouterr().out
    print(said)
    assert said.rstrip().endswith("they agree")
