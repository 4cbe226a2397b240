"""Every option acts: the code reads it for more than a check, and where it would do nothing it is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_jobs.runtime.command import Command
from data_jobs.runtime.settings import settings_of
from everymask.errors import ConfigurationError
from everymask_cli.main import COMMANDS
from tests.everymask_cli.setting_reads import Reads, declared, nested

EVERY: dict[str, Command[object]] = {
    row.words: command for row in COMMANDS if isinstance(command := row.load(), Command)
}
LABEL = ["--input", "in", "--output", "out"]
HEAD = ["--head", "h.safetensors"]
EVALUATE = ["--path", "truth"]
TRAIN = ["--output", "head.safetensors"]
EXEMPLARS = ["--classes", "cat", "--output", "out"]


@pytest.fixture(scope="module")
def reads() -> Reads:
    return Reads({config for command in EVERY.values() for config in nested(command.config)})


@pytest.mark.parametrize("words", EVERY)
def test_every_setting_is_read_by_the_code_that_acts_on_it(words: str, reads: Reads) -> None:
    config, presets = EVERY[words].config, EVERY[words].presets
    unread = {
        setting.path
        for setting in settings_of(config)
        if setting.path not in presets and not reads.of[declared(config, setting)]
    }
    assert unread == set()


def test_a_setting_that_is_only_checked_or_never_read_is_found(reads: Reads) -> None:
    """What the test above believes in: it knows of a field that nothing reads but its own check."""
    stored = EVERY["evaluate stored"].config
    (annotations,) = (setting for setting in settings_of(stored) if setting.path == "annotations")
    field = declared(stored, annotations)
    assert {path.name for path in reads.of[field]} == {"pictures.py"}


@pytest.mark.parametrize(
    ("words", "base", "idle"),
    [
        ("label", LABEL, ["--amg.points-per-side=8"]),
        ("label", [*LABEL, "--method=amg"], ["--entities.points-per-side=8"]),
        ("label", LABEL, ["--classes.score-thresh=0.3"]),
        ("label", [*LABEL, "--method=classes", *HEAD], ["--clip.score-thresh=0.5"]),
        ("label", LABEL, ["--clip.score-thresh=0.5"]),
        ("label", LABEL, ["--recipe=paper"]),
        ("label", LABEL, HEAD),
        ("label", LABEL, ["--names=cat"]),
        ("label", LABEL, ["--save-embeddings=kept"]),
        ("estimate", LABEL, ["--amg.points-per-side=8"]),
        ("exemplars", [*EXEMPLARS, "--source=folder", "--input=in"], ["--margin=0.2"]),
        ("exemplars", [*EXEMPLARS, "--source=folder", "--input=in"], ["--concepts.score-thresh=0.9"]),
        ("exemplars", [*EXEMPLARS, "--source=crawl"], ["--checkpoint=sam3.safetensors"]),
        ("exemplars", [*EXEMPLARS, "--source=folder", "--input=in"], ["--queries=q.json"]),
        ("exemplars", [*EXEMPLARS, "--source=folder", "--input=in"], ["--crawl.images-per-subject=5"]),
        ("exemplars", [*EXEMPLARS, "--source=crawl"], ["--diffusion.images-per-subject=5"]),
        ("exemplars", [*EXEMPLARS, "--source=crawl"], ["--input=in"]),
        ("exemplars", [*EXEMPLARS, "--source=crawl"], ["--boxes=b.json"]),
        ("train classes", [*TRAIN, "--corrections=store"], ["--bags=kept"]),
        ("train classes", [*TRAIN, "--corrections=store"], ["--single-object-only"]),
        ("train classes", [*TRAIN, "--corrections=store"], ["--negatives=none"]),
        ("train classes", [*TRAIN, "--exemplars=in"], ["--composites=7"]),
        ("train classes", [*TRAIN, "--exemplars=in"], ["--embeddings=kept"]),
        ("train classes", [*TRAIN, "--exemplars=in"], ["--single-object.min-object-share=0.2"]),
        ("evaluate stored", [*EVALUATE, "--labels=store"], ["--split=val"]),
        ("evaluate stored", [*EVALUATE, "--labels=store"], ["--classes=cat"]),
        ("evaluate stored", [*EVALUATE, "--labels=store"], ["--worst=page.html"]),
        ("evaluate stored", [*EVALUATE, "--labels=store"], HEAD),
        ("evaluate entities", EVALUATE, ["--oracle=exact"]),
        ("evaluate entities", EVALUATE, ["--annotations=file.json"]),
        ("evaluate classes", [*EVALUATE, "--names=cat", "--ground-truth=coco_instances"], ["--split=val"]),
        ("evaluate clicks", EVALUATE, ["--split=val"]),
        ("evaluate proposals", EVALUATE, ["--split=val"]),
        ("evaluate proposals", EVALUATE, ["--amg.crop-overlap-ratio=0.2"]),
        ("evaluate entities", EVALUATE, ["--amg.crop-n-layers=1"]),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(words: str, base: list[str], idle: list[str]) -> None:
    EVERY[words].parse(base)
    with pytest.raises(ConfigurationError):
        EVERY[words].parse([*base, *idle])


def test_what_concepts_cut_out_has_surroundings_of_its_own(tmp_path: Path) -> None:
    config = EVERY["exemplars"].parse([*EXEMPLARS, "--source=concepts", "--input=in", "--margin=0.4"])
    assert config.margin == 0.4


def test_the_clips_names_have_one_option(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("clip: {names: [cat]}\n")
    for given in (["--clip.names=cat"], ["--config", str(file)]):
        with pytest.raises(ConfigurationError, match="names"):
            EVERY["label"].parse([*LABEL, "--method=clip", "--names=cat,dog", *given])
