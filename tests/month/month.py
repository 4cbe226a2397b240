"""What a team does in a month, in one run: every command, deaths in between, and an account at the end."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import yaml

from everymask.labels.corrections import read_corrections
from everymask.labels.store import LabelStore
from tests.machine import REPOSITORY
from tests.month.machine import Machine, wait_until
from tests.month.shapes import replace_first, write_exemplars, write_shards
from tests.review.round_trips import submit
from tests.serve.running_service import free_port

_OWN = {"Sec-Fetch-Site": "same-origin", "X-Everymask": "browse"}
_ALONE = ["--device", "cpu", "--actors", "2"]
_COARSE = ["--classes.masks.points-per-side", "6"]
_ASKED = 3
"""Images that the service is asked for."""


class Month:
    """One month on one machine.

    Args:
        machine: where commands run.
        images: in the collection.
        seed: of the pictures, and of what is killed when.
        corrected: images corrected in the browser; half as many come back from Label Studio.
    """

    def __init__(self, machine: Machine, images: int, seed: int, corrected: int) -> None:
        self._machine = machine
        self._images = images
        self._corrected = corrected
        self._random = random.Random(seed)
        self._seed = seed
        self._store = machine.folder / "store"
        self.erased = ""

    def run(self) -> None:
        """Every step, and the account; AssertionError with the output of what failed."""
        folder, run = self._machine.folder, self._machine.run
        shards = write_shards(folder / "shards", self._images, self._seed)
        write_exemplars(folder / "exemplars", self._seed)
        teach = ["train", "classes", "--exemplars", "exemplars", *_ALONE]
        run("train the first head", [*teach, "--output", "heads/first.safetensors"])
        label = ["label", "--input", shards, "--output", "store", "--method", "classes", "--previews", "0", *_ALONE]
        label += [*_COARSE, "--shard-images", str(self._images // 4), "--save-embeddings", "embeddings"]
        first = [*label, "--head", "heads/first.safetensors"]
        run("label, killed", first, lambda: self._wait_for(self._images // 5), signal.SIGKILL)
        run("label again, killed", first, lambda: self._wait_for(self._images // 2), signal.SIGKILL)
        run("label to the end, three workers killed", first, self._kill_labellers)
        assert self._rows() == self._images
        replace_first(folder / "shards/train-0003.tar")
        said = run("label an edited image", [*first, "--verify"])
        assert "1 image" in said, said
        self.erased = sorted(self._by_id())[self._random.randrange(self._images)]
        run("erase an image", ["erase", "--labels", "store", "--image-ids", self.erased, "--embeddings", "embeddings"])
        self._browse()
        self._label_studio()
        better = [*teach, "--corrections", "store", "--embeddings", "embeddings"]
        run("train on the corrections", [*better, "--output", "heads/second.safetensors"])
        run("update", [*label, "--head", "heads/second.safetensors", "--update"])
        self._serve()
        self._export()
        self._account()

    def _rows(self) -> int:
        with suppress(OSError, ValueError):  # a part may be put together with others at this moment
            return sum(pq.read_metadata(path).num_rows for path in (self._store / "labels").glob("*.parquet"))
        return 0

    def _wait_for(self, rows: int) -> None:
        wait_until(lambda: self._rows() >= rows)

    def _kill_labellers(self) -> None:
        for share in (0.55, 0.7, 0.85):
            self._wait_for(int(share * self._images))
            if alive := self._machine.labellers():
                with suppress(ProcessLookupError):
                    os.kill(self._random.choice(alive), signal.SIGKILL)

    def _by_id(self) -> dict[str, Any]:
        return {row.image_id: row for row in LabelStore(str(self._store)).images()}

    def _browse(self) -> None:
        """A person deletes a mask of every third image in the browser, and confirms the others."""
        port = free_port()
        base = f"http://127.0.0.1:{port}"

        def correct() -> None:
            wait_until(lambda: _answers(f"{base}/api/store"))
            known = [name for name, row in sorted(self._by_id().items()) if row.labels and row.labels.masks]
            for number, name in enumerate(known[: self._corrected]):
                image = httpx.get(f"{base}/api/image", params={"id": name}, timeout=60).json()
                steps: list[dict[str, Any]] = [{"action": "confirm", "masks": "all"}]
                if number % 3 == 0:
                    steps.insert(0, {"action": "delete", "masks": [image["masks"][0]["id"]]})
                wish = {"annotator": "ada", "images": [{"id": name, "seen": [], "steps": steps}]}
                answer = httpx.post(f"{base}/api/steps", json=wish, headers=_OWN, timeout=60)
                assert answer.status_code == 200, answer.text

        command = ["browse", "store", "--port", str(port)]
        self._machine.run(f"browse, {self._corrected} images corrected", command, correct, signal.SIGINT)
        assert len(read_corrections(LabelStore(str(self._store)))) == self._corrected

    def _label_studio(self) -> None:
        run, folder = self._machine.run, self._machine.folder
        most = str(self._corrected // 2)
        run("queue", ["review", "queue", "--labels", "store", "--most", most, "--output", "queue.json"])
        export = ["export", "--labels", "store", "--queue", "queue.json", "--format", "label-studio"]
        run("export to Label Studio", [*export, "--output", "tasks.json"])
        shutil.copy(folder / "tasks.json", folder / "done.json")
        submit(folder / "done.json", "label-studio")
        back = ["review", "import", "--labels", "store", "--from", "done.json"]
        run("import", back)
        known = len(read_corrections(LabelStore(str(self._store))))
        assert "already imported" in run("import once more", back)
        assert known == len(read_corrections(LabelStore(str(self._store)))) == self._corrected + self._corrected // 2

    def _serve(self) -> None:
        """A service with the new head answers as the store says, of images that nobody corrected."""
        port = free_port()
        corrected = read_corrections(LabelStore(str(self._store)))
        rows = [row for name, row in sorted(self._by_id().items()) if name not in corrected][:_ASKED]

        def ask() -> None:
            wait_until(lambda: _answers(f"http://127.0.0.1:{port}/readyz"))
            for row in rows:
                with Path(row.uri).open("rb") as file:
                    file.seek(row.member.offset)
                    data = file.read(row.member.size)
                url = f"http://127.0.0.1:{port}/v1/classes"
                answer = httpx.post(url, params={"head": "second"}, files={"image": data}, timeout=120).json()
                found = [(mask["rle"]["counts"], mask["class_name"]) for mask in answer["masks"]]
                assert found == [(mask.rle["counts"], mask.class_name) for mask in row.labels.masks]

        settings = yaml.safe_load((REPOSITORY / "serve/config/local.yaml").read_text())
        settings["applications"][0]["args"]["classes"] = {"masks": {"points_per_side": 6}}
        (self._machine.folder / "serve.yaml").write_text(yaml.safe_dump(settings))
        command = ["serve", "--config", "serve.yaml", "--heads", "heads", "--port", str(port)]
        self._machine.run("serve", command, ask, signal.SIGINT)

    def _export(self) -> None:
        run, folder = self._machine.run, self._machine.folder
        split = ["--split", "0.8/0.1/0.1", "--split-by", "folder"]
        run("export to COCO", ["export", "--labels", "store", "--format", "coco", "--output", "coco.json"])
        for format_name in ("yolo", "huggingface"):
            command = ["export", "--labels", "store", "--format", format_name, "--output", format_name]
            run(f"export to {format_name}", [*command, "--images", "copy", *split])
        images = json.loads((folder / "coco.json").read_text())["images"]
        assert len(images) == self._images - 1
        assert len(list((folder / "yolo/labels").rglob("*.txt"))) == self._images - 1

    def _account(self) -> None:
        """Every row, every correction, no file that nothing names, no process."""
        by_id = self._by_id()
        assert len(by_id) == self._rows() == self._images - 1
        assert self.erased not in by_id
        assert all(row.error is None for row in by_id.values())
        corrected = read_corrections(LabelStore(str(self._store)))
        assert len(corrected) == self._corrected + self._corrected // 2 - (self.erased in corrected)
        left = [
            path.name for path in self._store.rglob("*") if "draft" in path.name or path.suffix in (".tmp", ".part")
        ]
        assert left == []
        assert self._machine.counters["ray_everymask_job_images_total"] > 0


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False
