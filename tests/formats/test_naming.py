"""No two images are ever taken for one, and no name leads out of the export."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everymask.errors import ConfigurationError
from everymask.formats.format import Naming
from everymask.formats.naming import plan_names, relative_path, stem_path


@pytest.mark.parametrize(
    ("image_id", "path"),
    [
        ("a/b.jpg", "a/b.jpg"),
        ("/etc/passwd", "etc/passwd"),
        ("../../x.jpg", "_/_/x.jpg"),
        ("s3://bucket/x.jpg", "s3/bucket/x.jpg"),
        ("a\\..\\b.jpg", "a/_/b.jpg"),
    ],
)
def test_no_image_id_leads_out_of_the_folder(image_id: str, path: str) -> None:
    assert relative_path(image_id) == path


@pytest.mark.parametrize("naming", [Naming.PATH, Naming.STEM])
@pytest.mark.parametrize("image_id", ["", ".", "/", "./", "//", "a/" * 2000 + "b.jpg", "x" * 300 + ".jpg"])
def test_an_id_that_names_no_file_is_refused_where_files_are_named(image_id: str, naming: Naming) -> None:
    with pytest.raises(ConfigurationError, match=r"would name (no file|a file whose path)"):
        plan_names(["a.jpg", image_id], naming, r"\0", unique=False)
    assert plan_names([image_id], Naming.IMAGE_ID, r"\0", unique=False).name(image_id) == image_id
    assert plan_names([image_id], naming, r"\0", unique=True).name(image_id)


def test_numbers_follow_the_order_of_ids() -> None:
    plan = plan_names(["b.jpg", "a/2.jpg", "a/1.jpg"], Naming.IMAGE_ID, r"\0", unique=False)
    assert plan.numbers == {"a/1.jpg": 1, "a/2.jpg": 2, "b.jpg": 3}
    assert plan.name("a/1.jpg") == "a/1.jpg"


CAFE = "café.jpg"


@pytest.mark.parametrize("naming", [Naming.PATH, Naming.STEM])
@pytest.mark.parametrize(
    "ids",
    [
        ["/x/a.jpg", "x/a.jpg", "x//a.jpg"],
        [unicodedata.normalize("NFC", CAFE), unicodedata.normalize("NFD", CAFE)],
        ["a\\b.jpg", "a/b.jpg"],
        ["IMG.jpg", "img.jpg"],
        ["Raw/IMG.JPG", "raw/img.jpg"],
        ["STRASSE.jpg", "straße.jpg"],
    ],
)
def test_names_that_would_share_a_file_are_refused_by_name(ids: list[str], naming: Naming) -> None:
    with pytest.raises(ConfigurationError, match="these collide: ") as refusal:
        plan_names(ids, naming, r"\0", unique=False)
    assert "--images" in str(refusal.value)
    assert plan_names(ids, Naming.IMAGE_ID, r"\0", unique=False).numbers.keys() == set(ids)


def test_the_two_spellings_of_one_name_are_told_apart_in_the_refusal() -> None:
    with pytest.raises(ConfigurationError, match=r"caf\\xe9|cafe\\u0301"):
        plan_names([unicodedata.normalize(form, CAFE) for form in ("NFC", "NFD")], Naming.PATH, r"\0", unique=False)


def test_equal_stems_collide_only_where_the_ending_is_left_out() -> None:
    ids = ["cmyk.jpg", "cmyk.tif"]
    assert plan_names(ids, Naming.PATH, r"\0", unique=False).name("cmyk.tif") == "cmyk.tif"
    with pytest.raises(ConfigurationError, match=r"cmyk\.jpg and cmyk\.tif"):
        plan_names(ids, Naming.STEM, r"\0", unique=False)


def test_names_that_differ_in_capitals_only_are_told_apart_where_images_are_put_beside_labels() -> None:
    ids = ["IMG.jpg", "img.JPG"]
    with pytest.raises(ConfigurationError, match=r"IMG\.jpg and img\.JPG"):
        plan_names(ids, Naming.STEM, r"\0", unique=False)
    assert plan_names(ids, Naming.IMAGE_ID, r"\0", unique=False).name("img.JPG") == "img.JPG"
    plan = plan_names(ids, Naming.STEM, r"\0", unique=True)
    first, second = (stem_path(plan.name(image_id)).casefold() for image_id in ids)
    assert first != second


def test_a_character_the_format_cannot_write_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"the name of 'a\\nb\.jpg' holds '\\n'"):
        plan_names(["a\nb.jpg"], Naming.STEM, "\n", unique=False)


def test_two_rows_of_one_image_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"two rows of a\.jpg"):
        plan_names(["a.jpg", "a.jpg"], Naming.IMAGE_ID, r"\0", unique=False)


@given(st.sets(st.text(st.characters(codec="utf-8"), min_size=1), max_size=20))
def test_unique_names_differ_in_their_stems_on_every_file_system(ids: set[str]) -> None:
    plan = plan_names(list(ids), Naming.STEM, "\n", unique=True)
    names = [plan.name(image_id) for image_id in ids]
    stems = {unicodedata.normalize("NFC", stem_path(name)).casefold() for name in names}
    assert len(stems) == len(ids)
    for name in names:
        assert "/" not in name
        assert not name.startswith(".")
        assert len(name.encode()) <= 255
        assert not set(name) & set(" #?%\"'\n\0&<>,;:|*")


def test_unique_names_are_the_same_from_run_to_run_and_keep_what_is_plain() -> None:
    ids = ["a/1.jpg", "b/1.jpg", "cmyk.jpg", "cmyk.tif", "Ünal ß.png", "x y#1?.jpg"]
    plan = plan_names(ids, Naming.STEM, "\n", unique=True)
    assert plan == plan_names(ids[::-1], Naming.STEM, "\n", unique=True)
    assert [plan.name(name) for name in ids[:3]] == ["a_1.jpg", "b_1.jpg", "cmyk.jpg"]
    assert plan.name("cmyk.tif").startswith("cmyk-")
    assert plan.name("Ünal ß.png") == "Ünal_ß.png"
    assert plan.name("x y#1?.jpg") == "x_y_1_.jpg"
