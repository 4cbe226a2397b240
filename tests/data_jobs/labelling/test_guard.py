"""A run says what it makes, and stops where too much of it is nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from data_jobs.label_dataset import command as label
from data_jobs.labelling.cost import CostLimit
from data_jobs.labelling.estimate import Estimate, save
from data_jobs.labelling.guard import FIRST_IMAGES, Guard, LimitPassed, made, overview_of
from data_jobs.labelling.limits import tolerated
from data_jobs.labelling.prices import Prices
from everymask.errors import ConfigurationError
from everymask.labels.overview import Overview
from everymask.labels.rows import ImageRow, to_table
from everymask.labels.store import LabelStore
from everymask.records import ImageLabels
from tests.labels.examples import labels


def rows() -> pa.Table:
    found = labels(classes=True)
    one = replace(found, masks=found.masks[:1])
    return to_table(
        [
            ImageRow("many", "/many", found),
            ImageRow("one", "/one", one),
            ImageRow("none", "/none", ImageLabels((7, 9), (), 0.0)),
            ImageRow("failed", "/failed", None, "lost"),
        ]
    )


def part(images: int, errors: int = 0, empty: int = 0) -> dict[str, object]:
    return {
        "images": images,
        "errors": errors,
        "masks": 3 * images,
        "seconds": 1.0,
        "empty": empty,
        "single": 0,
        "class_names": ["cat", "dog"],
        "class_masks": [3, 1],
    }


def test_what_is_made_is_counted() -> None:
    found = made(rows())
    assert (found["empty"], found["single"]) == (1, 1)
    expected = [mask.class_name for mask in labels(classes=True).masks]
    expected.append(expected[0])
    names = [name for name in expected if name is not None]
    assert dict(zip(found["class_names"], found["class_masks"], strict=True)) == {n: names.count(n) for n in names}


def test_what_stands_out_in_a_part_comes_with_it() -> None:
    assert overview_of(made(rows())) == Overview.of_rows(rows())


def test_it_is_said_once_a_thousand_images_are_done(capsys: pytest.CaptureFixture[str]) -> None:
    guard = Guard("50%", None)
    guard.add(part(FIRST_IMAGES - 1, empty=10))
    assert capsys.readouterr().out == ""
    guard.add(part(1))
    guard.add(part(1))
    assert capsys.readouterr().out == (
        "so far 1,000 images: 1.0% empty, 0.0% with one mask, 0.0% errors, 3.0 masks each; 75% of the masks are cat\n"
    )


def test_parts_add_up() -> None:
    guard = Guard("100%", "100%")
    assert str(guard) == "no image yet"
    guard.add(part(1))
    assert str(guard).startswith("1 image: ")
    guard = Guard("100%", "100%")
    for errors, empty in ((1, 2), (3, 4)):
        guard.add({**part(50, errors, empty), "single": 5, "class_names": ["dog"], "class_masks": [2]})
    guard.add({**part(100), "class_names": [], "class_masks": []})
    assert str(guard) == (
        "200 images: 3.0% empty, 5.0% with one mask, 2.0% errors, 3.0 masks each; 100% of the masks are dog"
    )


@pytest.mark.parametrize(
    ("max_errors", "max_empty", "words"),
    [
        ("5%", None, "60 of the first 1,000 images failed, more than --max-errors 5%"),
        ("50%", "20%", "300 of the first 1,000 images have no mask, more than --max-empty 20%"),
        ("50%", "299", "more than --max-empty 299"),
    ],
)
def test_a_run_stops_where_a_limit_is_passed(max_errors: str, max_empty: str | None, words: str) -> None:
    guard = Guard(max_errors, max_empty)
    guard.add(part(FIRST_IMAGES - 1, errors=60, empty=300))
    with pytest.raises(LimitPassed, match=words):
        guard.add(part(1))
    Guard("6%", "30%").add(part(FIRST_IMAGES, errors=60, empty=300))


def test_a_run_stops_where_all_would_cost_too_much(capsys: pytest.CaptureFixture[str]) -> None:
    # 1 s for each image, at 3,600 an hour; 500 s stand in the store.
    guard = Guard("50%", None, CostLimit(4500, 1.0, before_s=500.0))
    expected = 4000
    guard.expect(lambda: expected)
    guard.add({**part(FIRST_IMAGES), "seconds": 1000.0})
    assert "all will cost about 4.5e+03\n" in capsys.readouterr().out
    expected = 4001
    with pytest.raises(LimitPassed, match=r"by the first 1,001 images all will cost about .*more than --max-cost 4500"):
        guard.add({**part(1), "seconds": 1.0})


def test_a_cost_needs_a_price_and_a_gpu(tmp_path: Path) -> None:
    store = LabelStore(str(tmp_path))
    assert CostLimit.of(None, store, store, 1) is None
    with pytest.raises(
        ConfigurationError, match=r"the output has no price of a GPU-hour; .*first run `everymask estimate`"
    ):
        CostLimit.of(9, store, store, 1)
    save(store, Estimate(4, 4, 1.0, 0.0, 1, 0.5, 0.0, prices=Prices(7.2)))
    store.write_part(to_table([ImageRow("a", "/a", None, "lost", seconds=60.0)]))
    assert CostLimit.of(9, store, store, 0.5) == CostLimit(9, 0.001, 60.0)
    with pytest.raises(ConfigurationError, match="no worker of this run has a GPU"):
        CostLimit.of(9, store, store, 0)
    with pytest.raises(ConfigurationError, match="max-cost must be an amount; got -1"):
        label.parse(["--input", "a", "--output", "b", "--max-cost", "-1"])


def test_limits_are_numbers_or_shares() -> None:
    assert (tolerated("7", 100, "max-empty"), tolerated("5%", 200, "max-empty")) == (7, 10)
    with pytest.raises(ConfigurationError, match=r"max-empty must be a number or a percentage up to 100%, .*got 'few'"):
        label.parse(["--input", "a", "--output", "b", "--max-empty", "few"])
    with pytest.raises(ConfigurationError, match="up to 100%, such as 5%; got '200%'"):
        tolerated("200%", 10, "max-empty")
