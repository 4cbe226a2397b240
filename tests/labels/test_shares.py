"""Stores of several runs open as one, and each image is in one share of an input."""

from __future__ import annotations

from pathlib import Path

import pytest

from browse.query import Query
from data_jobs.export_labels import command as export
from data_jobs.label_dataset import command as label
from data_jobs.labelling.inputs import ImageRef
from data_jobs.labelling.output import prepare
from data_jobs.labelling.share import Share
from everymask.errors import ConfigurationError, InputError
from everymask.labels.erasure import erase, erased_digests, id_digest
from everymask.labels.provenance import RunRecord, read_run, write_run
from everymask.labels.rows import ImageRow, to_table
from everymask.labels.sealing import seal_shard
from everymask.labels.shards import Shard
from everymask.labels.store import LabelStore
from everymask.review.queue import make_queue
from tests.browse.stores import collection_of
from tests.labels.examples import images
from tests.labels.shard_files import write_shard


@pytest.fixture
def together(tmp_path: Path) -> LabelStore:
    """Three runs: one with a plain part, one with a shard, one that has not begun."""
    first, second = (LabelStore(str(tmp_path / "runs" / name)) for name in ("1-of-3", "2-of-3"))
    write_run(first, RunRecord({"method": "amg"}))
    first.write_part(to_table(images()), {"method": "amg"})
    found = ImageRow("y.jpg", "/in/y.jpg", images()[0].labels, None, "ab" * 32)
    write_shard(second, 0, [found, ImageRow("z.jpg", "/in/z.jpg", None, "the file is not there")])
    return LabelStore(str(tmp_path / "runs"))


def test_rows_counts_and_configuration_are_those_of_all(together: LabelStore) -> None:
    assert sorted(image.image_id for image in together.images()) == ["a/1.jpg", "b/1.jpg", "c.jpg", "y.jpg", "z.jpg"]
    assert (together.summary().images, together.summary().errors) == (5, 2)
    assert together.configuration() == {"method": "amg"}
    record = read_run(together)
    assert record is not None
    assert record.config == {"method": "amg"}
    assert [together.name_of(part).partition("/")[0] for part in together.parts()] == ["1-of-3", "2-of-3"]
    assert [str(together.part(together.name_of(part))) for part in together.parts()] == list(map(str, together.parts()))


def test_exports_queues_and_pages_take_them_together(together: LabelStore, tmp_path: Path) -> None:
    assert export(["--labels", together.uri, "--output", str(tmp_path / "a.json"), "--processes", "1"]) == 0
    text = (tmp_path / "a.json").read_text()
    assert all(name in text for name in ("a/1.jpg", "y.jpg"))
    assert {image.image_id for image in make_queue(together, 9).images} == {"a/1.jpg", "b/1.jpg", "y.jpg"}
    view = collection_of(together, tmp_path / "cache").view
    assert len(view.find(Query())[0]) == 5


def test_an_image_is_erased_from_the_store_that_has_it_and_stays_away_there(together: LabelStore) -> None:
    seal_shard(LabelStore(together.stores()[1].uri), Shard(together.stores()[1].root, 0), "c" * 64)
    done = erase(together, ["z.jpg", "a/1.jpg"])
    assert done.rows == 2
    assert sorted(image.image_id for image in together.images()) == ["b/1.jpg", "c.jpg", "y.jpg"]
    assert all(id_digest("z.jpg") in erased_digests(store) for store in together.stores())
    assert erase(together, ["z.jpg"]).rows == 0


def test_a_folder_of_nothing_is_no_store_and_one_of_several_is_no_output(together: LabelStore, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a label store"):
        list(LabelStore(str(tmp_path / "lost")).images())
    with pytest.raises(ConfigurationError, match="holds the stores of several runs; give --shard as they did"):
        prepare(together, overwrite=False)


def test_each_image_is_in_one_share_and_a_tar_in_one(tmp_path: Path) -> None:
    refs = [ImageRef(f"{number}", f"/in/{number}.jpg") for number in range(400)]
    shares = [list(Share(number, 4).of(refs)) for number in range(1, 5)]
    assert sorted(ref.image_id for share in shares for ref in share) == sorted(ref.image_id for ref in refs)
    assert min(map(len, shares)) > 60
    inside = [ImageRef(f"t/{number}", "s3://b/t.tar?region=x") for number in range(9)]
    assert sorted(len(list(Share(number, 4).of(inside))) for number in range(1, 5)) == [0, 0, 0, 9]
    assert Share(3, 16).output("s3://b/out?region=x") == "s3://b/out/03-of-16?region=x"


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "a/b", "1/0"])
def test_a_share_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="shard must be I/N with 1 <= I <= N"):
        label.parse(["--input", "a", "--output", "b", "--shard", text])
