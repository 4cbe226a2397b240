from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from everymask.classes.config import MaskConfig
from everymask.classes.embeddings import (
    StoredEmbeddings,
    load_embeddings,
    open_embeddings,
    read_embeddings,
    write_embeddings,
)
from everymask.errors import ConfigurationError, HeadMismatchError, InputError, OutputError
from tests.classes.stored import CONFIG, record
from tests.classes.toy import ColourBackbone, picture


@pytest.fixture
def records() -> list[StoredEmbeddings]:
    one = record("a.jpg", picture([("cherry", (2, 2, 20, 20))]))
    empty = record("b.jpg", picture([]))
    none = StoredEmbeddings("c.jpg", "/images/c.jpg", "0" * 64, empty.embeddings[np.zeros(0, dtype=np.int64)])
    return [one, empty, none]


def same(first: StoredEmbeddings, second: StoredEmbeddings) -> bool:
    mine, other = first.embeddings, second.embeddings
    arrays = ("predicted_iou", "stability_score", "frame_share", "occupancy", "point_coords")
    pairs = [(getattr(mine, name), getattr(other, name)) for name in arrays]
    pairs += [(getattr(mine.features, name), getattr(other.features, name)) for name in ("token", "pooled", "crop")]
    equal = all(np.array_equal(a.ravel(), b.ravel()) and a.dtype == b.dtype for a, b in pairs)
    return equal and (mine.rles, mine.size_hw, mine.backbone) == (other.rles, other.size_hw, other.backbone)


def test_what_is_written_comes_back(records: list[StoredEmbeddings], tmp_path: Path) -> None:
    write_embeddings(tmp_path, records, CONFIG)
    loaded = load_embeddings(tmp_path)

    assert [item.image_id for item in loaded] == ["a.jpg", "b.jpg", "c.jpg"]
    assert all(same(mine, other) for mine, other in zip(records, loaded, strict=True))
    assert len(loaded[2].embeddings) == 0
    assert open_embeddings(tmp_path)[1] == CONFIG


def test_an_image_written_twice_by_a_resumed_run_counts_once(records: list[StoredEmbeddings], tmp_path: Path) -> None:
    write_embeddings(tmp_path, records, CONFIG)
    write_embeddings(tmp_path, records, CONFIG)
    write_embeddings(tmp_path, records[1:], CONFIG)
    assert len(list(tmp_path.glob("*.parquet"))) == 2
    assert sorted(item.image_id for item in load_embeddings(tmp_path)) == ["a.jpg", "b.jpg", "c.jpg"]


@pytest.mark.parametrize("last", [0, 1])
def test_of_an_edited_image_what_was_written_last_counts(
    records: list[StoredEmbeddings], tmp_path: Path, last: int
) -> None:
    """It was labelled beside others at first, and alone when it had changed, or the other way round."""
    edited = replace(records[0], content_sha256="1" * 64)
    written = [write_embeddings(tmp_path, some, CONFIG) for some in (records, [edited])]
    for number, path in enumerate(written):
        os.utime(path, (0, 1_000 + (number == last)))
    found = {item.image_id: item.content_sha256 for item in load_embeddings(tmp_path)}
    assert found == {record.image_id: record.content_sha256 for record in [*records, *([edited] if last else [])]}


def test_other_mask_settings_are_refused(records: list[StoredEmbeddings], tmp_path: Path) -> None:
    write_embeddings(tmp_path, records[:1], CONFIG)
    with pytest.raises(ConfigurationError, match="choose another directory"):
        write_embeddings(tmp_path, records[1:], MaskConfig(points_per_side=9))
    write_embeddings(tmp_path, records[1:], MaskConfig(points_per_side=8, points_per_batch=3))


