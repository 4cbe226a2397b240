from __future__ import annotations

import json
from pathlib import Path

import pytest
import ray

from data_jobs.make_exemplars import command as main
from everymask.classes.exemplars.manifest import load_exemplars
from tests.classes.exemplars.pictures import picture_file
from tests.classes.exemplars.tiny_diffusion import save_tiny_pipeline
from tests.files.web import website


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    for position, name in enumerate(("cat", "dog")):
        (folder / name).mkdir(parents=True)
        for number in range(3):
            (folder / name / f"{number}.jpg").write_bytes(picture_file(10 * position + number))
        (folder / name / "broken.jpg").write_bytes(b"no picture")
    return folder


def arguments(source: str, output: Path, *more: list[str]) -> list[str]:
    return ["--classes", "pets=cat+dog", "--source", source, "--output", str(output), *map(str, more)]


def test_a_folder_becomes_exemplars_with_a_manifest_and_contact_sheets(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "exemplars"
    command = arguments("folder", output, "--input", pictures)
    assert main(command) == 0

    assert [item.class_name for item in load_exemplars(output)] == ["pets"] * 6
    assert {path.name for path in (output / "sheets").iterdir()} == {"cat.jpg", "dog.jpg"}
    assert "cat (pets): 3 pictures, 1 candidate rejected" in capsys.readouterr().out
    before = (output / "manifest.jsonl").read_bytes()
    assert main(command) == 0
    assert (output / "manifest.jsonl").read_bytes() == before


def test_boxes_in_scenes_become_exemplars(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = {
        "images": [{"id": 1, "file_name": "cat/0.jpg"}, {"id": 2, "file_name": "dog/1.jpg"}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {"image_id": 1, "category_id": 1, "bbox": [0, 0, 110, 100]},
            {"image_id": 1, "category_id": 1, "bbox": [0, 0, 20, 20]},
            {"image_id": 2, "category_id": 2, "bbox": [5, 10, 100, 100]},
        ],
    }
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    command = arguments("boxes", tmp_path / "out", "--boxes", tmp_path / "boxes.json", "--input", pictures)
    assert main(command) == 0
    assert [item.origin.source for item in load_exemplars(tmp_path / "out")] == ["boxes"] * 2
    assert "cat (pets): 1 picture, 1 candidate rejected" in capsys.readouterr().out
    assert main(command[:-2]) == 2
    assert "give their folder with --input" in capsys.readouterr().err


def test_a_crawl_becomes_exemplars_beside_those_of_another_source(pictures: Path, tmp_path: Path) -> None:
    output = tmp_path / "exemplars"
    assert main(arguments("folder", output, "--input", pictures)) == 0
    with website() as site:
        results = [
            {"url": site.serve(f"/{seed}.jpg", picture_file(seed)), "license": "cc0", "creator": "Ann"}
            for seed in range(30, 34)
        ]
        more = ["--crawl.endpoint", site.search(results), "--crawl.download.allowed-private-networks", "127.0.0.1/32"]
        more += ["--crawl.download.requests-per-second", "1000000", "--crawl.images-per-subject", "5"]
        assert main(arguments("crawl", output, *more)) == 0
    exemplars = load_exemplars(output)
    assert sum(item.origin.source == "crawl" for item in exemplars) == 4
    assert sum(item.origin.subject == "cat" for item in exemplars) == 5


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--source", "folder"], "--input"),
        (["--source", "folder", "--input", "nowhere"], "nowhere"),
        (["--source", "diffusion", "--diffusion.prompt", "a photo"], "{c}"),
        (["--source", "crawl", "--duplicate-bits", "99"], "duplicate-bits"),
    ],
)
def test_bad_options_end_with_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    assert main(["--classes", "cat", "--output", str(tmp_path / "x"), *more]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(("source", "place"), [("folder", ""), ("concepts", ""), ("concepts", "exemplars")])
def test_an_output_that_the_next_run_would_take_for_input_is_refused(
    pictures: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, source: str, place: str
) -> None:
    monkeypatch.chdir(pictures)
    before = sorted(pictures.rglob("*"))
    assert main(arguments(source, pictures / place, "--input", ".")) == 2
    assert "lies in the input, where the next run would take its pictures for yours" in capsys.readouterr().err
    assert sorted(pictures.rglob("*")) == before


@pytest.mark.parametrize("classes", ["", "cat,cat"])
def test_no_class_and_a_class_named_twice_are_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], classes: str
) -> None:
    assert main(["--classes", classes, "--output", str(tmp_path / "x"), "--source", "crawl"]) == 2
    assert "class" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_a_class_without_a_usable_picture_is_named(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (pictures / "dog").glob("?.jpg"):
        path.unlink()
    assert main(arguments("folder", tmp_path / "x", "--input", pictures)) == 2
    assert "no picture of dog" in capsys.readouterr().err


def test_an_unknown_flag_exits_with_2(tmp_path: Path) -> None:
    assert main(["--classes", "cat", "--output", str(tmp_path), "--no-such-flag"]) == 2


@pytest.mark.ray
@pytest.mark.slow
def test_diffusion_makes_the_planned_pictures_and_a_second_run_only_what_is_missing(tmp_path: Path) -> None:
    model = save_tiny_pipeline(tmp_path)
    output = tmp_path / "exemplars"
    more = ["--diffusion.model", model, "--diffusion.size-px", 32, "--diffusion.num-inference-steps", 2]
    more += ["--diffusion.batch-size", 2, "--device", "cpu", "--duplicate-bits", -1]
    more += ["--pictures.min-side-px", 16, "--pictures.min-contrast", 0]
    made = {}
    for images in (1, 3):
        try:
            assert main(arguments("diffusion", output, *more, "--diffusion.images-per-subject", images)) == 0
        finally:
            ray.shutdown()
        made[images] = [json.loads(line) for line in (output / "manifest.jsonl").read_text().splitlines()]
    assert made[3][:2] == made[1]
    assert [(line["subject"], line["seed"]) for line in made[3]] == [
        ("cat", 0),
        ("dog", 0),
        ("cat", 1),
        ("cat", 2),
        ("dog", 1),
        ("dog", 2),
    ]
    prompts = [line["prompt"] for line in made[3]]
    assert prompts[:2] == ["a photo of a cat", "a photo of a dog"]
    assert len(set(prompts)) == 6, "each picture of a subject is asked for in another way"
    assert all((output / line["file"]).is_file() for line in made[3])


def test_no_source_is_chosen_for_the_user(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One of them fetches gigabytes."""
    with pytest.raises(SystemExit):
        main(["--classes", "cat", "--output", str(tmp_path / "out")])
    assert "--source" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
