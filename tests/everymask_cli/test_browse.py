"""`everymask browse` as a process: it starts, it says where, it ends, and no step that it confirmed is lost."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from everymask.labels.correction_log import read_history
from everymask.labels.corrections import read_corrections
from everymask.labels.store import LabelStore
from everymask.review.queue import Queue, make_queue, write_queue
from everymask_cli.browse import command
from tests.browse.stores import rows_with_pictures, store_of

REPOSITORY = Path(__file__).resolve().parents[2]
WRITES = {"X-Everymask": "browse"}


@pytest.fixture
def store(tmp_path: Path) -> LabelStore:
    return store_of(rows_with_pictures(tmp_path / "photos"), tmp_path / "labels", tmp_path / "photos")


@contextmanager
def started(store: LabelStore, cache: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process, and the address it names."""
    words = ["browse", store.uri, "--port", "0", "--cache", str(cache), *options]
    with subprocess.Popen(
        [sys.executable, "-m", "everymask_cli", *words], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().removeprefix("open ").strip()
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["nowhere"], "is not a label store"),
        (["LABELS", "--service", "localhost:8000"], "no http"),
        (["LABELS", "--port", "99999"], "99999 cannot be used"),
        (["LABELS", "--splits", "nowhere.csv"], "cannot be read"),
        (["LABELS", "--queue", "nowhere.json"], "nowhere.json"),
        (["LABELS", "--queue", "QUEUE"], "is a queue of elsewhere, not of"),
        (["LABELS", "--queue", "QUEUE", "--splits", "splits.csv"], "give one of them"),
        ([], "labels"),
    ],
)
def test_a_mistake_is_one_sentence(
    store: LabelStore, tmp_path: Path, words: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    queue = str(tmp_path / "queue.json")
    write_queue(Queue((), 0, 0, "elsewhere"), queue)
    arguments = [{"LABELS": store.uri, "QUEUE": queue}.get(word, word) for word in words]
    try:
        code = command([*arguments, "--cache", str(tmp_path / "cache")])
    except SystemExit as ended:  # what is missing is said by tyro
        code = int(ended.code or 0)
    said = capsys.readouterr()
    assert (code, problem in said.err + said.out) == (2, True)


def test_a_used_port_is_one_sentence(store: LabelStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert command([store.uri, "--port", port, "--cache", str(tmp_path)]) == 2
    assert re.fullmatch(rf"error: 127\.0\.0\.1:{port} cannot be used .*--port\n", capsys.readouterr().err)


@pytest.mark.serve
def test_kill_9_loses_no_step_that_was_confirmed(store: LabelStore, tmp_path: Path) -> None:
    """Twice: killed while steps are on their way, started again, and gone on with."""
    image_id, confirmed, seen = "photo 00.png", 0, []
    for kill_after in (7, 12):
        with (
            started(store, tmp_path / "cache") as (process, url),
            httpx.Client(base_url=url, headers=WRITES, timeout=30) as http,
        ):
            image = _looked(http, image_id)
            assert len(image["history"]) >= confirmed
            confirmed, seen = len(image["history"]), image["seen"]
            for number in range(10_000):
                action = "restore" if image["masks"][0]["action"] == "deleted" else "delete"
                step = {"action": action, "masks": [image["masks"][0]["id"]]}
                wish = {"id": image_id, "seen": seen, "steps": [step]}
                if number == kill_after:  # while this step is on its way
                    threading.Thread(target=process.kill).start()
                try:
                    answer = http.post("/api/steps", json={"annotator": "ada", "images": [wish]})
                except httpx.HTTPError:
                    break
                image = answer.json()["images"][0]["image"]
                seen = image["seen"]
                confirmed += 1
        entry = read_corrections(store)[image_id]
        assert confirmed >= kill_after
        assert entry.entry_id in seen or entry.bases == tuple(seen), "the last that was confirmed, or one after it"
    with started(store, tmp_path / "cache") as (process, url), httpx.Client(base_url=url, timeout=30) as http:
        assert len(_looked(http, image_id)["history"]) in (confirmed, confirmed + 1)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) in (130, 0), "0 where the tests themselves were started with SIGINT ignored"


@pytest.mark.serve
def test_two_people_correct_the_same_images_and_no_kill_9_loses_what_was_confirmed(
    store: LabelStore, tmp_path: Path
) -> None:
    """300 steps on three images; the page is killed twice while both are at work, and started again."""
    names = ["photo 00.png", "photo 01.png", "photo 02.png"]
    confirmed: dict[str, str] = {}
    conflicts: list[str] = []
    running, changed = threading.Event(), threading.Condition()
    place = {"url": ""}

    def correct(who: str) -> None:
        number = 0
        while number < 150:
            assert running.wait(60)
            with httpx.Client(base_url=place["url"], headers=WRITES, timeout=30) as http:
                try:
                    image = _looked(http, names[number % 3])
                    mask = image["masks"][number % 2]
                    step = {"action": "restore" if mask["action"] == "deleted" else "delete", "masks": [mask["id"]]}
                    wish = {"id": image["id"], "seen": image["seen"], "signature": image["signature"], "steps": [step]}
                    answer = http.post("/api/steps", json={"annotator": who, "images": [wish]}).json()["images"][0]
                except httpx.HTTPError:  # killed; whether the step was kept, nobody has said
                    continue
            with changed:
                if "error" in answer:
                    conflicts.append(answer["error"])
                else:
                    confirmed[answer["image"]["heads"][-1]["entry"]] = who
                    number += 1
                changed.notify_all()

    people = [threading.Thread(target=correct, args=(who,)) for who in ("ada", "bob")]
    for person in people:
        person.start()
    for kill_after in (100, 200, None):
        with started(store, tmp_path / "cache") as (process, url):
            place["url"] = url
            running.set()
            if kill_after is None:
                for person in people:
                    person.join(120)
                continue
            with changed:
                assert changed.wait_for(lambda many=kill_after: len(confirmed) >= many, 120)
            running.clear()
            process.kill()
    assert not any(person.is_alive() for person in people)
    assert len(confirmed) == 300
    assert all("was corrected by" in problem for problem in conflicts)
    kept = {entry.entry_id: entry.annotator for entries in read_history(store).entries.values() for entry in entries}
    assert confirmed.items() <= kept.items()


def _looked(http: httpx.Client, image_id: str) -> dict:
    """An image, once the page has read the store."""
    while True:
        answer = http.get("/api/image", params={"id": image_id})
        if answer.status_code == 200:
            return answer.json()  # type: ignore[no-any-return]


@pytest.mark.serve
def test_where_others_reach_it_a_key_is_made_and_printed(store: LabelStore, tmp_path: Path) -> None:
    """The address also opens the images of a queue, where one is given."""
    queue = make_queue(store, most=1, control=0.0)
    write_queue(queue, str(tmp_path / "queue.json"))
    options = ["--host", "0.0.0.0", "--queue", str(tmp_path / "queue.json")]
    with started(store, tmp_path / "cache", *options) as (process, url):
        address, _, asked = url.partition("/?key=")
        key, _, query = asked.partition("&")
        assert len(key) >= 32
        local = address.replace("0.0.0.0", "127.0.0.1")
        assert httpx.get(f"{local}/api/store", timeout=30).status_code == 401
        headers = {"Authorization": f"Bearer {key}"}
        assert httpx.get(f"{local}/api/store", headers=headers, timeout=30).status_code == 200
        found = httpx.get(f"{local}/api/images?{query}", headers=headers, timeout=30).json()
        assert [image["id"] for image in found["images"]] == list(queue.image_ids)
        process.terminate()
        assert process.wait(30) == 143
