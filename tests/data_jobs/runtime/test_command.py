"""Options, files and recipes become one configuration; what is typed wins over a file, and a file over a recipe."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest
import yaml

from data_jobs.runtime.command import Command, one_of
from data_jobs.runtime.config_files import config_text
from data_jobs.runtime.settings import JOINED, WITH_DECIDED, Without, as_tree, settings_of, typed
from everymask.decided import decided
from everymask.errors import ConfigurationError


@dataclass(frozen=True)
class Masks:
    """Which masks."""

    most: int | None = 256
    """At most so many; none for all."""
    nms: float = 0.7
    """Most overlap."""
    tried: int = decided(3)
    """What was tried and settled."""


@dataclass(frozen=True)
class Place:
    """Where."""

    output: str
    """The folder: a name, or `s3://…`."""
    tags: tuple[str, ...] = ()
    """Words."""


@dataclass(frozen=True)
class Config:
    """A command's settings."""

    place: Annotated[Place, JOINED]
    recipe: Literal["default", "paper"] = "default"
    """Which values."""
    keep: bool = True
    """Keep it."""
    masks: Masks = field(default_factory=Masks)
    thresholds: dict[str, float] = field(default_factory=dict)
    """By class."""


@dataclass(frozen=True)
class Tables:
    """Settings of a command that measures."""

    measured: Annotated[Masks, WITH_DECIDED] = field(default_factory=Masks)
    other: Annotated[Masks, Without(("most", "nms"))] = field(default_factory=Masks)


RAN: list[Config] = []


def run(config: Config) -> int:
    RAN.append(config)
    return 3


PAPER = {"recipe": {"paper": {"masks.most": None, "masks.nms": 1.0, "keep": False}}}
COMMAND = Command("try", Config, run, "Try it.", presets=PAPER)


def parse(*words: str) -> Config:
    return COMMAND.parse(words)


def test_settings_are_named_by_their_paths_and_decided_ones_are_none() -> None:
    paths = [setting.path for setting in settings_of(Config)]
    assert paths == ["output", "tags", "recipe", "keep", "masks.most", "masks.nms", "thresholds"]
    with pytest.raises(ConfigurationError, match=r"has no option --masks\.tried"):
        parse("--output", "x", "--masks.tried", "4")


def test_a_command_that_measures_takes_decided_settings_and_one_that_has_no_use_for_them_none() -> None:
    assert [setting.path for setting in settings_of(Tables)] == ["measured.most", "measured.nms", "measured.tried"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], (256, 0.7, True)),
        (["--recipe", "paper"], (None, 1.0, False)),
        (["--recipe=paper", "--masks.nms", "0.7"], (None, 0.7, False)),  # the default's value, and still what was typed
        (["--keep", "--masks.most=256", "--recipe", "paper"], (256, 1.0, True)),
    ],
)
def test_what_is_given_beside_a_recipe_wins(words: list[str], expected: tuple[object, ...]) -> None:
    config = parse("--output", "x", *words)
    assert (config.masks.most, config.masks.nms, config.keep) == expected


