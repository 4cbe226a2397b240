"""Numbers about a part without its outlines equal those of whole rows, and single rows those of all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everymask.errors import InputError
from everymask.labels.doubt import image_doubt, mask_doubt
from everymask.labels.facts import NO_CLASS, column_or_nan
from everymask.labels.lookup import find_images, images_at
from everymask.labels.rows import ImageRow, to_table
from everymask.labels.store import LabelStore
from everymask.records import ImageLabels
from tests.labels.examples import images, labels

GOLDEN = Path(__file__).with_name("golden")
SHARE = st.floats(0, 1)


@st.composite
def rows(draw: st.DrawFn) -> list[ImageRow]:
    """Images with zero to two masks, with and without classes, and errors."""
    made = []
    for number in range(draw(st.integers(1, 5))):
        name = f"{number}.jpg"
        if draw(st.booleans()) and draw(st.booleans()):
            made.append(ImageRow(name, name, None, "it is broken"))
            continue
        masks = [
            replace(mask, score=draw(SHARE), uncertainty=draw(SHARE) if mask.class_id is not None else None)
            for mask in labels(classes=draw(st.booleans())).masks[: draw(st.integers(0, 2))]
        ]
        missed = draw(st.none() | st.floats(0, 9))
        made.append(ImageRow(name, name, ImageLabels((40, 60), tuple(masks), draw(SHARE), missed)))
    return made


@settings(max_examples=60, deadline=None)
@given(rows())
def test_facts_are_those_of_whole_rows(tmp_path_factory: pytest.TempPathFactory, made: list[ImageRow]) -> None:
    store = LabelStore(str(tmp_path_factory.mktemp("store")))
    store.write_part(to_table(made))
    ((_, facts),) = store.facts(["coverage"])
    assert facts.images["image_id"].to_pylist() == [image.image_id for image in made]
    assert facts.failed.tolist() == [image.labels is None for image in made]
    found = [image.labels.masks if image.labels else () for image in made]
    assert facts.counts.tolist() == [len(masks) for masks in found]
    masks = [mask for some in found for mask in some]
    assert facts.scores.tolist() == [mask.score for mask in masks]
    assert facts.areas.tolist() == [mask.area for mask in masks]
    assert facts.class_ids.tolist() == [NO_CLASS if mask.class_id is None else mask.class_id for mask in masks]
    assert facts.class_names == {mask.class_id: mask.class_name for mask in masks if mask.class_id is not None}
    assert facts.doubts.tolist() == [mask_doubt(mask) for mask in masks]
    expected = [1.0 if image.labels is None else image_doubt(image.labels) for image in made]
    np.testing.assert_allclose(facts.image_doubts(), expected, atol=1e-12)
    coverage = [np.nan if image.labels is None else image.labels.coverage for image in made]
    np.testing.assert_array_equal(column_or_nan(facts.images["coverage"]), coverage)


@pytest.mark.parametrize("version", [path.name for path in sorted(GOLDEN.iterdir()) if path.is_dir()])
def test_stores_of_every_format_have_facts_and_single_rows(version: str) -> None:
    store = LabelStore(str(GOLDEN / version))
    every = {image.image_id: image for image in store.images()}
    assert sum(len(facts.counts) for _, facts in store.facts()) == len(every)
    assert find_images(store, every.keys()) == every


def test_one_row_is_read_without_the_rest(tmp_path: Path) -> None:
    store = LabelStore(str(tmp_path))
    many = [replace(images()[number % 3], image_id=f"{number:04d}") for number in range(700)]
    store.write_part(to_table(many))
    (part,) = store.parts()
    assert pq.ParquetFile(part.path).num_row_groups > 1
    for chosen in ([699, 0, 300], [5], [], [255, 256]):
        assert images_at(store, part, chosen) == [many[row] for row in chosen]
    for beyond in (700, -1):
        with pytest.raises(IndexError, match="has no row"):
            images_at(store, part, [beyond])


def test_images_that_are_not_there_are_left_out(tmp_path: Path) -> None:
    store = LabelStore(str(tmp_path))
    store.write_part(to_table(images()))
    assert find_images(store, ["c.jpg", "nowhere"]) == {"c.jpg": images()[2]}


@pytest.mark.parametrize("score", [None, float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused(tmp_path: Path, score: float | None) -> None:
    store = LabelStore(str(tmp_path))
    table = to_table(images())
    altered = table["masks"].to_pylist()
    altered[0][1]["score"] = score
    column = pa.array(altered, table.schema.field("masks").type)
    store.write_part(table.set_column(table.schema.get_field_index("masks"), "masks", column))
    with pytest.raises(InputError, match="has no score"):
        list(store.facts())
