"""What each command lets a user set, frozen: a change of it is seen here, and counted."""

from __future__ import annotations

import re
from contextlib import suppress

import pytest

from data_jobs.runtime.command import Command
from data_jobs.runtime.settings import settings_of
from everymask_cli.main import COMMANDS

MODEL = ("model", "checkpoint", "device")
VISIBLE = {
    "label": (
        *("input", "output", "limit", "retry-failed", "update", "overwrite", "verify", "max-errors", "previews"),
        *("method", "head", "names", "min-region-area", "max-region-area", "tiles", "save-embeddings"),
        *(*MODEL, "actors", "gpus-per-actor", "node-labels", "batch-size", "limits.max-bytes", "limits.max-pixels"),
    ),
    "relabel": (
        *("embeddings", "head", "output", "retry-failed", "update", "overwrite", "verify", "max-errors", "previews"),
        *("recipe", "min-region-area", "max-region-area", "classes.score-thresh", "classes.class-score-thresh"),
        *("actors", "node-labels"),
    ),
    "export": (
        *(
            "labels",
            "output",
            "format",
            "segmentation",
            "task",
            "split",
            "split-by",
            "split-file",
            "images",
            "image-address",
            "tolerance",
            "max-loss",
            "queue",
        ),
        *("exemplars", "file-mib", "processes", "uncorrected", "overwrite", "local-root", "allow-private-networks"),
    ),
    "upgrade": ("labels", "output"),
    "erase": ("labels", "image-ids", "embeddings"),
    "review queue": (
        *("labels", "output", "most", "control", "seed", "pictures", "local-root", "allow-private-networks"),
    ),
    "review import": ("labels", "from", "format"),
    "review report": ("labels", "queue"),
    "report": ("labels", "sample", "queue", "seed"),
    "exemplars": (
        *("classes", "output", "source", "input", "boxes", "margin", "sheet-pictures", "queries", "duplicate-bits"),
        *("crawl.images-per-subject", "crawl.licenses", "diffusion.model", "diffusion.images-per-subject", "device"),
        *("actors", "gpus-per-actor"),
    ),
    "train classes": (
        *("exemplars", "corrections", "embeddings", "negatives", "scenes", "scenes-truth", "classes", "output", "bags"),
        *(
            "recipe",
            "composites",
            "training.features",
            "training.epochs",
            "training.seed",
            "single-object-only",
            *MODEL,
        ),
        *("actors", "gpus-per-actor"),
    ),
    "train nano": (
        *("data", "work", "output", "minutes", "borders-share", "sources", "limit", "evaluate", "threads", "seed"),
    ),
    "evaluate stored": (
        *("labels", "path", "ground-truth", "annotations", "classes", "split", "embeddings", "head", "worst"),
        *("thresholds", "uncorrected", "overlaps", "bootstrap", "max-dets", "json", "local-root"),
        "allow-private-networks",
    ),
    "compare": ("before", "after", "page", "uncorrected", "json", "local-root", "allow-private-networks"),
    "evaluate entities": (
        *("path", "ground-truth", "annotations", "limit", "table", "models", "oracle", "checkpoint", "max-dets"),
        *("bootstrap", "json", "device", "workers"),
    ),
    "evaluate classes": (
        *("path", "ground-truth", "split", "limit", "head", "names", "methods", "measured", "recipe", "by-class"),
        *(*MODEL, "bootstrap", "json", "workers"),
    ),
    "evaluate clicks": ("path", "ground-truth", "split", "min-area", "limit", *MODEL, "precision", "details", "json"),
    "evaluate proposals": ("path", "ground-truth", "split", "min-area", "limit", *MODEL, "json"),
    "browse": (
        *("labels", "service", "annotator", "splits", "queue", "host", "port", "cache"),
        *("local-root", "allow-private-networks"),
    ),
    "serve": ("config", "model", "heads", "host", "port"),
    "doctor": ("json",),
    "selftest": ("model", "checkpoint", "random-weights", "device", "precision", "images", "points-per-side", "json"),
    "ui": ("endpoint", "host", "port", "examples"),
}
VISIBLE["estimate"] = (
    "sample",
    "price-per-gpu-hour",
    "spot-price-per-gpu-hour",
    *(one for one in VISIBLE["label"] if one != "update"),
)
EVERY_COMMAND = {"help", "config", "print-config", "quiet", "json"}
MOST_VISIBLE, MOST_LINES, MOST_COLUMNS, MOST_SETTINGS = 25, 100, 100, 62


@pytest.mark.parametrize("words", [row.words for row in COMMANDS])
def test_the_visible_options_are_these(
    words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(MOST_COLUMNS))
    (command,) = [row.load() for row in COMMANDS if row.words == words]
    with suppress(SystemExit):  # as tyro, which the page uses, ends its help
        command(["--help"])
    shown = re.findall(r"^(?:  |│ )(?:-h, )?--([a-z][a-z.-]*)", capsys.readouterr().out, re.MULTILINE)
    expected = VISIBLE[words]
    assert [name for name in shown if name in expected or name not in EVERY_COMMAND] == list(expected)


def test_the_help_of_label_is_read_in_a_minute() -> None:
    (command,) = [row.load() for row in COMMANDS if row.words == "label"]
    assert isinstance(command, Command)
    lines = command.help(MOST_COLUMNS).splitlines()
    assert len(lines) <= MOST_LINES
    assert max(map(len, lines)) <= MOST_COLUMNS
    assert len(VISIBLE["label"]) <= MOST_VISIBLE
    assert len(settings_of(command.config)) <= MOST_SETTINGS


@pytest.mark.parametrize("words", [row.words for row in COMMANDS if row.words not in ("ui", "doctor")])
def test_every_setting_says_what_it_does_and_every_visible_one_exists(words: str) -> None:
    (command,) = [row.load() for row in COMMANDS if row.words == words]
    assert isinstance(command, Command)
    settings = {setting.path: setting for setting in settings_of(command.config)}
    assert [path for path, setting in settings.items() if not setting.help] == []
    assert {path for paths in command.groups.values() for path in paths} <= settings.keys()
