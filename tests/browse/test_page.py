"""The page's server over HTTP: lists, pictures, corrections by several people."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from browse.app import Page, build_app
from browse.collection import Collection
from browse.pictures import Pictures
from everymask.files.addresses import AddressPolicy
from everymask.images.decoding import ImageLimits
from everymask.labels.corrections import labelled_images, read_corrections
from everymask.labels.erasure import erase
from everymask.labels.rows import ImageRow, to_table
from everymask.labels.store import LabelStore
from everymask.masks.rle import encode_mask
from tests.browse.stores import CLASSES, collection_of, guarded, rows_with_pictures, store_of
from tests.ui.answering import answering
from ui.client import ServiceClient

Json = dict[str, Any]
WRITES = {"X-Everymask": "browse"}


class Browser:
    """Somebody at the page."""

    def __init__(self, client: TestClient, name: str) -> None:
        self.client = client
        self.name = name
        self.seen: dict[str, list[str]] = {}

    def look(self, image_id: str) -> Json:
        found: Json = self.client.get("/api/image", params={"id": image_id}).json()
        self.seen[image_id] = found["seen"]
        return found

    def do(self, image_id: str, *steps: Json, where: Json | None = None) -> Json:
        wish = {"id": image_id, "seen": self.seen.get(image_id, []), "steps": list(steps), "where": where}
        outcome: Json = self.post("/api/steps", images=[wish]).json()["images"][0]
        if "image" in outcome and not outcome.get("conflict"):
            self.seen[image_id] = outcome["image"]["seen"]
        return outcome

    def undo(self, image_id: str) -> Json:
        outcome: Json = self.post("/api/undo", id=image_id, seen=self.seen.get(image_id, [])).json()["images"][0]
        if "image" in outcome:
            self.seen[image_id] = outcome["image"]["seen"]
        return outcome

    def post(self, path: str, **content: Any) -> Any:
        return self.client.post(path, json={"annotator": self.name, **content}, headers=WRITES)


@pytest.fixture
def rows(tmp_path: Path) -> list[ImageRow]:
    return rows_with_pictures(tmp_path / "photos")


@pytest.fixture
def store(rows: list[ImageRow], tmp_path: Path) -> LabelStore:
    return store_of(rows, tmp_path / "labels", tmp_path / "photos")


@pytest.fixture
def collection(store: LabelStore, tmp_path: Path) -> Collection:
    return collection_of(store, tmp_path / "cache")


@pytest.fixture
def client(collection: Collection, tmp_path: Path) -> TestClient:
    return TestClient(guarded(collection, tmp_path / "cache"))


@pytest.fixture
def ada(client: TestClient) -> Browser:
    return Browser(client, "ada")


FIRST, SECOND = "photo 00.png", "photo 01.png"


def actions(image: Json) -> list[str]:
    return [mask["action"] for mask in image["masks"]]


def test_the_list_says_what_there_is(client: TestClient) -> None:
    facts = client.get("/api/store").json()
    assert facts["totals"] | {"masks": 6} == {
        **{"images": 4, "errors": 1, "masks": 6, "finished": 0, "begun": 0, "conflicts": 0, "stale": 0}
    }
    assert [item["name"] for item in facts["classes"]] == ["cat", "dog"]
    page = client.get("/api/images", params={"count": 2, "order": "id"}).json()
    assert (page["matched"], [image["id"] for image in page["images"]]) == (4, ["broken.png", FIRST])
    assert page["images"][0]["error"] == "the file is empty (0 bytes)"
    assert page["images"][1]["masks"] == 2
    rest = client.get("/api/images", params={"first": 2, "order": "id", "list": page["list"]}).json()
    assert [image["id"] for image in rest["images"]] == [SECOND, "photo 02.png"]
    assert client.get("/api/classes", params={"class": "1", "score": "0.6-"}).json() == {
        "masks": [{"id": 0, "count": 3}, {"id": 1, "count": 3}]
    }


@pytest.mark.parametrize(
    "query",
    ["score=a-b", "score=0.5", "score=nan-1", "class=cat", "class=" + "1," * 500, "show=x", "first=-1", "count=9999"],
)
def test_a_query_that_makes_no_sense_is_one_sentence(client: TestClient, query: str) -> None:
    answer = client.get(f"/api/images?{query}")
    assert answer.status_code == 422
    assert len(answer.json()["error"]) < 200


def test_an_image_has_its_masks_as_run_lengths(client: TestClient, rows: list[ImageRow]) -> None:
    found = client.get("/api/image", params={"id": FIRST}).json()
    assert rows[0].labels is not None
    assert [mask["rle"] for mask in found["masks"]] == [mask.rle for mask in rows[0].labels.masks]
    assert actions(found) == ["kept", "kept"]
    assert (found["size"], found["seen"], found["history"]) == ([40, 60], [], [])
    assert client.get("/api/image", params={"id": "nowhere"}).status_code == 404
    broken = client.get("/api/image", params={"id": "broken.png"}).json()
    assert (broken["size"], broken["masks"], broken["error"]) == (None, [], "the file is empty (0 bytes)")


def test_an_image_says_how_surely_it_shows_each_name_where_the_method_does(
    client: TestClient, rows: list[ImageRow], tmp_path: Path
) -> None:
    assert client.get("/api/image", params={"id": FIRST}).json()["presence"] is None
    named = [replace(row, labels=row.labels and replace(row.labels, presence=(0.96, 0.12345))) for row in rows]
    collection = collection_of(store_of(named, tmp_path / "named", tmp_path / "photos"), tmp_path / "other cache")
    other = TestClient(guarded(collection, tmp_path / "other cache"))
    assert other.get("/api/image", params={"id": FIRST}).json()["presence"] == [0.96, 0.1235]
    assert other.get("/api/image", params={"id": "broken.png"}).json()["presence"] is None


def test_pictures_are_made_once_and_follow_the_labels(client: TestClient, ada: Browser, rows: list[ImageRow]) -> None:
    card = next(card for card in client.get("/api/images").json()["images"] if card["id"] == FIRST)
    wanted = {"id": FIRST, "v": card["signature"]}
    masked, plain = (client.get("/thumbnail", params=wanted | extra) for extra in ({}, {"plain": ""}))
    assert (masked.headers["content-type"], Image.open(io.BytesIO(plain.content)).size) == ("image/jpeg", (60, 40))
    assert "immutable" in masked.headers["cache-control"]
    assert np.abs(pixels(masked.content) - pixels(plain.content)).mean() > 10
    large = client.get("/picture", params={"id": FIRST, "v": card["picture"]})
    assert np.abs(pixels(large.content) - pixels(plain.content)).mean() < 9
    Path(rows[0].uri).unlink()
    assert client.get("/thumbnail", params=wanted).content == masked.content
    ada.look(FIRST)
    ada.do(FIRST, {"action": "delete", "masks": [ada.look(FIRST)["masks"][0]["id"]]})
    without = client.get("/thumbnail", params={"id": FIRST})
    assert (without.status_code, without.headers["cache-control"]) == (200, "private, no-cache")
    assert without.content != masked.content, "the mask that is left, on paper"
    gone = client.get("/picture", params={"id": FIRST})
    assert (gone.status_code, gone.json()["error"]) == (404, "the file is not there")


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def test_only_the_bytes_that_were_labelled_are_shown(client: TestClient, rows: list[ImageRow]) -> None:
    Path(rows[0].uri).write_bytes(Path(rows[1].uri).read_bytes())
    assert "changed since" in client.get("/picture", params={"id": FIRST}).json()["error"]


def test_a_stores_addresses_open_nothing_outside_of_its_input(tmp_path: Path, rows: list[ImageRow]) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(Path(rows[0].uri).read_bytes())
    store = store_of([replace(rows[0], uri=str(secret))], tmp_path / "other", tmp_path / "photos")
    collection = collection_of(store, tmp_path / "cache2")
    policy = AddressPolicy((str(tmp_path / "photos"),))
    pictures = Pictures(store, policy, ImageLimits(), tmp_path / "cache2" / "thumbnails")
    client = TestClient(build_app(Page(collection, pictures, None, "ada"), ["testserver"]))
    assert "lies outside of the input" in client.get("/picture", params={"id": FIRST}).json()["error"]


def test_pictures_of_erased_images_go(client: TestClient, collection: Collection, tmp_path: Path) -> None:
    assert client.get("/thumbnail", params={"id": FIRST}).status_code == 200
    thumbnails = tmp_path / "cache" / "thumbnails"
    assert list(thumbnails.rglob("*.jpg"))
    erase(collection.store, [FIRST])
    collection.renew()
    Pictures(collection.store, AddressPolicy(), ImageLimits(), thumbnails).forget_erased()
    assert not list(thumbnails.rglob("*.jpg"))
    assert client.get("/thumbnail", params={"id": FIRST}).status_code == 404


# ---- corrections ------------------------------------------------------------------------------------------------


def test_steps_are_in_the_log_before_they_are_answered(ada: Browser, store: LabelStore) -> None:
    first, second = (mask["id"] for mask in ada.look(FIRST)["masks"])
    assert actions(ada.do(FIRST, {"action": "delete", "masks": [first]})["image"]) == ["deleted", "kept"]
    renamed = ada.do(FIRST, {"action": "rename", "masks": [second], "class_name": "cat"})["image"]
    assert [(mask["action"], mask["class_name"]) for mask in renamed["masks"]] == [
        ("deleted", "cat"),
        ("relabelled", "cat"),
    ]
    assert renamed["corrected"] == {"state": "finished", "changed": True, "conflict": False, "by": "ada"}
    entry = read_corrections(store)[FIRST]
    assert (entry.annotator, entry.tool, [mask.action for mask in entry.masks]) == (
        *("ada", "browse"),
        ["deleted", "relabelled"],
    )
    shown = {image.image_id: labels for image, labels in labelled_images(store)}[FIRST]
    assert [(mask.class_name, mask.score) for mask in shown.masks] == [("cat", 1.0)]
    assert [step["counts"] for step in renamed["history"]] == [{"deleted": 1}, {"relabelled": 1, "deleted": 1}]


def test_steps_are_taken_back_one_by_one(ada: Browser) -> None:
    first, second = (mask["id"] for mask in ada.look(FIRST)["masks"])
    ada.do(FIRST, {"action": "delete", "masks": [first]})
    ada.do(FIRST, {"action": "confirm", "masks": "all"})
    assert actions(ada.undo(FIRST)["image"]) == ["deleted", "kept"]
    undone = ada.undo(FIRST)["image"]
    assert (actions(undone), undone["corrected"]["state"]) == (["kept", "kept"], "")
    assert "no correction that could be taken back" in ada.undo(FIRST)["error"]
    assert second in {mask["id"] for mask in undone["masks"]}


def test_many_images_at_once_and_masks_by_what_they_are(ada: Browser, client: TestClient) -> None:
    cards = [card for card in client.get("/api/images").json()["images"] if card["masks"]]
    where = {"class": "1", "score": "-0.62"}
    delete, confirm = {"action": "delete"}, {"action": "confirm", "masks": "all"}
    wishes = [{"id": card["id"], "seen": card["seen"], "steps": [delete], "where": where} for card in cards]
    outcomes = ada.post("/api/steps", images=wishes).json()["images"]
    assert {one["image"]["id"]: actions(one["image"]) for one in outcomes if "image" in one} == {
        FIRST: ["kept", "kept"],
        SECOND: ["kept", "deleted"],
        "photo 02.png": ["kept", "deleted"],
    }
    kept_before = [one["image"] for one in outcomes]
    wishes = [{"id": image["id"], "seen": image["seen"], "steps": [confirm]} for image in kept_before]
    wishes.append({"id": "broken.png", "seen": [], "steps": [confirm]})
    *kept, refused = ada.post("/api/steps", images=wishes).json()["images"]
    assert all(one["image"]["corrected"]["state"] == "finished" for one in kept)
    assert "label it again" in refused["error"]
    assert client.get("/api/images", params={"corrected": "finished"}).json()["matched"] == 3
    assert client.get("/api/store").json()["totals"]["finished"] == 3


def test_the_later_of_two_people_sees_the_conflict_and_nothing_is_lost(client: TestClient, store: LabelStore) -> None:
    ada, bob = Browser(client, "ada"), Browser(client, "bob")
    first, second = (mask["id"] for mask in ada.look(FIRST)["masks"])
    bob.look(FIRST)
    ada.do(FIRST, {"action": "delete", "masks": [first]})
    refused = bob.do(FIRST, {"action": "delete", "masks": [second]})
    assert refused["conflict"]
    assert "was corrected by ada in between" in refused["error"]
    assert actions(refused["image"]) == ["deleted", "kept"], "what stands there now comes with the refusal"
    assert [mask.action for mask in read_corrections(store)[FIRST].masks] == ["deleted", "kept"]
    bob.seen[FIRST] = refused["image"]["seen"]
    assert actions(bob.do(FIRST, {"action": "delete", "masks": [second]})["image"]) == ["deleted", "deleted"]
    assert ada.undo(FIRST)["conflict"], "she has not seen what bob did"
    ada.look(FIRST)
    assert "is that of bob" in ada.undo(FIRST)["error"]


def test_two_pages_of_one_store_see_each_other(store: LabelStore, client: TestClient, tmp_path: Path) -> None:
    other = collection_of(store, tmp_path / "another cache")
    ada, bob = Browser(client, "ada"), Browser(TestClient(guarded(other, tmp_path / "another cache")), "bob")
    first, second = (mask["id"] for mask in bob.look(FIRST)["masks"])
    ada.look(FIRST)
    ada.do(FIRST, {"action": "delete", "masks": [first]})
    refused = bob.do(FIRST, {"action": "delete", "masks": [second]})
    assert refused["conflict"]
    assert actions(refused["image"]) == ["deleted", "kept"]
    other.renew()
    assert bob.client.get("/api/images", params={"corrected": "begun"}).json()["matched"] == 1


def test_labels_that_were_made_anew_are_not_confirmed_unseen(
    client: TestClient, collection: Collection, store: LabelStore, rows: list[ImageRow]
) -> None:
    """From one image, or from the list: other masks stand there now than were shown."""
    name = "photo 00.png"
    listed = next(card for card in client.get("/api/images").json()["images"] if card["id"] == name)
    image = client.get("/api/image", params={"id": name}).json()
    assert listed["signature"] == image["signature"]
    labels = rows[0].labels
    assert labels is not None
    anew = replace(labels, masks=tuple(replace(m, mask_id=m.mask_id[::-1], score=0.5) for m in labels.masks))  # type: ignore[index]
    store.write_part(to_table([replace(rows[0], labels=anew), *rows[1:]]), {"class_names": CLASSES})
    wish = {"id": name, "seen": [], "signature": image["signature"], "steps": [{"action": "confirm", "masks": "all"}]}

    def asked() -> Json:
        body = {"annotator": "ada", "images": [wish]}
        outcome: Json = client.post("/api/steps", json=body, headers=WRITES).json()["images"][0]
        return outcome

    assert "has changed since it was read" in asked()["error"], "the page has not caught up yet"
    collection.renew()
    refused = asked()
    assert "was labelled anew since it was shown" in refused["error"]
    assert [mask["score"] for mask in refused["image"]["masks"]] == [0.5, 0.5]
    assert read_corrections(store) == {}
    wish["signature"] = refused["image"]["signature"]
    assert actions(asked()["image"]) == ["confirmed", "confirmed"]


def test_three_hundred_corrections_by_two_people_are_all_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interleaved on the same images; put together in the middle; read again by a third."""
    rows = rows_with_pictures(tmp_path / "photos", count=10)
    store = store_of(rows, tmp_path / "labels", tmp_path / "photos")
    collection = collection_of(store, tmp_path / "cache")
    monkeypatch.setattr("browse.collection._FILES_BEFORE_COMPACTING", 100)
    client = TestClient(guarded(collection, tmp_path / "cache"))
    people = [Browser(client, "ada"), Browser(client, "bob")]
    expected: dict[str, list[str]] = {}
    for number in range(300):
        who, image_id = people[number % 2], f"photo {number // 2 % 10:02d}.png"
        image = who.look(image_id)
        mask = image["masks"][number % 2]
        step = {"action": "restore" if mask["action"] == "deleted" else "delete", "masks": [mask["id"]]}
        expected[image_id] = actions(who.do(image_id, step)["image"])
        if number == 150:
            collection.compact()
    collection.compact()
    assert len(store.corrections.entries()) < 60
    found = read_corrections(store)
    assert {image_id: [mask.action for mask in entry.masks] for image_id, entry in found.items()} == expected
    third = collection_of(store, tmp_path / "third cache")
    assert sum(len(third.look(image_id).entries) for image_id in expected) == 300
    assert {name: sorted({entry.annotator for entry in third.look(name).entries}) for name in expected} == {
        name: ["ada", "bob"] for name in expected
    }