def test_a_store_of_two_backbones_is_refused(records: list[StoredEmbeddings], tmp_path: Path) -> None:
    write_embeddings(tmp_path, records[:1], CONFIG)
    other = [record("d.jpg", picture([]), ColourBackbone("b" * 64))]
    with pytest.raises(ConfigurationError, match="choose another directory"):
        write_embeddings(tmp_path, other, CONFIG)
    shard = Path(write_embeddings(tmp_path / "other", other, CONFIG))
    shard.rename(tmp_path / shard.name)
    with pytest.raises(HeadMismatchError, match="mixes"):
        load_embeddings(tmp_path)


def test_a_directory_without_embeddings_says_how_to_make_them(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="--save-embeddings"):
        load_embeddings(tmp_path)


@pytest.mark.parametrize("gone", ["*.json", "*.parquet"])
def test_a_directory_with_half_of_what_embeddings_need_says_how_to_make_them(
    records: list[StoredEmbeddings], tmp_path: Path, gone: str
) -> None:
    write_embeddings(tmp_path, records, CONFIG)
    for path in tmp_path.glob(gone):
        path.unlink()
    with pytest.raises(ConfigurationError, match="--save-embeddings"):
        open_embeddings(tmp_path)


def test_a_damaged_shard_is_named(records: list[StoredEmbeddings], tmp_path: Path) -> None:
    shard = Path(write_embeddings(tmp_path, records, CONFIG))
    shard.write_bytes(shard.read_bytes()[:-30])
    with pytest.raises(InputError, match=shard.name):
        load_embeddings(tmp_path)


def test_a_table_without_the_columns_is_refused(records: list[StoredEmbeddings], tmp_path: Path) -> None:
    table = pq.read_table(write_embeddings(tmp_path, records, CONFIG))
    with pytest.raises(InputError, match="tokens"):
        read_embeddings(table.drop_columns(["tokens"]))


@pytest.mark.parametrize(
    ("column", "value"),
    [("size_hw", [0, 0]), ("size_hw", [40]), ("rle_counts", ["0"]), ("rle_counts", [None]), ("num_masks", 9)],
)
def test_a_row_that_would_crash_the_reader_is_one_sentence(
    records: list[StoredEmbeddings], tmp_path: Path, column: str, value: object
) -> None:
    table = pq.read_table(write_embeddings(tmp_path, records[:1], CONFIG))
    count = table["num_masks"][0].as_py()
    broken = value * count if column == "rle_counts" and isinstance(value, list) else value
    field = table.schema.field(column)
    changed = table.set_column(table.schema.get_field_index(column), field, pa.array([broken], type=field.type))
    with pytest.raises(InputError, match=r"mask embeddings of a\.jpg do not fit together"):
        read_embeddings(changed)


def test_an_unwritable_directory_is_named(records: list[StoredEmbeddings], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write"):
        write_embeddings(tmp_path / "file", records, CONFIG)


@pytest.mark.parametrize(
    "content",
    [
        *("{", "[]", "{}", "5", "[" * 10**5),
        *('{"version": "3"}', '{"version": 3, "masks": {}}', '{"version": "3", "masks": 5}'),
        *('{"version": "3", "masks": {"x": 1}}', '{"version": "3", "masks": {"points_per_side": "many"}}'),
    ],
)
def test_broken_settings_are_a_sentence(records: list[StoredEmbeddings], tmp_path: Path, content: str) -> None:
    write_embeddings(tmp_path, records, CONFIG)
    (tmp_path / "masks.json").write_text(content)
    with pytest.raises(ConfigurationError, match=r"masks\.json does not say how its mask embeddings were made"):
        load_embeddings(tmp_path)


def test_a_store_of_another_version_is_refused_by_name(records: list[StoredEmbeddings], tmp_path: Path) -> None:
    write_embeddings(tmp_path, records, CONFIG)
    settings = tmp_path / "masks.json"
    settings.write_text(settings.read_text().replace('"version": "3"', '"version": "1"'))
    with pytest.raises(ConfigurationError, match=r"version 1, this release reads 3; make them again") as caught:
        load_embeddings(tmp_path)
    assert str(tmp_path) in str(caught.value)
