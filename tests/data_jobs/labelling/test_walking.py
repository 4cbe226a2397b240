"""A prefix of a bucket is listed page by page, the next folders meanwhile, in the order of a listing in one go."""

from __future__ import annotations

import pyarrow.fs as pafs
import pytest

from benchmarks.loopback_bucket import serving
from data_jobs.labelling.inputs import list_images
from data_jobs.labelling.skipped import Skipped
from everymask.errors import ConfigurationError
from everymask.files.objects import pages
from everymask.files.storage import resolve

FLAT = [f"photos/{number:06d}.jpg" for number in range(30_000)]
NESTED = sorted(
    [f"photos/{folder}/{number:05d}.jpg" for folder in ("a", "a-b", "a b", "ä", "z/deep") for number in range(1100)]
    + ["photos/.hidden.jpg", "photos/last.jpg", "photos/first+%.jpg", "photos/folder/", "photo/beside.jpg"]
)


def test_the_first_image_comes_before_the_rest_is_listed() -> None:
    with serving(FLAT) as bucket:
        images = list_images(bucket.uri("photos"))
        assert next(images).image_id == "000000.jpg"
        # What is looked at first, the first pages, and those that are asked for meanwhile: not all thirty.
        assert len(bucket.requests) < 22
        assert [image.image_id for image in images] == [key.removeprefix("photos/") for key in FLAT[1:]]


def test_pages_have_what_one_listing_has(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(NESTED) as bucket:
        filesystem, path = resolve(bucket.uri("photos"))
        for folder in (path, f"{path}/a", f"{path}/nothing", "bucket"):
            found = [entry for page in pages(filesystem, folder) for entry in page]
            whole = filesystem.get_file_info(pafs.FileSelector(folder, allow_not_found=True))
            key = lambda info: (info.path, str(info.type), info.size, info.mtime_ns)  # noqa: E731
            assert sorted(map(key, found)) == sorted(map(key, whole))
        in_pages = list(list_images(bucket.uri("photos")))
        assert len(in_pages) == 5 * 1100 + 2
        monkeypatch.setattr("everymask.files.objects._client_of", lambda filesystem, attempts: None)
        whole = list(list_images(bucket.uri("photos")))
    assert [(image, image.file_size, image.file_version) for image in in_pages] == [
        (image, image.file_size, image.file_version) for image in whole
    ]


def test_a_large_label_store_in_a_bucket_is_passed_over() -> None:
    store = [f"photos/{number:06d}.jpg" for number in range(9000)] + ["photos/labels/part", "photos/run.json"]
    skipped = Skipped()
    with serving(sorted(store)) as bucket:
        assert list(list_images(bucket.uri("photos"), skipped=skipped)) == []
    assert "label stores" in str(skipped)


def test_a_bucket_that_is_gone_meanwhile_is_one_sentence() -> None:
    with serving(FLAT) as bucket:
        images = list_images(bucket.uri("photos"))
        next(images)
        bucket.status = 403
        with pytest.raises(ConfigurationError, match=r"the input s3://bucket/photos cannot be listed \(.*403"):
            list(images)
