"""Images inside files are listed, and each is opened again by where it lies."""

from __future__ import annotations

import gzip
import tarfile
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_jobs.labelling.inputs import list_images
from data_jobs.labelling.resume import settle_store, write_pending
from data_jobs.labelling.skipped import Skipped
from everymask.errors import ConfigurationError, InputError
from everymask.images.decoding import ImageLimits
from everymask.images.files import read_members
from everymask.labels.rows import ImageRow, to_table
from everymask.labels.store import LabelStore
from everymask.records import ImageLabels
from tests.images.sources.holding import ANYTHING, LIMITS, huggingface, ids, listed, loaded, picture, samples, shard


@pytest.mark.parametrize("ending", [".tar", ".tar.gz"])
def test_every_image_of_a_shard_is_listed_and_opened_again(tmp_path: Path, ending: str) -> None:
    path = shard(tmp_path / f"train-000{ending}", samples(0, 40))
    images = listed(path)
    assert [image.image_id for image in images] == [f"train-000{ending}/{number:04d}" for number in range(40)]
    expected = {f"train-000{ending}/{number:04d}": picture(number) for number in range(40)}
    assert {name: data for name, _, data in loaded(images, tmp_path)} == expected
    member = images[17].member
    assert member is not None
    assert (member.kind, member.name, images[17].file_size) == (
        "range" if ending == ".tar" else "scan",
        "0017.png",
        len(picture(17)),
    )
    assert read_members(str(path), [member], LIMITS, ANYTHING) == [picture(17)]


