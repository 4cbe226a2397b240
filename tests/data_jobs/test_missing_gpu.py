"""Workers that have a GPU reserved on a machine that shows them none: Ray takes any number of GPUs on trust."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
import torch
from PIL import Image

from data_jobs.label_dataset import command as main
from everymask.labels.store import LabelStore

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(600),
    pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there"),
]


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    ray.init(address="local", num_cpus=4, num_gpus=1, include_dashboard=False, object_store_memory=200 * 2**20)
    yield
    ray.shutdown()


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "photos" / "0.png")
    output = str(tmp_path / "labels")
    return [
        "--input",
        str(tmp_path / "photos"),
        "--output",
        output,
        "--entities.points-per-side",
        "2",
        "--previews",
        "0",
    ]


def test_no_image_is_labelled_on_the_cpu_at_the_price_of_a_gpu(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command) == 2
    said = capsys.readouterr().err
    assert [line for line in said.splitlines() if "a GPU was asked for, but PyTorch" in line and "error: " in line]
    assert "Traceback" not in said
    assert not list(tmp_path.glob("labels/labels/part-*"))


@pytest.mark.slow
def test_the_cpu_is_used_where_it_is_chosen(command: list[str], tmp_path: Path) -> None:
    assert main([*command, "--device", "cpu"]) == 0
    assert len(list(LabelStore(str(tmp_path / "labels")).images())) == 1
