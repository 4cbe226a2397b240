"""An export written by a Ray cluster is the one that a single process writes, to the byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_jobs.exporting.on_ray import on_ray
from everymask.errors import InputError
from everymask.files.addresses import AddressPolicy
from everymask.formats.registry import FORMATS
from everymask.labels.store import LabelStore
from tests.formats.exporting import Stop, contents, options_with_images, picture_store, run_export

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]

IMAGES, SHARES = 130, 2


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> LabelStore:
    return picture_store(tmp_path_factory.mktemp("store"), IMAGES, SHARES)


@pytest.mark.parametrize(("name", "direct"), [("yolo", False), ("coco", False), ("webdataset", None)])
def test_a_cluster_writes_the_same_bytes(store: LabelStore, tmp_path: Path, name: str, direct: bool | None) -> None:
    options = options_with_images(name)
    alone = run_export(store, name, tmp_path / "alone" / f"out{FORMATS[name].suffix}", **options)
    report = run_export(
        store, name, tmp_path / "ray" / f"out{FORMATS[name].suffix}", write_shares=on_ray(direct), **options
    )
    assert report.images == IMAGES
    assert report.lines()[:-1] == alone.lines()[:-1]
    assert contents(tmp_path / "ray") == contents(tmp_path / "alone")


def test_an_interrupted_export_goes_on_whoever_writes_the_rest(store: LabelStore, tmp_path: Path) -> None:
    options = options_with_images("yolo")
    run_export(store, "yolo", tmp_path / "alone", **options)
    old = contents(tmp_path / "alone")
    with pytest.raises(KeyboardInterrupt):
        run_export(store, "yolo", tmp_path / "out", progress=Stop(1), write_shares=on_ray(False), **options)
    assert not (tmp_path / "out").exists()
    seen: list[int] = []
    run_export(store, "yolo", tmp_path / "out", progress=lambda done, total: seen.append(done), **options)
    assert len(seen) == IMAGES // SHARES + 1, "the share that the cluster finished is not written again"
    assert contents(tmp_path / "out") == old


def test_what_fails_on_a_worker_is_the_sentence_and_nothing_is_left(store: LabelStore, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be put into the export"):
        run_export(store, "yolo", tmp_path / "out", images="copy", policy=AddressPolicy(), write_shares=on_ray(False))
    assert list(tmp_path.iterdir()) == []