def test_one_image_of_a_tar_is_one_range_of_its_bytes(tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tar", samples(0, 3))
    member = listed(path)[1].member
    assert member is not None
    assert member.offset is not None
    assert member.size is not None
    assert path.read_bytes()[member.offset : member.offset + member.size] == picture(1)


def test_shards_come_by_number_by_glob_and_as_a_folder(tmp_path: Path) -> None:
    for number in range(3):
        shard(tmp_path / "in" / f"train-{number:03d}.tar", samples(10 * number, 2))
    expected = [f"train-{number:03d}.tar/{key:04d}" for number in range(3) for key in (10 * number, 10 * number + 1)]
    assert ids(f"{tmp_path}/in/train-{{000..002}}.tar") == expected
    assert ids(f"{tmp_path}/in/*.tar") == expected
    assert ids(tmp_path / "in") == expected
    missing = listed(f"{tmp_path}/in/train-{{002..003}}.tar")[-1]
    assert (missing.image_id, missing.error) == ("train-003.tar", "the file is not there")
    with pytest.raises(ConfigurationError, match="counts from 3 to 1"):
        listed(f"{tmp_path}/in/train-{{3..1}}.tar")


def test_a_folder_with_images_of_its_own_is_read_as_ever_and_its_shards_are_counted(tmp_path: Path) -> None:
    (tmp_path / "one.png").write_bytes(picture(0))
    shard(tmp_path / "backup.tar", samples(0, 2))
    skipped = Skipped()
    assert [image.image_id for image in list_images(str(tmp_path), None, skipped)] == ["one.png"]
    assert str(skipped) == "skipped: 1 .tar (a glob of them as --input takes them)"


def test_several_images_of_one_key_have_names_of_their_own(tmp_path: Path) -> None:
    members = [("a/1.left.png", picture(1)), ("a/1.right.png", picture(2)), ("a/1.right.png", picture(3))]
    path = shard(tmp_path / "x.tar", members)
    images = listed(path)
    assert [image.image_id for image in images] == ["x.tar/a/1", "x.tar/a/1.right.png", "x.tar/a/1.right.png#2"]
    assert [data for _, _, data in loaded(images, tmp_path)] == [picture(1), picture(2), picture(3)]


@pytest.mark.parametrize("keep", [0.5, 0.77])
def test_a_shard_that_is_cut_short_gives_what_there_is_and_one_row(tmp_path: Path, keep: float) -> None:
    path = shard(tmp_path / "x.tar", samples(0, 30))
    content = path.read_bytes()[: 30 * 2048 + 512]
    path.write_bytes(content[: int(len(content) * keep)])
    *images, rest = listed(path)
    assert 5 < len(images) < 30
    assert [data for _, _, data in loaded(images, tmp_path)] == [picture(number) for number in range(len(images))]
    assert rest.image_id == "x.tar"
    assert rest.error is not None
    assert "cut short" in rest.error
    assert loaded([rest], tmp_path) == [("x.tar", rest.error, None)]


def test_damage_in_the_middle_is_not_taken_for_the_end(tmp_path: Path) -> None:
    path = shard(tmp_path / "x.tar", samples(0, 10))
    with tarfile.open(path) as tar:
        offset = tar.getmembers()[8].offset
    content = bytearray(path.read_bytes())
    content[offset : offset + 512] = b"\xff" * 512
    path.write_bytes(content)
    *images, rest = listed(path)
    assert len(images) == 4
    assert rest.error == "the shard is damaged or cut short after its last readable image"


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("x.tar", b"", "is no tar archive"),
        ("x.tar", b"no tar" * 1000, "is no tar archive"),
        ("x.tar.gz", b"no gzip" * 1000, "is no tar archive"),
        ("x.parquet", b"PAR1", "has no column|is not a Parquet file|no whole Parquet"),
    ],
)
def test_what_is_no_container_is_one_row_or_one_sentence(tmp_path: Path, name: str, content: bytes, error: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(content)
    (found,) = listed(tmp_path / "in")
    assert found.image_id == name
    assert found.error is not None
    assert any(one in found.error for one in error.split("|"))


def test_a_shard_without_images_is_one_row(tmp_path: Path) -> None:
    (found,) = listed(shard(tmp_path / "x.tar", [("a.json", b"{}")]))
    assert found.error == "the shard holds no image"


def test_one_image_over_the_limit_spoils_no_other(tmp_path: Path) -> None:
    path = shard(tmp_path / "x.tar", [("a.png", picture(1)), ("b.png", bytes(5000)), ("c.png", picture(2))])
    members = [image.member for image in listed(path) if image.member]
    first, large, last = read_members(str(path), members, ImageLimits(max_bytes=2000), ANYTHING)
    assert (first, last) == (picture(1), picture(2))
    assert isinstance(large, InputError)
    assert "5,000 bytes" in str(large)


def test_a_resumed_run_goes_on_from_the_last_member(tmp_path: Path) -> None:
    path = shard(tmp_path / "in" / "x.tar", samples(0, 10))
    store = LabelStore(str(tmp_path / "out"))
    rows = []
    for image in listed(path)[:4]:
        row = ImageRow(image.image_id, image.uri, ImageLabels((16, 16), (), 0.0), None, "ab" * 32, 0.1)
        rows.append(replace(row, member=image.member, file_size=image.file_size, file_version=image.file_version))
    store.write_part(to_table(rows))
    assert {row.image_id: row.member for row in store.images()} == {row.image_id: row.member for row in rows}
    pending = write_pending(store, list_images(str(path)), settle_store(store).ids)
    assert [image.image_id for image in pending.manifest.read()] == [f"x.tar/{number:04d}" for number in range(4, 10)]
    assert pending.changed.images == 0


def test_a_table_with_bytes_is_read_by_row(tmp_path: Path) -> None:
    path = huggingface(tmp_path / "data" / "train.parquet", range(30))
    images = listed(path)
    assert [image.image_id for image in images] == [f"train.parquet/{row}" for row in range(30)]
    assert ids(tmp_path / "data") == ids(f"{tmp_path}/data/*.parquet") == ids(path)
    assert [data for _, _, data in loaded(images, tmp_path)] == [picture(number) for number in range(30)]
    assert images[23].member is not None
    assert read_members(str(path), [images[23].member], LIMITS, ANYTHING) == [picture(23)]


def test_a_column_of_ids_names_the_rows(tmp_path: Path) -> None:
    path = huggingface(tmp_path / "t.parquet", range(3), image_id=["a", "b", "c"])
    assert ids(path) == ["t.parquet/a", "t.parquet/b", "t.parquet/c"]


def test_a_table_of_plain_bytes_is_read_too_and_one_without_names_its_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table({"jpg": [picture(1), None], "n": [1, 2]}), tmp_path / "plain.parquet")
    found = loaded(listed(tmp_path / "plain.parquet"), tmp_path)
    assert found[0][2] == picture(1)
    assert found[1][1] == "the row holds no bytes"
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"a": [1], "b": ["x"]}), tmp_path / "in" / "none.parquet")
    (row,) = listed(tmp_path / "in")
    assert row.error == "the file has no one column of images or their addresses, only a, b; say which with --column"


