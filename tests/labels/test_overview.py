"""What stands out in a store: kinds of errors with examples, and the slowest images."""

from __future__ import annotations

import json

import pytest

from everymask.labels.overview import EXAMPLES, MAX_KINDS, OTHER, SLOWEST, Failures, Overview, error_kind, overview
from everymask.labels.rows import ImageRow, to_table
from tests.labels.examples import labels


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (
            "the file has 50,004 bytes, more than the limit of 40,000; raise max-bytes to take it",
            "the file has N bytes, more than the limit of N",
        ),
        ("not an image in a known format (it starts with b'this is ')", "not an image in a known format"),
        ("the video gives no picture at 3.125 s (ended)", "the video gives no picture at N s"),
        ("labelling failed unexpectedly (RuntimeError: no)", "labelling failed unexpectedly"),
        ("given up: 3 workers died while labelling this image", "given up: N workers died while labelling this image"),
        ("the file cannot be read as Parquet ('a\nb')", "the file cannot be read as Parquet"),
        ("the JPEG 2000 has 9 tiles, more than 5", "the JPEG N has N tiles, more than N"),
        (None, "it failed"),
        ("(odd)", "it failed"),
    ],
)
def test_a_kind_is_an_error_without_its_details(error: str | None, kind: str) -> None:
    assert error_kind(error) == kind


def failed(name: str, error: str) -> ImageRow:
    return ImageRow(name, f"/{name}", None, error, None, 0.0)


def rows(count: int = 9) -> list[ImageRow]:
    good = [ImageRow(f"good-{i}", "/x", labels(), None, None, 1.0 + i) for i in range(count)]
    return [*good, *(failed(f"lost-{i}", "the file is not there") for i in range(5)), failed("big", "it has 9 (b)")]


def test_kinds_are_counted_with_examples_and_the_slowest_come_first() -> None:
    found = Overview.of_rows(to_table(rows()))
    assert found.errors == 6
    assert found.failures["the file is not there"].count == 5
    assert [name for name, _ in found.failures["the file is not there"].examples] == ["lost-0", "lost-1", "lost-2"]
    assert found.failures["it has N"] == Failures(1, (("big", "it has 9 (b)"),))
    assert found.slowest == [(f"good-{8 - i}", 9.0 - i) for i in range(SLOWEST)]
    assert found.lines() == [
        "5 × the file is not there: lost-0, lost-1, lost-2, …",
        "1 × it has N: big",
        "slowest: good-8 9 s, good-7 8 s, good-6 7 s, good-5 6 s, good-4 5 s",
    ]


def test_it_is_the_same_however_the_rows_are_cut() -> None:
    table = to_table([*rows(), *rows(3)])
    whole = Overview.of_rows(table)
    for size in (1, 2, 7):
        assert overview(table.to_batches(max_chunksize=size)) == whole
    assert Overview.from_tree(json.loads(json.dumps(whole.as_tree()))) == whole


def test_without_errors_and_times_it_says_nothing() -> None:
    assert Overview.of_rows(to_table([ImageRow("a", "/a", labels())])).lines() == []
    assert Overview.of_rows(to_table([])) == Overview({}, [])


def test_kinds_beyond_the_most_are_counted_together() -> None:
    words = [f"{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(MAX_KINDS + 7)]
    found = Overview.of_rows(to_table([failed(word, f"it is {word}") for word in words]))
    assert len(found.failures) == MAX_KINDS + 1
    assert found.failures[OTHER].count == 7
    assert len(found.failures[OTHER].examples) == EXAMPLES
