"""A large input is cut into shards that never move; what of a sealed one must be done anew is, and nothing else."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from data_jobs.label_dataset import command as label
from data_jobs.labelling.changes import settle_changes
from data_jobs.labelling.id_set import IdSet
from data_jobs.labelling.inputs import ImageRef, list_images
from data_jobs.labelling.listing import Listed, Listing
from data_jobs.labelling.manifests import Manifest, to_ref
from data_jobs.labelling.manifests import to_table as manifest_table
from data_jobs.labelling.resume import Finished, reopen_asked, settle_store
from data_jobs.labelling.shard_addresses import forget_addresses, has_secrets, renew_addresses
from data_jobs.labelling.sharding import (
    add_listed,
    cut,
    drop_unlabelled,
    note_versions,
    pending_of,
    write_shard,
)
from everymask.errors import ConfigurationError
from everymask.files.addresses import AddressPolicy
from everymask.images.decoding import ImageLimits
from everymask.labels.rows import ImageRow, to_table
from everymask.labels.sealing import erase_from_shard, seal_shard, tidy_all
from everymask.labels.shards import Shard, manifest_rows, shards_of
from everymask.labels.store import LabelStore
from everymask.records import ImageLabels, Member
from tests.cut_filesystem import CutFileSystem, Killed, address, register

CONFIG = "c" * 64


@pytest.fixture
def store(tmp_path: Path) -> LabelStore:
    return LabelStore(str(tmp_path / "store"))


def refs(numbers: Iterable[int]) -> Iterator[ImageRef]:
    for number in numbers:
        yield ImageRef(f"{number:02d}.jpg", f"/in/{number:02d}.jpg", 7, f"mtime:{number}")


def listed(shard: Shard) -> list[ImageRef]:
    return [to_ref(row) for row in manifest_rows(shard.manifest_files())]


def label_shard(store: LabelStore, shard: Shard, broken: str = "") -> None:
    """Give every pending image of a shard its row, and seal it."""
    done = settle_store(store, shard=shard)
    for image in pending_of(store, shard, done.ids).read():
        failed = image.image_id == broken
        labels = None if failed else ImageLabels((8, 8), (), 0.0)
        found = Path(image.uri).read_bytes() if os.path.exists(image.uri) else image.image_id.encode()
        row = ImageRow(image.image_id, image.uri, labels, "lost" if failed else None, hashlib.sha256(found).hexdigest())
        table = to_table([row])
        for name in ("file_size", "file_version"):
            table = table.set_column(
                table.schema.get_field_index(name), table.schema.field(name), [[getattr(image, name)]]
            )
        store.write_part(table, {"method": "amg"}, shard=shard.number)
    seal_shard(store, shard, CONFIG)


def ids(store: LabelStore) -> list[str]:
    return sorted(row.image_id for row in store.images())


def test_shards_hold_what_is_listed_in_order_and_the_last_one_fewer(store: LabelStore) -> None:
    images = list(refs(range(7)))
    images[2] = ImageRef("t/x", "/t.tar", member=Member("range", "x", 512, 9), error="cut short")
    shards = list(cut(store, iter(images), 3))
    assert [[image.image_id for image in listed(shard)] for shard in shards] == [
        ["00.jpg", "01.jpg", "t/x"],
        ["03.jpg", "04.jpg", "05.jpg"],
        ["06.jpg"],
    ]
    assert list(itertools.chain(*map(listed, shards))) == images
    assert list(cut(store, iter(()), 3)) == []
    assert [shard.number for shard in cut(store, refs([9]), 3)] == [3]


def test_a_shard_is_there_before_the_next_is_listed(store: LabelStore) -> None:
    def slow() -> Iterator[ImageRef]:
        yield from refs(range(3))
        raise RuntimeError("the listing went on")

    assert len(listed(next(cut(store, slow(), 3)))) == 3


def test_images_that_appear_later_go_into_new_shards_and_an_image_listed_twice_into_none(store: LabelStore) -> None:
    for shard in cut(store, refs(range(4)), 2):
        label_shard(store, shard)
    known = IdSet()
    add_listed(store, known)
    later = Listing(store, [*refs([9]), *refs(range(4)), *refs([9, 1, 5])], known)
    assert [image.image_id for image in later.new()] == ["09.jpg", "05.jpg"]
    assert (later.listed, later.changed.images) == (6, 0)


def test_shards_without_a_row_are_cut_anew_and_others_stay(store: LabelStore) -> None:
    first, _, third = cut(store, refs(range(5)), 2)
    label_shard(store, first)
    store.write_part(to_table([ImageRow("04.jpg", "/in/04.jpg", None, "lost")]), shard=third.number)
    drop_unlabelled(store)
    assert [shard.number for shard in shards_of(store.root)] == [0, 2]


def test_what_is_pending_of_a_shard_is_what_has_no_row(store: LabelStore) -> None:
    (shard,) = cut(store, refs(range(5)), 9)
    for number in (1, 3):
        store.write_part(to_table([ImageRow(f"{number:02d}.jpg", "/x", None, "lost")]), shard=0)
    settled = settle_store(store, shard=shard)
    assert len(settled.ids) == 2
    pending = pending_of(store, shard, settled.ids)
    assert [image.image_id for image in pending.read()] == ["00.jpg", "02.jpg", "04.jpg"]
    assert len(settle_store(store).ids) == 0
    assert pending_of(store, shard, settle_store(store, retry_failed=True, shard=shard).ids).images == 5


def signed(number: int, signature: str = "v3ry-s3cret-1") -> ImageRef:
    return ImageRef(f"{number}", f"https://host/{number}.jpg?X-Amz-Signature={signature}")


def test_signed_addresses_are_kept_beside_a_shard_until_it_is_sealed(store: LabelStore) -> None:
    given = [signed(1), ImageRef("2", "/in/a#b?.jpg"), signed(3)]
    shard = write_shard(store, 0, [manifest_table(given)])
    assert shard is not None
    kept = list(manifest_rows(shard.manifest_files()))
    assert [row["uri"] for row in kept] == [
        "https://host/1.jpg?X-Amz-Signature=***",
        "/in/a#b?.jpg",
        "https://host/3.jpg?X-Amz-Signature=***",
    ]
    assert list(pending_of(store, shard, IdSet()).read()) == given
    note_versions(shard, {"3": signed(3, "an0ther-s3cret-2")})
    erase_from_shard(store, shard, frozenset({"1"}))
    assert list(pending_of(store, shard, IdSet()).read()) == [given[1], signed(3, "an0ther-s3cret-2")]
    forget_addresses(shard)
    Manifest.at(store.pending)
    files = [path for path in Path(store.root.path).rglob("*") if path.is_file()]
    assert files
    assert not any("s3cret" in str(pq.read_table(path).to_pylist()) for path in files)


@pytest.mark.parametrize("forgotten", [True, False])
def test_a_later_listing_renews_the_signatures_of_the_images_that_it_has(store: LabelStore, forgotten: bool) -> None:
    given = [signed(1), ImageRef("2", "/in/2.jpg"), signed(3), signed(4)]
    shard, other = (
        write_shard(store, place, [manifest_table(some)]) for place, some in enumerate((given[:3], given[3:]))
    )
    assert shard is not None
    assert other is not None
    if forgotten:
        forget_addresses(shard)
    later = [signed(9, "n3w"), signed(3, "n3w"), ImageRef("2", "/in/2.jpg"), signed(4, "n3w"), signed(3, "n3w")]
    renew_addresses([shard], later)
    first = ImageRef("1", "https://host/1.jpg?X-Amz-Signature=***") if forgotten else given[0]
    assert list(pending_of(store, shard, IdSet()).read()) == [first, given[1], signed(3, "n3w")]
    assert list(pending_of(store, other, IdSet()).read()) == [given[3]], "a shard that was not asked for"
    assert "n3w" not in str(list(manifest_rows(shard.manifest_files())))
    renew_addresses([shard], ())
    assert list(pending_of(store, shard, IdSet()).read())[2] == signed(3, "n3w")


def test_only_shards_of_signed_addresses_are_listed_again(store: LabelStore) -> None:
    plain, secret = (
        write_shard(store, 0, [manifest_table(list(refs([1])))]),
        write_shard(store, 1, [manifest_table([signed(1)])]),
    )
    assert plain is not None
    assert secret is not None
    assert (has_secrets(plain), has_secrets(secret)) == (False, True)


def test_only_shards_with_errors_are_opened_to_retry_them(store: LabelStore) -> None:
    for shard in cut(store, refs(range(4)), 2):
        label_shard(store, shard, broken="02.jpg")
    before = {part.name for part in store.parts()}
    finished = Finished()
    reopen_asked(store, retry_failed=True, verify=False, finished=finished)
    assert finished.dropped == 1
    first, second = shards_of(store.root)
    assert [group.is_sealed for group in store.groups()] == [True, False]
    assert {part.name for part in store.parts()} & before == {part.name for part in store.groups()[0].parts}
    label_shard(store, second)
    assert [group.is_sealed for group in store.groups()] == [True, True]
    assert (len(ids(store)), store.summary().errors) == (4, 0)
    assert first.seal() == store.groups()[0].seal


def test_a_damaged_part_of_a_sealed_shard_is_found_when_asked_and_its_images_are_pending(store: LabelStore) -> None:
    for shard in cut(store, refs(range(4)), 2):
        label_shard(store, shard)
    part = Path(store.groups()[1].parts[0])
    part.write_bytes(part.read_bytes()[:-20])
    finished = Finished()
    reopen_asked(store, retry_failed=False, verify=True, finished=finished)
    assert (finished.dropped, len(finished.notes)) == (2, 1)
    assert ids(store) == ["00.jpg", "01.jpg"]
    label_shard(store, Shard(store.root, 1))
    assert len(ids(store)) == 4


def test_files_that_do_not_count_are_deleted(store: LabelStore) -> None:
    for shard in cut(store, refs(range(4)), 2):
        label_shard(store, shard)
    store.write_part(to_table([ImageRow("00.jpg", "/late", None, "a dead driver's last write")]), shard=0)
    Path(store.labels.child("000001-deadbeef-0000.parquet")).write_bytes(b"left over")
    tidy_all(store)
    assert sorted(path.name for path in Path(store.labels).iterdir()) == sorted(part.name for part in store.parts())


def test_an_edited_file_of_a_sealed_shard_opens_that_shard_and_is_looked_at_once(
    store: LabelStore, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.jpg").write_bytes(b"%d" % number)
        os.utime(folder / f"{number}.jpg", ns=(10**18, 10**18))
    for shard in cut(store, list_images(str(folder)), 2):
        label_shard(store, shard)
    (folder / "3.jpg").write_bytes(b"edited")
    os.utime(folder / "0.jpg", ns=(2 * 10**18, 2 * 10**18))

    def again() -> Manifest:
        known = IdSet()
        add_listed(store, known)
        listing = Listing(store, list_images(str(folder)), known)
        assert list(listing.new()) == []
        return listing.changed

    assert again().images == 2
    changes = settle_changes(store, again(), ImageLimits(), AddressPolicy(any_local_file=True))
    assert (changes.dropped, changes.same, changes.replaced) == (1, 1, [])
    assert [shard.number for shard in changes.reopened] == [1]
    assert ids(store) == ["0.jpg", "1.jpg", "2.jpg"]
    assert again().images == 0
    label_shard(store, changes.reopened[0])
    assert ids(store) == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]
    assert again().images == 0


def test_a_list_that_is_the_same_is_known(store: LabelStore, tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    file.write_text("a.jpg\n")
    assert not Listed.of(str(file), None).is_kept_in(store)
    Listed.of(str(file), None).keep_in(store)
    assert Listed.of(str(file), None).is_kept_in(store)
    assert not Listed.of(str(file), 5).is_kept_in(store)
    file.write_text("b.jpg\n")
    assert not Listed.of(str(file), None).is_kept_in(store)
    store.listing_file.write(b"[")
    assert not Listed.of(str(file), None).is_kept_in(store)
    Listed.of(str(tmp_path), None).keep_in(store)
    assert not Listed.of(str(tmp_path), None).is_kept_in(store)  # a folder changes without a digest


def test_the_first_shard_takes_over_a_list_of_pending_images(store: LabelStore) -> None:
    pending = Manifest.at(store.pending).with_more(refs(range(9000)))
    shard = write_shard(store, 0, pending.tables())
    assert shard is not None
    assert listed(shard) == list(refs(range(9000)))
    assert write_shard(store, 1, []) is None


@pytest.mark.parametrize("size", [0, 2**20 + 1])
def test_a_shard_has_a_most_images(size: int) -> None:
    with pytest.raises(ConfigurationError, match=rf"shard-images must be from 1 to 1,048,576, .*; got {size}"):
        label.parse(["--input", "a", "--output", "b", "--shard-images", f"{size}"])


def run(store: LabelStore, images: list[ImageRef]) -> None:
    """What a run does with a store, without Ray."""
    tidy_all(store)
    drop_unlabelled(store)
    for shard in shards_of(store.root):
        label_shard(store, shard)
    known = IdSet()
    add_listed(store, known)
    for shard in cut(store, Listing(store, images, known).new(), 3):
        label_shard(store, shard)


def test_killed_anywhere_a_run_in_shards_goes_on_to_one_row_for_each_image(tmp_path: Path) -> None:
    register()
    images = list(refs(range(5)))
    expected = [image.image_id for image in images]
    for changes in itertools.count(0, 3):
        place = tmp_path / f"{changes}"
        store = LabelStore(address(place))
        CutFileSystem.cut_after(changes)
        try:
            run(store, images)
            break
        except Killed:
            CutFileSystem.cut_after(None)
        there = ids(store) if store.parts() else []
        assert len(set(there)) == len(there)
        run(store, images)
        assert ids(store) == expected
        assert all(group.is_sealed for group in store.groups())
        assert len(list((place / "labels").glob("[!.]*"))) == len(store.parts())
    CutFileSystem.cut_after(None)
    assert changes > 15
