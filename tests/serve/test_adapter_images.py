"""What a labelling tool may name as an image, and what of its configuration is understood."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from everymask.errors import ImageTooLargeError, InputError
from everymask.images.decoding import ImageLimits
from serve.adapters.images import image_file
from serve.adapters.mask_control import read_mask_control
from serve.errors import ServiceError

LIMITS = ImageLimits(max_bytes=100)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    (folder / "sub").mkdir(parents=True)
    (folder / "a b.jpg").write_bytes(b"picture")
    (folder / "sub/\u00e9.jpg").write_bytes(b"another")
    (folder / "large.jpg").write_bytes(b"x" * 101)
    (folder / "empty.jpg").write_bytes(b"")
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (folder / "out.jpg").symlink_to(tmp_path / "secret.jpg")
    (folder / "up").symlink_to(tmp_path)
    (folder / "loop").symlink_to(folder / "loop")
    os.mkfifo(folder / "pipe.jpg")
    return folder


@pytest.mark.parametrize(
    ("address", "content"),
    [
        ("/data/local-files/?d=a%20b.jpg", b"picture"),
        ("/data/local-files/?d=sub/%C3%A9.jpg", b"another"),
        ("/data/a%20b.jpg", b"picture"),
        ("a b.jpg", b"picture"),
        ("sub/../a b.jpg", b"picture"),
        ("data:image/png;base64," + base64.b64encode(b"sent along").decode(), b"sent along"),
    ],
)
def test_images_in_the_folder_and_in_the_request_are_read(root: Path, address: str, content: bytes) -> None:
    assert image_file(address, root, LIMITS) == content


@pytest.mark.parametrize(
    "address",
    [
        *("", ".", "..", "../secret.jpg", "/data/local-files/?d=../secret.jpg", "/data/local-files/?d=", "sub"),
        *("/data/local-files/?d=/etc/passwd", "/etc/passwd", "//etc/passwd", "%2e%2e/secret.jpg", "up/secret.jpg"),
        *("out.jpg", "loop", "pipe.jpg", "missing.jpg", "a\0b", "x" * 5000, "/data/../secret.jpg"),
        *("http://127.0.0.1/a.jpg", "https://example.org/a b.jpg", "file:///etc/passwd", "s3://bucket/a.jpg"),
        *("//host/a b.jpg", "http://[::1", "data:image/png;base64,%%%", "data:image/png,abc", "data:"),
        "data:image/png;name=a,b;base64,AAAA",
    ],
)
def test_nothing_else_is(root: Path, address: str) -> None:
    with pytest.raises(ServiceError) as refused:
        image_file(address, root, LIMITS)
    assert refused.value.status == 422
    assert str(root) not in refused.value.message
    assert len(refused.value.message) < 500


def test_without_a_folder_only_what_is_sent_is_taken() -> None:
    with pytest.raises(ServiceError, match="images_root"):
        image_file("/data/local-files/?d=a.jpg", None, LIMITS)


def test_the_limits_hold(root: Path) -> None:
    with pytest.raises(ImageTooLargeError):
        image_file("large.jpg", root, LIMITS)
    with pytest.raises(ImageTooLargeError):
        image_file("data:;base64," + base64.b64encode(bytes(101)).decode(), root, LIMITS)
    with pytest.raises(InputError, match="empty"):
        image_file("empty.jpg", root, LIMITS)


def configuration(*controls: str) -> str:
    return f"""<View><!-- a comment --><Image name="photo" value="$picture" smoothing="false"/>{"".join(controls)}
      <KeyPointLabels name="clicks" toName="photo" smart="true"><Label value="cat"/></KeyPointLabels></View>"""


def control(tag: str, extra: str = "") -> str:
    return f'<{tag} name="of {tag}" toName="photo" {extra}><Label value="cat"/><Label value="dog"/></{tag}>'


@pytest.mark.parametrize(
    ("tags", "kind"),
    [
        (["PolygonLabels"], "polygon"),
        (["PolygonLabels", "BrushLabels"], "brush"),
        (["BrushLabels", "PolygonLabels", "BitmaskLabels"], "bitmask"),
    ],
)
def test_the_most_faithful_tag_is_chosen(tags: list[str], kind: str) -> None:
    config = read_mask_control(configuration(*map(control, tags)))
    assert (config.kind, config.from_name.lower()) == (kind, f"of {kind}labels")
    assert (config.to_name, config.image_field, config.labels) == ("photo", "picture", ("cat", "dog"))
    assert config.head is None


def test_a_project_may_choose_its_head() -> None:
    assert read_mask_control(configuration(control("BrushLabels", 'head="pets"'))).head == "pets"


@pytest.mark.parametrize(
    "xml",
    [
        *("", "<View>", "no XML", "<View/>", configuration(), configuration('<BrushLabels name="b" toName="photo"/>')),
        configuration(control("BrushLabels")).replace("toName", "to"),
        '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>' + configuration(control("BrushLabels")),
        "<a>" * 5000,
    ],
)
def test_a_configuration_without_masks_is_refused(xml: str) -> None:
    with pytest.raises(ServiceError) as refused:
        read_mask_control(xml)
    assert refused.value.status == 422