def test_a_file_stands_between_recipe_and_options(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("output: from-file\nrecipe: paper\nmasks:\n  nms: 0.5\ntags: [a, b]\nthresholds: {cat: 0.4}\n")
    config = parse("--config", str(file), "--output", "typed")
    assert (config.place.output, config.place.tags, config.thresholds) == ("typed", ("a", "b"), {"cat": 0.4})
    assert (config.masks.nms, config.masks.most) == (0.5, None)


def test_a_recipe_that_is_typed_stands_after_the_file(tmp_path: Path) -> None:
    """As options do; a run.json names every setting, and would leave a recipe nothing."""
    file = tmp_path / "run.json"
    file.write_text(json.dumps({"attempts": [{}], "settings": as_tree(parse("--output", "x", "--masks.nms", "0.5"))}))
    config = parse("--config", str(file), "--recipe", "paper", "--masks.most", "3")
    assert (config.masks.nms, config.masks.most) == (1.0, 3)
    file.write_text("output: x\nrecipe: paper\n")
    assert parse("--config", str(file), "--recipe", "default") == parse("--output", "x")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("masks: {mots: 3}\n", r"masks\.mots, which is no setting here; did you mean masks\.most"),
        ("masks: {tried: 3}\n", "which is no setting here"),
        ("- a\n- b\n", "must hold `name: value` lines"),
        ("a: [1\n", "is no YAML in line"),
        ('{"attempts": []}', "recorded no settings"),
        ('{"attempts": [], "settings": "a"}', "recorded no settings"),
        ('{"attempts": [], "settings": [1]}', "recorded no settings"),
        ("masks: &a\n  masks: *a\n", r"masks\.masks, which is no setting"),
        ("a: &a\n  b: *a\n", "sets a, which is no setting"),
        ("[" * 5000, "is no YAML"),
        ("output: 1" + "0" * 6000, "is no YAML"),
        ("output: !!python/object/apply:os.getcwd []\n", "is no YAML"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, content: str, problem: str) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(content)
    with pytest.raises(ConfigurationError, match=problem) as raised:
        parse("--output", "x", "--config", str(file))
    assert "a.yaml" in str(raised.value)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        parse("--config", str(tmp_path / "none.yaml"))


def test_the_printed_configuration_is_read_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--output=-x: #1", "--recipe", "paper", "--tags", "a b", "--thresholds", "a", "0.5"]
    assert COMMAND([*words, "--print-config"]) == 0
    text = capsys.readouterr().out
    assert "# At most so many; none for all." in text
    file = tmp_path / "a.yaml"
    file.write_text(text)
    assert parse("--config", str(file)) == parse(*words)


def test_a_printed_configuration_leaves_open_what_must_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    assert COMMAND(["--print-config"]) == 0
    text = capsys.readouterr().out
    assert "\n# output: null\n" in text
    assert "output" not in yaml.safe_load(text)


def test_run_json_is_such_a_file(tmp_path: Path) -> None:
    config = parse("--output", "x", "--masks.most", "None", "--no-keep")
    file = tmp_path / "run.json"
    file.write_text(json.dumps({"attempts": [{}], "config": {"masks": 1}, "settings": as_tree(config)}))
    assert parse("--config", str(file)) == config


def test_the_command_that_repeats_a_configuration_is_what_one_would_type() -> None:
    config = parse("--output", "a b", "--masks.nms", "0.5", "--no-keep", "--tags", "c", "d")
    line = typed("try", config)
    assert line == "everymask try '--output=a b' --tags c d --no-keep --masks.nms=0.5"


def test_help_shows_groups_and_hides_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    command = Command("try", Config, run, "Try it.", groups={"where": ("output",)})
    assert command(["--help"]) == 0
    text = capsys.readouterr().out
    assert "where:\n  --output TEXT           The folder: a name, or `s3://…`. [required]\n" in text
    assert "--masks" not in text
    assert "--print-config" in text
    assert command.parse(["--output", "x", "--masks.most", "3"]).masks.most == 3


def test_the_exit_code_is_that_of_the_work_and_2_for_what_cannot_be_understood(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert COMMAND(["--output", "x"]) == 3
    assert RAN.pop().place.output == "x"
    assert COMMAND(["--ouput", "x"]) == 2
    assert capsys.readouterr().err == "error: everymask try has no option --ouput; did you mean --output?\n"
    with pytest.raises(SystemExit) as stopped:
        COMMAND(["--output", "x", "--masks.most", "many"])
    assert stopped.value.code == 2


def test_the_script_of_several_commands_chooses_by_the_last_word(capsys: pytest.CaptureFixture[str]) -> None:
    other = Command("try other", Config, run, "")
    script = one_of((Command("try this", Config, lambda config: 7, ""), other))
    assert script(["this", "--output", "x"]) == 7
    assert script(["that"]) == 2
    assert "this|other" in capsys.readouterr().out
    assert script(["--help"]) == 0


def test_long_help_is_wrapped_in_comments_of_the_file() -> None:
    text = config_text({"output": "x", "masks": {"nms": 0.5}}, Config, "word " * 60)
    assert max(map(len, text.splitlines())) <= 100
    assert yaml.safe_load(text) == {"output": "x", "masks": {"nms": 0.5}}
