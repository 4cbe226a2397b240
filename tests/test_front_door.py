"""`import everymask` as a newcomer uses it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import everymask
from everymask.entities.config import AmgConfig
from everymask.errors import ConfigurationError, InputError
from everymask.images.decoding import decode_image
from everymask.labelling.names import with_names
from everymask.labels.rows import ImageRow, to_table
from everymask.labels.store import LabelStore

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "images" / "coffee.jpg"
AMG = AmgConfig(points_per_side=4)


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small one, which is labelled many times."""
    path = tmp_path_factory.mktemp("photos") / "coffee.png"
    with Image.open(EXAMPLE) as image:
        image.resize((180, 120)).save(path)
    return path


def test_a_path_its_bytes_and_its_pixels_get_the_same_masks(photo: Path) -> None:
    model = everymask.load_model("nano", device="cpu")
    config = everymask.LabelConfig(method="amg", amg=AMG)
    by_path = everymask.label(photo, model, config=config)
    assert by_path.masks
    data = photo.read_bytes()
    for same in (str(photo), data, decode_image(data)):
        assert everymask.label(same, model, config=config) == by_path


def test_what_cannot_be_labelled_is_raised(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.jpg cannot be read"):
        everymask.label(tmp_path / "absent.jpg")
    with pytest.raises(InputError, match=r"not an image|cannot"):
        everymask.label(b"no picture")
    with pytest.raises(ConfigurationError, match="'sam' is unknown"):
        everymask.label(np.zeros((8, 8, 3), np.uint8), "sam")
    with pytest.raises(ConfigurationError, match=r"method 'entites' is unknown; use entities, classes"):
        everymask.LabelConfig(method="entites")
    for asked in (everymask.label, everymask.label_folder):
        with pytest.raises(ConfigurationError, match=r"method 'entites' is unknown; use entities, classes"):
            asked(tmp_path / "absent", method="entites")
        with pytest.raises(ConfigurationError, match=r"method 'amg' was given beside config"):
            asked(tmp_path / "absent", method="amg", config=everymask.LabelConfig())


def test_a_method_may_be_named_alone(photo: Path) -> None:
    model = everymask.load_model("nano", device="cpu")
    with pytest.raises(ConfigurationError, match="method clip needs names"):
        everymask.label(photo, model, method="clip")
    with pytest.raises(ConfigurationError, match="a class head is of no use to method amg"):
        everymask.label(photo, model, method="amg", head="everyday")


def test_names_are_asked_of_a_model_that_knows_them_alone_and_no_other_is_loaded() -> None:
    named = with_names(everymask.LabelConfig("concepts"), "cat,dog")
    pixels = np.zeros((8, 8, 3), np.uint8)
    for model in ("nano", "vit_h"):  # the second would be fetched
        with pytest.raises(ConfigurationError, match=f"model {model} knows no concepts; use --model sam3"):
            everymask.label(pixels, model, config=named)
    with pytest.raises(ConfigurationError, match="method concepts needs names"):
        everymask.label(pixels, everymask.load_model("nano"), config=everymask.LabelConfig("concepts"))
    with pytest.raises(ConfigurationError, match="a class head is of no use to method concepts"):
        everymask.label(pixels, everymask.load_model("nano"), config=named, head="everyday")


def test_a_folder_is_labelled_image_by_image_and_a_bad_one_is_an_error(photo: Path, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b.png").write_bytes(photo.read_bytes())
    (tmp_path / "a.png").write_bytes(b"no picture")
    (tmp_path / "notes.txt").write_text("not an image")
    for passed_over in (".git/a.png", ".hidden.png", "out/preview/a.png"):
        (tmp_path / passed_over).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / passed_over).write_bytes(photo.read_bytes())
    (tmp_path / "out" / "labels").mkdir()
    (tmp_path / "out" / "run.json").write_text("{}")
    config = everymask.LabelConfig(method="amg", amg=AMG)
    found = dict(everymask.label_folder(tmp_path, config=config, progress=False))
    assert list(found) == ["a.png", "deep/b.png"]
    assert isinstance(found["a.png"], InputError)
    assert found["deep/b.png"] == everymask.label(photo, config=config)
    with pytest.raises(InputError, match="holds no image"):
        everymask.label_folder(tmp_path / "absent")


def test_opening_a_store_where_none_is_fails_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a label store"):
        everymask.open_store(tmp_path)


def test_a_store_is_exported(photo: Path, tmp_path: Path) -> None:
    labels = everymask.label(photo, config=everymask.LabelConfig(method="amg", amg=AMG))
    store = LabelStore(str(tmp_path / "labels"))
    store.write_part(to_table([ImageRow("coffee.png", str(photo), labels, None, "0" * 64, 1.0)]))
    report = everymask.export(store, "coco", tmp_path / "coco.json")
    content = json.loads((tmp_path / "coco.json").read_text())
    assert report.images == len(content["images"]) == 1
    assert len(content["annotations"]) == len(labels.masks)
    with pytest.raises(ConfigurationError, match="no format 'koko'"):
        everymask.export(tmp_path / "labels", "koko", tmp_path / "x")


def test_other_names_are_refused_as_python_does() -> None:
    name = "lable"
    with pytest.raises(AttributeError, match="has no attribute 'lable'"):
        getattr(everymask, name)
