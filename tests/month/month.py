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

from everymask.files.location import Location
from everymask.labels.corrections import read_corrections
from everymask.labels.rows import ImageRow
from everymask.labels.store import LabelStore
from tests.free_ports import free_port
from tests.machine import REPOSITORY
from tests.month.learnt import agreement
from tests.month.machine import Machine, wait_until
from tests.month.named_files import embedding_orphans, orphans
from tests.month.older import digests, write_older
from tests.month.shapes import HALF, Collection, picture_of, write_exemplars
from tests.review.round_trips import submit

_OWN = {"Sec-Fetch-Site": "same-origin", "X-Everymask": "browse"}
_ALONE = ["--device", "cpu", "--actors", "2"]
_COARSE = ["--classes.masks.points-per-side", "6"]
_ASKED = 3
"""Images that the service is asked for."""
_SEEN, _SIDE = 1600, 64
"""Images that the segmenter sees, those that it sees again among them, and its input in pixels."""


class Month:
    """One month on one machine.

    Args:
        machine: where commands run.
        images: in the collection.
        seed: of the pictures, and of what is killed when.
        corrected: images corrected in the browser; half as many come back from Label Studio.
        older: begin with half of the pictures in a store of format 3. They are loose files then: a row of that format
            cannot say where in a shard its picture lies.

    Attributes:
        account: what was counted at the end.
    """

    def __init__(self, machine: Machine, images: int, seed: int, corrected: int, older: bool = False) -> None:
        self._machine = machine
        self._images = images
        self._corrected = corrected
        self._random = random.Random(seed)
        self._seed = seed
        self._older = older
        self._collection = Collection(machine.folder / "pictures", images, seed, loose=older)
        self._store = machine.folder / "store"
        self.erased = ""
        self.account: dict[str, int] = {}

    def run(self) -> None:
        """Every step, and the account; AssertionError with the output of what failed."""
        folder, run = self._machine.folder, self._machine.run
        write_exemplars(folder / "exemplars", self._seed)
        teach = ["train", "classes", "--exemplars", "exemplars", *_ALONE]
        run("train the first head", [*teach, "--output", "heads/first.safetensors"])
        label = [
            "label",
            "--input",
            self._collection.input,
            "--method",
            "classes",
            "--previews",
            "0",
            *_ALONE,
            *_COARSE,
        ]
        label += ["--save-embeddings", "embeddings"]
        if self._older:
            self._begin_older([*label, "--head", "heads/first.safetensors"])
        else:
            self._collection.write()
            label += ["--shard-images", str(self._images // 4)]
        label += ["--output", "store"]
        first = [*label, "--head", "heads/first.safetensors"]
        there = self._rows()
        begun = (self._images - there) // 5
        run("label, killed", first, lambda: self._wait_for(there + begun), signal.SIGKILL)
        run("label again, killed", first, lambda: self._wait_for(there + 2 * begun), signal.SIGKILL)
        run("label to the end, three workers killed", first, lambda: self._kill_labellers(there))
        assert self._rows() == self._images
        self._collection.edit()
        said = run("label an edited image", [*first, "--verify"])
        assert "1 image" in said, said
        self.erased = self._random.choice(sorted(self._by_id().keys() - self._known()))
        run("erase an image", ["erase", "--labels", "store", "--image-ids", self.erased, "--embeddings", "embeddings"])
        self._browse(self._store, self._corrected - len(self._known()))
        self._label_studio()
        better = [*teach, "--corrections", "store", "--embeddings", "embeddings"]
        run("train on the corrections", [*better, "--output", "heads/second.safetensors"])
        run("update", [*label, "--head", "heads/second.safetensors", "--update"])
        self._serve()
        self._export()
        self._train()
        self._account()

    def _begin_older(self, first: list[str]) -> None:
        """Half of the pictures in a store of format 3: it is read and corrected, not changed, and copied."""
        folder, run = self._machine.folder, self._machine.run
        self._collection.write(last=HALF)
        run("label half", [*first, "--output", "made"])
        write_older(LabelStore(str(folder / "made")), folder / "old")
        before = digests(folder / "old")
        self._collection.write(first=HALF)
        self._browse(folder / "old", self._corrected // 2)
        run("export format 3 to COCO", ["export", "--labels", "old", "--format", "coco", "--output", "old.json"])
        for name, more in (("label into", []), ("update of", ["--update"])):
            said = run(f"{name} format 3, refused", [*first, "--output", "old", *more], code=2)
            assert "everymask upgrade --labels" in said, said
        run("upgrade", ["upgrade", "--labels", "old", "--output", "store"])
        assert digests(folder / "old") == before
        assert self._known() == read_corrections(LabelStore(str(folder / "old"))).keys()

    def _known(self) -> set[str]:
        """The images that somebody corrected."""
        return set(read_corrections(LabelStore(str(self._store))))

    def _rows(self) -> int:
        with suppress(OSError, ValueError):  # a part may be put together with others at this moment
            return sum(pq.read_metadata(path).num_rows for path in (self._store / "labels").glob("*.parquet"))
        return 0

    def _wait_for(self, rows: int) -> None:
        wait_until(lambda: self._rows() >= rows)

    def _kill_labellers(self, there: int) -> None:
        for share in (0.55, 0.7, 0.85):
            self._wait_for(there + int(share * (self._images - there)))
            # Between two shards there is none for a while; the last images of a small collection come all at once.
            wait_until(lambda: bool(self._machine.labellers()) or self._rows() == self._images)
            if alive := self._machine.labellers():
                with suppress(ProcessLookupError):
                    os.kill(self._random.choice(alive), signal.SIGKILL)
                    self.account["workers killed"] = self.account.get("workers killed", 0) + 1

    def _by_id(self, store: Path | None = None) -> dict[str, ImageRow]:
        return {row.image_id: row for row in LabelStore(str(store or self._store)).images()}

    def _browse(self, store: Path, most: int) -> None:
        """A person deletes a mask of every third image in the browser, and confirms the others."""
        port = free_port()
        base = f"http://127.0.0.1:{port}"

        def correct() -> None:
            wait_until(lambda: _answers(f"{base}/api/store"))
            done = read_corrections(LabelStore(str(store)))
            rows = sorted(self._by_id(store).items())
            open_ones = [name for name, row in rows if row.labels and row.labels.masks and name not in done]
            for number, name in enumerate(open_ones[:most]):
                image = httpx.get(f"{base}/api/image", params={"id": name}, timeout=60).json()
                steps: list[dict[str, Any]] = [{"action": "confirm", "masks": "all"}]
                if number % 3 == 0:
                    steps.insert(0, {"action": "delete", "masks": [image["masks"][0]["id"]]})
                wish = {"annotator": "ada", "images": [{"id": name, "seen": [], "steps": steps}]}
                answer = httpx.post(f"{base}/api/steps", json=wish, headers=_OWN, timeout=60)
                assert answer.status_code == 200, answer.text

        known = len(read_corrections(LabelStore(str(store))))
        command = ["browse", str(store), "--port", str(port)]
        self._machine.run(f"browse {store.name}, {most} images corrected", command, correct, signal.SIGINT)
        assert len(read_corrections(LabelStore(str(store)))) == known + most

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
                url, files = f"http://127.0.0.1:{port}/v1/classes", {"image": picture_of(row)}
                answer = httpx.post(url, params={"head": "second"}, files=files, timeout=120).json()
                assert row.labels is not None
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

    def _train(self) -> None:
        """A segmenter learns from the export's training images what the labels of images say that it never saw."""
        script, epochs = str(REPOSITORY / "examples/training/segmenter.py"), max(1, _SEEN // self._images)
        options = ["--epochs", str(epochs), "--side", str(_SIDE), "--batch-size", "8"]
        self._machine.run("train a segmenter on the export", [script, "huggingface", *options])
        folder = self._machine.folder
        right, most = agreement(folder / "segmenter", folder / "huggingface", ("val", "test"), _SIDE)
        assert right > most
        self.account["pixels of images kept aside that the segmenter answers as the labels, percent"] = round(
            100 * right
        )
        self.account["the same of the most frequent class, percent"] = round(100 * most)

    def _account(self) -> None:
        """Every row, every correction, no file that nothing names, nobody who still labels."""
        by_id, store, folder = self._by_id(), LabelStore(str(self._store)), self._machine.folder
        assert len(by_id) == self._rows() == self._images - 1
        assert self.erased not in by_id
        assert all(row.error is None for row in by_id.values())
        assert len(self._known()) == self._corrected + self._corrected // 2
        assert orphans(store) == []
        assert embedding_orphans(store, folder / "embeddings") == []
        assert [str(path) for path in folder.rglob(".*") if store.is_draft(Location.at(str(path)))] == []
        assert self._machine.labellers() == []
        assert self._machine.counters["ray_everymask_job_images_total"] > 0
        files = [path for place in (self._store, folder / "embeddings") for path in place.rglob("*") if path.is_file()]
        self.account |= {
            "images": self._images,
            "images erased": 1,
            "rows": len(by_id),
            "rows that are errors": 0,
            "images corrected in the browser": self._corrected,
            "images imported from Label Studio": self._corrected // 2,
            "corrected images at the end": len(self._known()),
            "files of the store and of embeddings": len(files),
            "files that nothing names": 0,
        }


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False
