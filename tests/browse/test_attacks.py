"""What strangers and other sites may not do: read, write, or be led to the page by a name of their own."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient

from browse.app import _files
from everymask.labels.corrections import read_corrections
from everymask.labels.store import LabelStore
from tests.browse.stores import collection_of, guarded, rows_with_pictures, store_of

KEY = "correct horse battery"
FIRST = "photo 00.png"
WISH: dict[str, Any] = {
    "annotator": "eve",
    "images": [{"id": FIRST, "seen": [], "steps": [{"action": "confirm", "masks": "all"}]}],
}
READS = ("/", "/api/store", "/api/images", f"/api/image?id={FIRST}", f"/thumbnail?id={FIRST}", f"/picture?id={FIRST}")
OWN = {"Sec-Fetch-Site": "same-origin", "X-Everymask": "browse"}


@pytest.fixture
def store(tmp_path: Path) -> LabelStore:
    return store_of(rows_with_pictures(tmp_path / "photos"), tmp_path / "labels")


@pytest.fixture
def client(store: LabelStore, tmp_path: Path) -> TestClient:
    return TestClient(guarded(collection_of(store, tmp_path / "cache"), tmp_path / "cache"))


@pytest.fixture
def locked(store: LabelStore, tmp_path: Path) -> TestClient:
    return TestClient(guarded(collection_of(store, tmp_path / "cache"), tmp_path / "cache", key=KEY))


@pytest.mark.parametrize("path", READS)
@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_other_sites_read_nothing(client: TestClient, path: str, site: str) -> None:
    for mode in ("cors", "no-cors", "websocket"):
        headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Origin": "http://evil.example"}
        assert client.get(path, headers=headers).status_code == 403
    allowed = client.get(path, headers={"Origin": "http://evil.example"})
    assert not [name for name in allowed.headers if name.startswith("access-control")]
    assert allowed.headers["cross-origin-resource-policy"] == "same-origin"


def test_a_link_from_elsewhere_opens_the_page_and_nothing_else(client: TestClient) -> None:
    followed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert client.get("/", headers=followed).status_code == 200
    assert {client.get(path, headers=followed).status_code for path in READS[1:]} == {403}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "cross-site", "X-Everymask": "browse"},
        {"Origin": "http://evil.example", "X-Everymask": "browse"},
        {"Origin": "null", "X-Everymask": "browse"},
        {"Origin": "http://testserver:81", "X-Everymask": "browse"},
        {"Content-Type": "text/plain", "Origin": "http://testserver"},
    ],
)
def test_other_sites_write_nothing(client: TestClient, store: LabelStore, headers: dict[str, str]) -> None:
    assert client.post("/api/steps", json=WISH, headers=headers).status_code == 403
    assert client.options("/api/steps", headers={"Origin": "http://evil.example"}).status_code == 405
    for method in ("put", "delete", "patch"):
        assert getattr(client, method)("/api/steps", headers=OWN).status_code == 405
    assert client.get("/api/steps", headers=OWN).status_code == 405
    assert read_corrections(store) == {}
    own = {"Origin": "http://testserver", **OWN}
    assert client.post("/api/steps", json=WISH, headers=own).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:7870", "127.0.0.1.evil.example", "localhost.evil", "", "a b"]
)
def test_a_name_that_an_attacker_points_at_this_machine_is_refused(client: TestClient, host: str) -> None:
    assert {client.get(path, headers={"Host": host}).status_code for path in READS} == {421}
    assert client.post("/api/steps", json=WISH, headers={"Host": host, **OWN}).status_code == 421


@pytest.mark.parametrize("host", ["127.0.0.1:7870", "localhost:7870", "LOCALHOST", "[::1]:7870", "testserver"])
def test_this_machines_own_names_are_not(client: TestClient, host: str) -> None:
    assert client.get("/api/store", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/static//etc/passwd",
        "/static/page.css/../../app.py",
        "/static/",
        "/etc/passwd",
        "/docs",
        "/openapi.json",
    ],
)
def test_only_the_pages_own_files_are_served(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404
    assert all(file.is_file() and file.parent.name == "static" for file in _files().values())


@pytest.mark.parametrize(
    "image_id",
    ["/etc/passwd", "../photos/photo 00.png", "file:///etc/passwd", "http://127.0.0.1:1/", "", "\0", "photo 00.png\0"],
)
@pytest.mark.parametrize("path", ["/picture", "/thumbnail", "/api/image"])
def test_no_path_or_address_of_a_client_is_opened(client: TestClient, path: str, image_id: str) -> None:
    answer = client.get(f"{path}?id={quote(image_id)}")
    assert (answer.status_code, "the store has no image" in answer.json()["error"]) == (404, True)


def test_every_answer_keeps_scripts_and_frames_of_others_out(client: TestClient) -> None:
    for path in (*READS, "/nowhere"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")
    page = client.get("/").text
    assert not re.search(r"https?://|\son\w+=|<script>|style=", page), "nothing inline, nothing from elsewhere"
    assert client.get("/static/main.js").headers["content-type"].startswith("text/javascript")


def test_a_large_write_is_refused(client: TestClient) -> None:
    assert client.post("/api/steps", content=b"x" * (9 * 2**20), headers=OWN).status_code == 413
    chunks = (b"x" * 2**20 for _ in range(9))
    assert client.post("/api/steps", content=chunks, headers=OWN).status_code == 413
    assert client.post("/api/steps", content=b"[" * 100_000, headers=OWN).status_code == 422


@pytest.mark.parametrize(
    "query", ["class=--5", "class=-", "class=1,", "masks=1-nan", "score=x-", "count=201", "first=-1"]
)
def test_numbers_that_are_none_are_refused(client: TestClient, query: str) -> None:
    assert client.get(f"/api/images?{query}").status_code == 422
    name, value = query.split("=")
    if name in ("class", "masks", "score"):
        wish = {**WISH["images"][0], "where": {name: value}}
        assert client.post("/api/steps", json={**WISH, "images": [wish]}, headers=OWN).status_code == 422


@pytest.mark.parametrize(
    ("query", "matched"),
    [
        ("masks=1e300-", 0),
        ("masks=-1e300", 4),
        ("score=1e300-", 0),
        ("doubt=-1e39", 4),
        ("masks=0.5-2.5", 3),
    ],
)
def test_ends_beyond_all_numbers_hold_all_or_nothing(client: TestClient, query: str, matched: int) -> None:
    assert client.get(f"/api/images?{query}").json()["matched"] == matched


def test_a_list_of_nonsense_is_a_new_one(client: TestClient) -> None:
    epoch = client.get("/api/store").json()["epoch"]
    for number in ("9" * 5000, "-1", "x", "\u0663", ""):
        assert client.get("/api/images", params={"list": f"{epoch}.{number}"}).json()["matched"] == 4


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/api/steps", {**WISH, "images": [{"id": "\ud800", "steps": [{"action": "confirm", "masks": "all"}]}]}),
        ("/api/undo", {"annotator": "eve", "id": "\ud800"}),
        ("/api/click", {"id": FIRST, "points": [[10**400, 1]], "labels": [1]}),
    ],
)
def test_half_characters_and_endless_numbers_are_refused(client: TestClient, path: str, content: Any) -> None:
    assert client.post(path, content=json.dumps(content).encode(), headers=OWN).status_code == 422


def with_numbers(store: LabelStore, column: str, value: float) -> None:
    """Write one number over a column of every image, or of every mask."""
    (part,) = store.parts()
    rows = pq.read_table(part.path)
    content = rows.to_pylist()
    for row in content:
        for holder in (row,) if column != "area" else row["masks"] or ():
            holder[column] = value
    pq.write_table(pa.Table.from_pylist(content, rows.schema), part.path)


@pytest.mark.parametrize(
    ("column", "value", "status"), [("coverage", 1e300, 200), ("coverage", float("inf"), 422), ("area", 2**62, 422)]
)
def test_numbers_of_a_strangers_store_end_nothing(
    store: LabelStore, tmp_path: Path, column: str, value: float, status: int
) -> None:
    """Every image is listed, and one that cannot be shown is refused by itself."""
    with_numbers(store, column, value)
    client = TestClient(guarded(collection_of(store, tmp_path / "cache"), tmp_path / "cache"))
    shown = [one["id"] for one in client.get("/api/images").json()["images"]]
    assert client.get("/api/store").json()["problems"] == []
    assert shown == ["broken.png", "photo 02.png", "photo 01.png", "photo 00.png"]
    answers = [client.get("/api/image", params={"id": name}).status_code for name in shown]
    assert answers == [200, status, status, status], "broken.png has an error in place of numbers"
    thumbnails = [client.get("/thumbnail", params={"id": name}).status_code for name in shown]
    assert thumbnails == [404, status, status, status]


def test_a_part_whose_numbers_make_no_sense_is_told_of(store: LabelStore, tmp_path: Path) -> None:
    with_numbers(store, "missed", float("inf"))
    client = TestClient(guarded(collection_of(store, tmp_path / "cache"), tmp_path / "cache"))
    assert client.get("/api/images").json()["images"] == []
    (problem,) = client.get("/api/store").json()["problems"]
    assert "a row says that less than nothing, or all there is, was missed" in problem


# ---- behind a key ----------------------------------------------------------------------------------------------


def test_behind_a_key_nothing_is_told_without_it(locked: TestClient, store: LabelStore) -> None:
    for path in READS[1:]:
        answer = locked.get(path)
        assert (answer.status_code, FIRST in answer.text) == (401, False)
    assert locked.post("/api/steps", json=WISH, headers=OWN).status_code == 401
    assert read_corrections(store) == {}
    page = locked.get("/")
    assert (page.status_code, "asks for its key" in page.text, "main.js" in page.text) == (401, True, False)


@pytest.mark.parametrize("key", ["", "wrong", KEY[:-1], KEY + " ", "é\ud800"])
def test_a_wrong_key_opens_nothing(locked: TestClient, key: str) -> None:
    form = f"key={quote(key.encode('utf-8', 'surrogatepass'))}"
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert locked.post("/login", content=form, headers=headers).status_code == 401
    assert locked.get("/", params={"key": key.encode("utf-8", "surrogatepass")}).status_code == 401
    locked.cookies.set("everymask_browse", key.encode("ascii", "replace").decode())
    assert locked.get("/api/store").status_code == 401


@pytest.mark.parametrize("path", ["/api/steps", "/nowhere", "/"])
def test_nothing_is_read_of_those_who_have_no_key(locked: TestClient, path: str) -> None:
    """Else a few of them fill the memory, eight megabytes each."""
    read: list[int] = []

    def body() -> Iterator[bytes]:
        for number in range(8):
            read.append(number)
            yield b"x" * 2**20

    headers = [(name.lower().encode(), value.encode()) for name, value in {**OWN, "Host": "x"}.items()]
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": headers}
    pieces = body()
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": next(pieces), "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(locked.app(scope, receive, send))
    assert (sent[0]["status"], read) == (401, [])
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert locked.post("/login", content=b"key=" + b"x" * 5000, headers=form).status_code == 413


def test_the_key_opens_the_page_and_leaves_the_address(locked: TestClient) -> None:
    opened = locked.get("/", params={"key": KEY}, follow_redirects=False)
    assert (opened.status_code, opened.headers["location"]) == (303, "/")
    cookie = opened.headers["set-cookie"]
    assert all(word in cookie for word in ("HttpOnly", "SameSite=lax"))
    assert KEY not in cookie
    assert locked.get("/api/store").status_code == 200
    assert locked.post("/api/steps", json=WISH).status_code == 403, "a cookie alone writes nothing"
    assert locked.post("/api/steps", json=WISH, headers=OWN).status_code == 200


def test_the_form_and_programs_have_ways_in_too(locked: TestClient) -> None:
    assert locked.get("/api/store", headers={"Authorization": f"Bearer {KEY}"}).status_code == 200
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    foreign = locked.post("/login", content=f"key={quote(KEY)}", headers={**form, "Origin": "http://evil.example"})
    assert foreign.status_code == 403
    answer = locked.post("/login", content=f"key={quote(KEY)}", headers=form)
    assert (answer.status_code, "main.js" in answer.text) == (200, True)


def test_behind_a_key_the_page_may_have_any_name(locked: TestClient) -> None:
    """A proxy gives it one; by a name of theirs, other sites do not get the cookie."""
    headers = {"Host": "labels.example", "Authorization": f"Bearer {KEY}"}
    assert locked.get("/api/store", headers=headers).status_code == 200