def test_a_manifest_stays_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "one.png").write_bytes(picture(0))
    pq.write_table(pa.table({"uri": ["one.png"], "thumbnail": [b"x"]}), tmp_path / "list.parquet")
    assert ids(tmp_path / "list.parquet") == ["one.png"]


# ---- of strangers ------------------------------------------------------------------------------------------------


def header(name: bytes, size: int, kind: bytes = b"0") -> bytes:
    """A member's first block, with any size at all."""
    stated = b"\x80" + size.to_bytes(11, "big") if size >= 0 else (size + 2**96).to_bytes(12, "big")
    block = bytearray(name.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + stated + bytes(12) + b" " * 8 + kind)
    block = block.ljust(512, b"\0")
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


END = bytes(1024)
GOOD = header(b"good.png", len(picture(0))) + padded(picture(0))
LYING = {
    "a terabyte": (header(b"a.png", 2**40), "cut short"),
    "more than any file": (header(b"a.png", 2**80), "cut short"),
    "less than nothing": (header(b"a.png", -1), "cut short"),
    "backwards": (header(b"a.png", -1536), "cut short"),
    "an endless name": (header(b"././@LongLink", 2**40, b"L") + bytes(2**21), "bytes of headers"),
    "endless attributes": (header(b"a.png", 2**40, b"x") + bytes(2**21), "bytes of headers"),
    "names of names": (b"".join(header(b"././@LongLink", 5, b"L") + padded(b"a.png") for _ in range(2500)), "depth"),
}


@pytest.mark.parametrize("ending", [".tar", ".tar.gz"])
@pytest.mark.parametrize("what", LYING)
def test_sizes_that_lie_are_one_row_and_cost_nothing(tmp_path: Path, what: str, ending: str) -> None:
    member, problem = LYING[what]
    path = tmp_path / f"x{ending}"
    content = GOOD + member + bytes(512) + END
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    tracemalloc.start()
    try:
        (good, error, data), *others = loaded(listed(path), tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 32 * 2**20
    finally:
        tracemalloc.stop()
    assert (good, error, data) == (f"x{ending}/good", None, picture(0))
    assert all(data is None for _, _, data in others)
    # A compressed shard is read from its beginning, so a member that fits an index has a row before the end is known.
    expected = ["more than the limit", problem] if (what, ending) == ("a terabyte", ".tar.gz") else [problem]
    for part, (_, error, _) in zip(expected, others, strict=True):
        assert part in str(error)


def test_names_of_members_lead_nowhere_and_need_not_be_text(tmp_path: Path) -> None:
    names = [b"../../up.png", b"/etc/root.png", b"a\nb.png", b"S\xfcd\xff.png"]
    links = [header(b"link.png", 0, kind)[:157] + b"/etc/passwd" for kind in (b"1", b"2")]
    blocks = [header(name, len(picture(0))) + padded(picture(0)) for name in names]
    path = tmp_path / "x.tar"
    path.write_bytes(b"".join(blocks) + b"".join(tarfile_link(link) for link in links) + END)
    found = loaded(listed(path), tmp_path)
    assert [name for name, _, _ in found] == ["x.tar/../../up", "x.tar//etc/root", "x.tar/a\nb", "x.tar/S\\xfcd\\xff"]
    assert all(data == picture(0) for _, _, data in found)


def tarfile_link(block: bytes) -> bytes:
    """A link's header, with its target, summed anew."""
    summed = bytearray(block.ljust(512, b"\0"))
    summed[148:156] = b" " * 8
    summed[148:156] = b"%06o\0 " % sum(summed)
    return bytes(summed)


def test_a_small_parquet_file_is_no_gigabytes(tmp_path: Path) -> None:
    """One value that is too large, and one that is every row."""
    pq.write_table(pa.table({"image": [bytes(300 * 2**20)]}), tmp_path / "huge.parquet", compression="zstd")
    ((_, error, _),) = loaded(listed(tmp_path / "huge.parquet"), tmp_path)
    assert "unpack to 314,572,8" in str(error)
    pq.write_table(pa.table({"image": [bytes(2**20)] * 5, "id": ["x" * 70_000] * 5}), tmp_path / "ids.parquet")
    ((_, error, _),) = loaded(listed(tmp_path / "ids.parquet"), tmp_path)
    assert "a text of 70,000 bytes" in str(error)
