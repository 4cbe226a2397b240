"""The bound is the one that its definition gives, and `report` says it of a judged sample."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from scipy.stats import binom

from data_jobs.report import command
from everymask.errors import ConfigurationError
from everymask.labels.correction import ImageCorrection
from everymask.labels.correction_history import untouched
from everymask.labels.corrections import write_corrections
from everymask.labels.rows import to_table
from everymask.labels.store import LabelStore
from everymask.review.error_bound import largest_error
from tests.labels.examples import images


@pytest.mark.parametrize(("wrong", "judged"), [(0, 1), (0, 200), (4, 200), (17, 40), (39, 40)])
def test_at_the_bound_so_few_wrong_ones_come_up_one_time_in_twenty(wrong: int, judged: int) -> None:
    assert binom.cdf(wrong, judged, largest_error(wrong, judged)) == pytest.approx(0.05)


def test_the_ends_are_those_of_the_rule_of_three_and_of_knowing_nothing() -> None:
    assert largest_error(0, 300) == pytest.approx(0.00994, abs=1e-5)
    assert largest_error(5, 5) == 1.0
    with pytest.raises(ConfigurationError, match="of 3 judged images 4 cannot be wrong"):
        largest_error(4, 3)


def test_a_sample_is_drawn_judged_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, queue = LabelStore(str(tmp_path / "labels")), str(tmp_path / "sample.json")
    store.write_part(to_table(images()))
    assert command([store.uri, "--queue", queue]) == 0
    assert "holds 3 images" in capsys.readouterr().out
    assert command([store.uri, "--queue", queue, "--sample", "0"]) == 2
    assert "--sample 0 draws nothing; give at least 1" in capsys.readouterr().err
    assert command([store.uri, "--queue", queue, "--sample", "2"]) == 0
    assert "2 of 2 images, drawn at random" in capsys.readouterr().out
    assert command([store.uri, "--queue", queue, "--sample", "2"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert command([store.uri, "--queue", queue]) == 0
    assert "none of the images drawn at random was judged yet" in capsys.readouterr().out
    image = images()[0]
    masks = tuple(replace(mask, action="confirmed") for mask in untouched(image))
    word = ImageCorrection(image.image_id, image.content_sha256, (40, 60), "x", None, None, "2026-11-30", masks)
    write_corrections(store, [word])
    capsys.readouterr()
    assert command([store.uri, "--queue", queue]) == 0
    assert "0 wrong of 1 image drawn at random and judged: error below 95.0 % at 95 %" in capsys.readouterr().out
    assert command([store.uri, "--queue", queue, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["sampled"], told["judged"], told["wrong"]) == (2, 1, 0)
    assert told["error_below"] == pytest.approx(0.95)
