"""What annotation tools write besides the masks they were given, and what strangers may put in their place."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from everymask.errors import InputError
from everymask.masks.rle import decode_mask
from everymask.review.reviewed import RefusedImage, ReviewedImage
from everymask.review.tool_files import read_coco, read_cvat, read_label_studio, read_labelme


def cvat(folder: Path, image: str, size: str = 'width="20" height="30"') -> list[ReviewedImage | RefusedImage]:
    path = folder / "annotations.xml"
    path.write_text(f'<annotations><image id="0" name="a.png" {size}>{image}</image></annotations>')
    return read_cvat(path)


def test_boxes_and_ellipses_of_cvat_become_masks_that_say_so(tmp_path: Path) -> None:
    (image,) = cvat(
        tmp_path,
        '<box label="cat" xtl="1" ytl="2" xbr="9" ybr="6"/><ellipse label="cat" cx="10" cy="10" rx="6" ry="3"/>'
        '<box label="cat" xtl="2" ytl="10" xbr="12" ybr="14" rotation="90.0"/>'
        '<polygon label="cat" points="1,1;9,1;9,9"/><points label="cat" points="4,4"/><tag label="dark"/>',
    )
    assert isinstance(image, ReviewedImage)
    assert [mask.drawn_as for mask in image.masks] == ["box", "ellipse", "box", None]
    assert image.ignored == {"points": 1, "tag": 1}
    box, ellipse, turned, _ = (decode_mask(mask.rle) for mask in image.masks)
    assert box[2:6, 1:9].all()
    assert box.sum() == 32
    y, x = np.mgrid[:30, :20] + 0.5
    truth = ((x - 10) / 6) ** 2 + ((y - 10) / 3) ** 2 < 1
    assert (ellipse & truth).sum() / (ellipse | truth).sum() > 0.85
    assert turned[7:17, 5:9].all()
    assert turned.sum() == 40


def test_tracks_of_cvat_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "video.xml"
    path.write_text('<annotations><track id="0" label="cat"><mask frame="0" rle="0,4"/></track></annotations>')
    with pytest.raises(InputError, match=r"video\.xml holds tracks of a video \(cat\).*CVAT for images 1\.1"):
        read_cvat(path)


ENTITY = '<!DOCTYPE x [<!ENTITY a "unfolded">]><annotations><image name="&a;" width="4" height="4"/></annotations>'
LAUGHS = "".join(f'<!ENTITY a{i} "{(f"&a{i - 1};" if i else "lol") * 10}">' for i in range(9))
QUADRATIC = f'<!DOCTYPE x [<!ENTITY a "{"x" * 100_000}">]><annotations>{"&a;" * 5000}</annotations>'

WRAPS = ",".join([str(2**62)] * 4 + ["4"])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("content", [ENTITY, f"<!DOCTYPE x [{LAUGHS}]><annotations>&a8;</annotations>", QUADRATIC])
def test_a_document_type_is_refused_in_any_encoding_before_it_unfolds(
    tmp_path: Path, content: str, encoding: str
) -> None:
    path = tmp_path / "a.xml"
    declared = encoding.removesuffix("-be")
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    path.write_bytes(f'{mark}<?xml version="1.0" encoding="{declared}"?>{content}'.encode(encoding))
    tracemalloc.start()
    with pytest.raises(InputError, match="declares a document type"):
        read_cvat(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 2**20


def test_elements_without_end_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "deep.xml"
    path.write_bytes(b"<annotations>" + b"<a>" * 100_000 + b"</a>" * 100_000 + b"</annotations>")
    with pytest.raises(InputError, match="more than 20 deep"):
        read_cvat(path)


@pytest.mark.parametrize(
    ("size", "shape", "problem"),
    [
        ('width="1000000" height="1000000"', "", "its image has 1000000 x 1000000 pixels"),
        ('width="0" height="0"', "", "its image has 0 x 0 pixels"),
        ('width="-4" height="-4"', "", "its image has -4 x -4 pixels"),
        ('width="x" height="4"', "", "which is no number"),
        ('height="4"', "", "which is no number"),
        ("", '<polygon label="x" points="-1e9,0;1e9,0;1e9,1e9"/>', "far outside its image"),
        ("", '<polygon label="x" points="nan,0;inf,0;1,1"/>', "no number"),
        ("", '<polygon label="x" points="1,2;3"/>', "no list of x and y"),
        ("", '<box label="x" xtl="nan" ytl="0" xbr="1" ybr="1"/>', "lies in no image"),
        ("", '<ellipse label="x" cx="1" cy="1" rx="1e300" ry="1"/>', "lies in no image"),
        ("", '<mask label="x" rle="0, 4" left="99999" top="0" width="2" height="2"/>', "does not lie in its image"),
        ("", '<mask label="x" rle="0, 4" left="nan" top="0" width="2" height="2"/>', "lies in no image"),
        ("", '<mask label="x" rle="0, 5" left="0" top="0" width="2" height="2"/>', "do not add up"),
        (
            "",
            f'<mask label="x" rle="{2**62},{2**62},{2**62},{2**62},4" left="0" top="0" width="2" height="2"/>',
            "add up",
        ),
        ("", '<mask label="" rle="0, 4" left="0" top="0" width="2" height="2"/>', "a class is named"),
        ("", '<mask rle="0, 4" left="0" top="0" width="2" height="2"/>', "a class is named"),
    ],
)
def test_what_cvat_never_writes_is_a_sentence(tmp_path: Path, size: str, shape: str, problem: str) -> None:
    (image,) = cvat(tmp_path, shape, size or 'width="20" height="30"')
    assert isinstance(image, RefusedImage)
    assert problem in image.problem
    assert "a.png" in image.problem


def region(name: str, left: float, label: str, **more: Any) -> dict[str, Any]:
    points = [[left, 10], [left + 10, 10], [left + 10, 20], [left, 20]]
    return {
        "id": name,
        "type": "polygonlabels",
        "original_width": 100,
        "original_height": 100,
        "value": {"points": points, "closed": True, "polygonlabels": [label]},
    } | more


def tasks(folder: Path, result: list[Any]) -> list[ReviewedImage | RefusedImage]:
    path = folder / "tasks.json"
    path.write_text(
        json.dumps([{"data": {"image": "a.jpg", "image_id": "a.jpg"}, "annotations": [{"result": result}]}])
    )
    return read_label_studio(path)


def test_polygons_whose_ids_hold_a_dash_stay_apart_and_pieces_of_ours_stay_together(tmp_path: Path) -> None:
    ours = "0123456789abcdef01234567"
    (image,) = tasks(
        tmp_path,
        [
            region("-xA3bQ9kLm", 10, "cat"),
            region("-tR7_2mNbc", 60, "dog"),
            region("x-1", 10, "cat"),
            region("x-2", 30, "cat"),
            region(ours, 10, "cat"),
            region(f"{ours}-1", 70, "cat"),
        ],
    )
    assert isinstance(image, ReviewedImage)
    assert [(mask.class_name, len(mask.polygons)) for mask in image.masks] == [
        ("cat", 1),
        ("dog", 1),
        ("cat", 1),
        ("cat", 1),
        ("cat", 2),
    ]
    assert image.masks[-1].mask_id == ours


def test_what_is_no_mask_in_label_studio_is_ignored_and_counted(tmp_path: Path) -> None:
    choice = {"id": "q", "type": "choices", "value": {"choices": ["blurred"]}, "origin": "manual"}
    point = region("p", 10, "cat", type="keypointlabels")
    of_a_region = region("m", 10, "cat") | {"type": "choices"}
    nonsense = region("n", 10, "cat", type=["polygonlabels"])
    (image,) = tasks(tmp_path, [choice, point, region("m", 10, "cat"), of_a_region, nonsense])
    assert isinstance(image, ReviewedImage)
    assert (len(image.masks), image.size_hw) == (1, (100, 100))
    assert image.ignored == {"choices": 2, "keypointlabels": 1, "['polygonlabels']": 1}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"original_width": 10**6, "original_height": 10**6}, "its image has 1000000 x 1000000 pixels"),
        ({"original_width": None}, "which is no size"),
        ({"value": None}, "has no label"),
        ({"value": {"polygonlabels": ["cat"], "points": [[1e9, 0], [0, 0], [5, 5]]}}, "far outside"),
        ({"value": {"polygonlabels": ["cat"], "points": [["a", 0], [0, 0], [5, 5]]}}, "cannot be read"),
        ({"value": {"polygonlabels": ["cat"], "rle": 10**12}}, "no list of bytes"),
        ({"value": {"polygonlabels": ["cat"], "imageDataURL": 5}}, "is no text"),
        ({"value": {"polygonlabels": ["cat"], "imageDataURL": "data:,aGFsbG8="}}, "is no PNG"),
        ({"value": {"polygonlabels": ["c\x01at"]}}, "no text can show"),
        ({"value": {"polygonlabels": [["cat"]]}}, "a class is named"),
    ],
)
def test_what_label_studio_never_writes_is_a_sentence(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    (image,) = tasks(tmp_path, [region("a", 10, "cat") | change])
    assert isinstance(image, RefusedImage)
    assert problem in image.problem


def test_coco_of_boxes_and_of_unknown_images_says_so(tmp_path: Path) -> None:
    path = tmp_path / "boxes.json"
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 20, "height": 20}],
        "categories": [{"id": 0, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 0, "segmentation": [], "bbox": [1, 1, 5, 5]},
            {"id": 2, "image_id": 1, "category_id": 0},
            {"id": 3, "image_id": 7, "category_id": 0, "segmentation": [[1, 1, 5, 1, 5, 5]]},
            {"id": 4, "image_id": [7], "category_id": 0},
        ],
    }
    path.write_text(json.dumps(content))
    image, strays = read_coco(path)
    assert isinstance(image, ReviewedImage)
    assert isinstance(strays, RefusedImage)
    assert [(mask.drawn_as, int(decode_mask(mask.rle).sum())) for mask in image.masks] == [("box", 25)]
    assert image.ignored == {"annotation without a shape": 1}
    assert "2 annotations" in strays.problem


def test_one_broken_file_of_a_folder_is_one_refused_image(tmp_path: Path) -> None:
    shape = {"label": "cat", "shape_type": "polygon", "points": [[0, 0], [5, 0], [5, 5]]}
    content = {"flags": {"reviewed": True}, "shapes": [shape], "imageHeight": 9, "imageWidth": 9, "imagePath": "a.png"}
    (tmp_path / "a.json").write_text(json.dumps(content))
    (tmp_path / "b.json").write_text(json.dumps(content)[:40])
    (tmp_path / "c.json").write_text(json.dumps(content | {"imageHeight": "9"}))
    found = read_labelme(tmp_path)
    assert [type(image) for image in found] == [ReviewedImage, RefusedImage, RefusedImage]