CORNER = encode_mask(np.pad(np.ones((5, 6), bool), ((0, 35), (0, 54))))


def test_a_click_asks_the_service_and_its_mask_is_added(
    collection: Collection, tmp_path: Path, rows: list[ImageRow]
) -> None:
    mask = {"rle": CORNER, "bbox": [0, 0, 6, 5], "area": 30, "score": 0.9, "predicted_iou": 0.9, "stability_score": 1.0}
    with answering(200, json.dumps({"masks": [mask]}).encode()) as url:
        ada = Browser(TestClient(guarded(collection, tmp_path / "cache", ServiceClient(url))), "ada")
        ada.look(FIRST)
        answer = ada.post("/api/click", id=FIRST, points=[[3.0, 2.0]], labels=[1])
        assert answer.json()["masks"][0]["rle"] == CORNER
    added = ada.do(FIRST, {"action": "add", **CORNER, "class_name": "dog"})
    assert actions(added["image"]) == ["kept", "kept", "added"]
    assert ada.post("/api/click", id=FIRST, points=[[3.0, 2.0]], labels=[1]).status_code == 502


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda wish: wish.update(steps=[]), "names an image"),
        (lambda wish: wish.update(steps=[{"action": "burn"}]), "a step is one of"),
        (lambda wish: wish.update(steps=[{"action": "delete", "masks": 7}]), "masks is a list of ids"),
        (lambda wish: wish.update(seen="x"), "seen is a list of ids"),
        (lambda wish: wish.update(id=7), "id is missing"),
        (lambda wish: wish.update(where={"score": "x"}), "score is a range"),
        (lambda wish: wish.update(where=[1]), "where holds conditions"),
        (lambda wish: wish.update(steps=[{"action": "add", "size": [40, 60], "counts": "zz"}]), "no run-length"),
        (lambda wish: wish.update(steps=[{"action": "add", "size": [1e9, 2], "counts": "0"}]), "has the size"),
        (lambda wish: wish.update(steps=[{"action": "add", "size": [10**9, 10**9], "counts": "0"}]), "no run-length"),
    ],
)
def test_a_write_that_makes_no_sense_is_one_sentence(
    ada: Browser, store: LabelStore, change: Callable[[Json], None], problem: str
) -> None:
    wish: Json = {"id": FIRST, "seen": [], "steps": [{"action": "confirm", "masks": "all"}]}
    change(wish)
    answer = ada.post("/api/steps", images=[wish])
    assert answer.status_code == 422
    assert problem in answer.json()["error"]
    assert read_corrections(store) == {}


def test_whoever_corrects_has_a_name(client: TestClient) -> None:
    wish = {"id": FIRST, "seen": [], "steps": [{"action": "confirm", "masks": "all"}]}
    for name in ("", " ", None, 7, "a\nb", "x" * 201):
        answer = client.post("/api/steps", json={"annotator": name, "images": [wish]}, headers=WRITES)
        assert (answer.status_code, "annotator" in answer.json()["error"]) == (422, True)


def test_a_store_that_cannot_be_written_says_so_and_keeps_what_was_there(
    ada: Browser, store: LabelStore, tmp_path: Path
) -> None:
    ada.look(FIRST)
    (tmp_path / "labels" / "corrections").write_bytes(b"a file in the way")
    answer = ada.post(
        "/api/steps", images=[{"id": FIRST, "seen": [], "steps": [{"action": "confirm", "masks": "all"}]}]
    )
    assert answer.status_code == 507
    assert "cannot write" in answer.json()["error"]
