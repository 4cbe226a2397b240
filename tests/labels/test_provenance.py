"""run.json says where labels come from, and what changed since."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from everymask.errors import ConfigurationError
from everymask.labels.provenance import RunAttempt, RunRecord, differences, package_versions, read_run, write_run
from everymask.labels.rows import to_table
from everymask.labels.store import LabelStore, PartSummary
from tests.labels.examples import images


@pytest.fixture
def store(tmp_path: Path) -> LabelStore:
    return LabelStore(str(tmp_path))


def test_a_record_survives(store: LabelStore) -> None:
    attempt = RunAttempt("python x", "2026-01-01T00:00:00+00:00", "cpu", package_versions(), 1.5, 3)
    record = RunRecord({"method": "amg", "amg": {"points_per_side": 32}}, [attempt], PartSummary(3, 1, 2, 0.5))
    assert read_run(store) is None
    write_run(store, record)
    assert read_run(store) == record


def test_what_a_newer_everymask_says_of_an_attempt_is_passed_over(store: LabelStore) -> None:
    attempt = RunAttempt("everymask label", "2026-01-01T00:00:00+00:00", "cuda", {}, precision="bf16")
    write_run(store, RunRecord({"method": "amg"}, [attempt]))
    content = json.loads(store.run_file.read())
    content["attempts"][0]["temperature"] = 70
    store.run_file.write(json.dumps(content).encode())
    record = read_run(store)
    assert record is not None
    assert record.rebuilt is None
    assert record.attempts == [attempt]


def test_no_secret_of_an_address_is_recorded(store: LabelStore) -> None:
    command = "python x --checkpoint 'https://alice:word@h/a.pth?X-Amz-Signature=abc' --input s3://b/set"
    write_run(store, RunRecord({"input": "https://t0ken@h/list.txt"}, [RunAttempt(command, "", "cpu", {})]))
    content = Path(store.root, "run.json").read_text()
    assert not any(secret in content for secret in ("alice", "word", "abc", "t0ken"))
    record = read_run(store)
    assert record is not None
    assert record.attempts[0].command == (
        "python x --checkpoint 'https://***@h/a.pth?X-Amz-Signature=***' --input s3://b/set"
    )


def test_the_digest_does_not_depend_on_the_order_of_keys() -> None:
    one, other = RunRecord({"a": 1, "b": {"c": 2, "d": 3}}), RunRecord({"b": {"d": 3, "c": 2}, "a": 1})
    assert one.config_sha256 == other.config_sha256
    assert one.config_sha256 != RunRecord({"a": 1, "b": {"c": 2, "d": 4}}).config_sha256


def test_versions_name_what_shapes_the_result() -> None:
    assert {"python", "everymask", "torch", "pyarrow"} <= package_versions().keys()


def test_every_difference_is_named() -> None:
    before = {"model": "nano", "amg": {"points_per_side": 32, "box": [1, 2]}, "gone": 1}
    now = {"model": "vit_b", "amg": {"points_per_side": 16, "box": [1, 2]}}
    assert differences(before, now) == [
        "amg.points_per_side was 32, now 16",
        "gone was 1, now not set",
        'model was "nano", now "vit_b"',
    ]
    assert differences(now, now) == []


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 1}', '{"format": 1, "config": {}, "attempts": [{}]}'])
def test_a_damaged_record_alone_is_refused_and_no_label_given_up(store: LabelStore, content: str) -> None:
    Path(store.root, "run.json").write_text(content)
    with pytest.raises(ConfigurationError, match=r"run\.json is no record of a run: .*put back a copy") as caught:
        read_run(store)
    assert "--overwrite" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "{", '{"format": 1}', None])
def test_a_lost_or_damaged_record_is_rebuilt_from_the_parts(store: LabelStore, content: str | None) -> None:
    if content is not None:
        Path(store.root, "run.json").write_text(content)
    store.write_part(to_table(images()[:1]), {"method": "amg"})
    store.write_part(to_table(images()[1:]), {"method": "amg"})
    Path(store.parts()[0]).write_bytes(b"damaged")
    record = read_run(store)
    assert record is not None
    assert (record.config, record.attempts) == ({"method": "amg"}, [])
    reasons = {
        None: "missing",
        "": "(Expecting value",
        "{": "(Expecting property",
        '{"format": 1}': "(it has no 'config')",
    }
    assert reasons[content] in record.rebuilt
    assert record.rebuilt.startswith("it was missing" if content is None else "it was damaged (")


def test_parts_of_two_runs_rebuild_nothing(store: LabelStore) -> None:
    store.write_part(to_table(images()[:1]), {"method": "amg"})
    store.write_part(to_table(images()[1:]), {"method": "entities"})
    with pytest.raises(ConfigurationError, match=r"parts are of different runs .method was"):
        read_run(store)


def test_a_newer_record_is_refused(store: LabelStore) -> None:
    Path(store.root, "run.json").write_text('{"format": 99}')
    with pytest.raises(ConfigurationError, match="has format 99; this everymask reads up to"):
        read_run(store)
