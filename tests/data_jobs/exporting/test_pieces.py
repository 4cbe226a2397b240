"""Files of an export that travelled in pieces are the files."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from data_jobs.exporting.pieces import received_shares, written_pieces
from everymask.formats.format import Format
from everymask.formats.registry import FORMATS
from everymask.formats.shares import Job, Share, Told, told_file
from everymask.labels.store import LabelStore
from tests.formats.exporting import contents, options_with_images, picture_store, run_export

IMAGES, SHARES = 130, 2


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> LabelStore:
    return picture_store(tmp_path_factory.mktemp("store"), IMAGES, SHARES)


class Travelling:
    """Writes shares elsewhere and mixes up the rows that come from there; the last `lost` rows never arrive."""

    def __init__(self, lost: int = 0) -> None:
        self.lost = lost
        self.rows = 0

    def __call__(
        self, job: Job, chosen: Format, shares: Iterable[Share], done: Callable[[int], None]
    ) -> Iterator[Told]:
        rows: list[dict[str, Any]] = []
        for share in shares:
            for table in written_pieces(job, share, piece_bytes=50):
                rows += table.to_pylist()
        random.Random(0).shuffle(rows)
        self.rows = len(rows)
        for number in received_shares(job.folder, rows[: len(rows) - self.lost]):
            told = Told.kept(told_file(job.folder, number))
            assert told is not None
            done(told.images)
            yield told
        if self.lost:
            raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["coco", "yolo", "webdataset", "huggingface"])
def test_pieces_in_any_order_make_the_export(store: LabelStore, tmp_path: Path, name: str) -> None:
    options, file = options_with_images(name), f"out{FORMATS[name].suffix}"
    run_export(store, name, tmp_path / "here" / file, **options)
    travelling = Travelling()
    run_export(store, name, tmp_path / "there" / file, write_shares=travelling, **options)
    assert travelling.rows > IMAGES
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


def test_links_travel_as_links(store: LabelStore, tmp_path: Path) -> None:
    options = options_with_images("yolo") | {"images": "link"}
    run_export(store, "yolo", tmp_path / "out", write_shares=Travelling(), **options)
    pictures = list((tmp_path / "out" / "images").rglob("*.png"))
    assert len(pictures) == IMAGES
    assert all(path.is_symlink() and path.is_file() for path in pictures)


def test_a_share_counts_only_when_all_of_it_arrived(store: LabelStore, tmp_path: Path) -> None:
    options = options_with_images("yolo")
    with pytest.raises(KeyboardInterrupt):
        run_export(store, "yolo", tmp_path / "out", write_shares=Travelling(lost=1), **options)
    assert not (tmp_path / "out").exists()
    seen: list[int] = []
    run_export(store, "yolo", tmp_path / "out", progress=lambda done, total: seen.append(done), **options)
    assert len(seen) == IMAGES // SHARES + 1, "the share that was whole is not written again"
    run_export(store, "yolo", tmp_path / "whole", **options)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
