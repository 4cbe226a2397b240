"""What commands say: with a word while one waits, not at all, or as JSON."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass

import pytest

from data_jobs.runtime.command import Command
from data_jobs.runtime.outcome import next_step, tell
from data_jobs.runtime.progress import ProgressLine
from data_jobs.runtime.waiting import waiting
from everymask.errors import InputError
from everymask.wording import counted


@dataclass(frozen=True)
class Config:
    """Count."""

    images: int = 2
    """How many."""


def run(config: Config) -> int:
    if config.images < 0:
        raise InputError("there are fewer than no images; give more")
    ProgressLine(config.images).update(1, 0)
    print(counted(config.images, "image"))
    tell(images=config.images)
    next_step("everymask browse labels")
    return 3


command = Command("count", Config, run, "Count.")


def test_what_is_printed_ends_with_the_next_line_to_type(capsys: pytest.CaptureFixture[str]) -> None:
    assert command([]) == 3
    said = capsys.readouterr()
    assert said.out == "2 images\nnext: everymask browse labels\n"
    assert "labelled 1 of 2" in said.err


def test_quiet_says_nothing_but_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["--quiet", "--images", "1"]) == 3
    assert capsys.readouterr() == ("", "")
    assert command(["--images=-1", "--quiet"]) == 2
    assert capsys.readouterr() == ("", "error: there are fewer than no images; give more\n")


def test_json_is_all_that_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["--json", "--images", "7"]) == 3
    said = capsys.readouterr()
    assert json.loads(said.out) == {"exit_code": 3, "images": 7, "next": "everymask browse labels"}
    assert said.err == ""
    assert command(["--json", "--images", "-1"]) == 2
    assert json.loads(capsys.readouterr().out) == {
        "exit_code": 2,
        "error": "there are fewer than no images; give more",
        "error_type": "InputError",
    }


def test_a_command_with_a_json_of_its_own_keeps_it() -> None:
    from everymask_cli.doctor import command as doctor

    assert doctor.help(100).count("--json") == 1


def test_whoever_waits_is_told_what_for(capsys: pytest.CaptureFixture[str]) -> None:
    told = threading.Event()
    with waiting("starting Ray", first_word_s=0.0, again_every_s=60.0):
        while "starting Ray …" not in capsys.readouterr().err:
            told.wait(0.01)
    with waiting("never told", first_word_s=60.0):
        pass
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("count", "words"), [(0, "0 classes"), (1, "1 class"), (1200, "1,200 classes")])
def test_numbers_go_with_their_nouns(count: int, words: str) -> None:
    assert counted(count, "class", "classes") == words
