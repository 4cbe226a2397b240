"""Videos: pictures every so many seconds or key frames, each reopened by its time."""

from __future__ import annotations

import io
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from data_jobs.labelling.inputs import ImageRef, list_images
from data_jobs.labelling.skipped import Skipped
from everymask.errors import ConfigurationError, InputError
from everymask.files.addresses import AddressPolicy
from everymask.files.storage import resolve
from everymask.images.decoding import ImageLimits, decode_image
from everymask.images.files import read_members
from everymask.images.sources.options import SourceOptions
from everymask.images.sources.video import VIDEO
from everymask.records import Member
from tests.images.sources.films import STEP, film, needs_ffmpeg
from tests.images.sources.holding import ANYTHING, LIMITS, loaded, picture

pytestmark = needs_ffmpeg


def listed(location: object, frames: str | None = None) -> list[ImageRef]:
    return list(list_images(str(location), options=SourceOptions(frames=frames)))


def times(images: list[ImageRef]) -> list[int]:
    return [image.member.milliseconds for image in images if image.member is not None]


def shown(data: bytes | InputError | None) -> int:
    """Which frame it is, by its grey."""
    assert isinstance(data, bytes), data
    return round(float(decode_image(data)[30:, 30:].mean()) / STEP)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webm"])
@pytest.mark.parametrize(("frames", "apart"), [(None, 1000), ("0.35", 350), ("key", None)])
def test_every_picture_is_the_one_shown_then_and_reopened_alone(
    tmp_path: Path, name: str, frames: str | None, apart: int | None
) -> None:
    path = film(tmp_path / "in" / name)
    images = listed(tmp_path / "in", frames)
    if apart is not None:
        assert times(images) == list(range(0, 3901, apart))
    else:  # the encoder begins anew where it likes, and every eighth frame
        assert times(images)[0] == 0
        assert len(images) >= (1 if name.endswith("webm") else 5)
    assert [image.image_id for image in images] == [f"{name}/{time}" for time in times(images)]
    found = loaded(images, tmp_path)
    assert [error for _, error, _ in found] == [None] * len(images)
    assert [shown(data) for _, _, data in found] == [time // 100 for time in times(images)]
    for image, (_, _, data) in list(zip(images, found, strict=True))[1::4]:
        assert read_members(str(path), [image.member], LIMITS, ANYTHING) == [data]


@pytest.mark.parametrize("rate", ["30000/1001", "7"])
def test_times_between_frames_give_the_same_bytes_alone_and_among_others(tmp_path: Path, rate: str) -> None:
    path = film(tmp_path / "a.mp4", rate=rate)
    members = [Member("frame", milliseconds=77 * number) for number in range(9)]
    together = read_members(str(path), members, LIMITS, ANYTHING)
    for member, data in list(zip(members, together, strict=True))[1::3]:
        assert read_members(str(path), [member], LIMITS, ANYTHING) == [data]


def test_pictures_far_apart_are_searched_and_those_asked_for_out_of_order_are_theirs(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mkv", rate="2")
    wanted = [12_000, 0, 6_000, 500, 18_000]
    found = read_members(str(path), [Member("frame", milliseconds=time) for time in wanted], LIMITS, ANYTHING)
    assert [shown(data) for data in found] == [time // 500 for time in wanted]


def test_a_video_that_was_turned_is_upright(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4")
    turned = tmp_path / "turned.mov"
    subprocess.run(
        ["ffmpeg", "-v", "error", "-i", path, "-c", "copy", "-metadata:s:v:0", "rotate=90", turned], check=True
    )
    (image, *_) = listed(turned)
    (data,) = read_members(str(turned), [image.member], LIMITS, ANYTHING)
    assert isinstance(data, bytes)
    pixels = decode_image(data)
    assert pixels.shape == (64, 48, 3)
    assert Image.open(io.BytesIO(data)).format == "BMP"
    corners = [pixels[:8, :8].mean(), pixels[:8, -8:].mean(), pixels[-8:, :8].mean(), pixels[-8:, -8:].mean()]
    assert np.argmax(corners) in (1, 2)  # which of them is said by ffmpeg's version


def test_a_clock_that_does_not_begin_at_zero_is_the_video_s_own(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mkv", options=("-output_ts_offset", "7.25"))
    images = listed(path)
    assert times(images) == [7250, 8000, 9000, 10000, 11000]
    assert [shown(data) for _, _, data in loaded(images, tmp_path)] == [0, 7, 17, 27, 37]


def test_a_video_that_is_cut_short_gives_what_there_is_and_one_row(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mkv", frames=50, gop=5, options=("-cluster_time_limit", "500"))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    *images, rest = listed(path, "0.5")
    assert 2 <= len(images) < 9
    assert [error for _, error, _ in loaded(images, tmp_path)] == [None] * len(images)
    assert (rest.image_id, rest.member) == ("a.mkv", None)
    assert rest.error is not None
    assert "the video is cut short or damaged" in rest.error


def test_what_is_no_video_is_one_row_and_opens_no_other_file(tmp_path: Path) -> None:
    film(tmp_path / "secret" / "a.mp4")
    (tmp_path / "in").mkdir()
    whole = film(tmp_path / "whole.mp4").read_bytes()
    # A playlist names files of its own, which ffmpeg would open.
    (tmp_path / "in" / "1.mp4").write_text(f"#EXTM3U\n#EXTINF:4,\n{tmp_path}/secret/a.mp4\n#EXT-X-ENDLIST\n")
    (tmp_path / "in" / "2.mp4").write_text(f"ffconcat version 1.0\nfile {tmp_path}/secret/a.mp4\n")
    (tmp_path / "in" / "3.mp4").write_bytes(whole[: len(whole) // 2])  # its table of contents is at its end
    (tmp_path / "in" / "4.mkv").write_bytes(b"")
    (tmp_path / "in" / "5.webm").write_bytes(b"no video at all" * 100)
    sound = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "sine=duration=1", "-c:a", "aac"]
    subprocess.run([*sound, tmp_path / "in" / "6.mp4"], check=True)
    rows = listed(tmp_path / "in")
    assert [row.image_id for row in rows] == ["1.mp4", "2.mp4", "3.mp4", "4.mkv", "5.webm", "6.mp4"]
    assert all(row.error and "no video that can be read (" in row.error for row in rows)
    assert not any("127.0.0.1" in str(row.error) for row in rows)
    assert "it holds no pictures" in str(rows[5].error)


def test_a_playlist_that_is_called_a_video_asks_nobody(tmp_path: Path) -> None:
    asked: list[str] = []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/inside.mp4"
        (tmp_path / "a.mp4").write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{address}\n#EXT-X-ENDLIST\n")
        (row,) = listed(tmp_path / "a.mp4")
        server.shutdown()
    assert row.error is not None
    assert asked == []


def test_the_last_frame_is_shown_until_the_end(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4")
    (data,) = read_members(str(path), [Member("frame", milliseconds=3950)], LIMITS, ANYTHING)
    assert shown(data) == 39


def test_limits_hold_for_pictures_and_a_time_after_the_end_is_an_error(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4")
    members = [Member("frame", milliseconds=time) for time in (0, 1000)]
    for limits, problem in ((ImageLimits(max_pixels=1000), "no picture at 0.000 s"), (ImageLimits(5000), "bytes")):
        found = read_members(str(path), members, limits, ANYTHING)
        assert all(isinstance(data, InputError) and problem in str(data) for data in found)
    first, late = read_members(str(path), [members[0], Member("frame", milliseconds=60_000)], LIMITS, ANYTHING)
    assert isinstance(first, bytes)
    assert isinstance(late, InputError)
    assert "the video gives no picture at 60.000 s" in str(late)


def test_a_remote_video_is_read_by_ranges_and_lies_on_no_disk(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mov")
    filesystem, place = resolve("memory://films/a.mov")
    with filesystem.open_output_stream(place) as stream:
        stream.write(path.read_bytes())
    images = listed("memory://films")
    assert times(images) == [0, 1000, 2000, 3000]
    found = read_members(images[2].uri, [images[2].member], LIMITS, AddressPolicy(trusted=("memory://films",)))
    assert found == read_members(str(path), [images[2].member], LIMITS, ANYTHING)


def test_a_storage_that_fails_is_no_damaged_video(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mov")

    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError("the storage is away")

    with pytest.raises(OSError, match="the storage is away"):
        list(VIDEO.images(pa.PythonFile(Failing(path.read_bytes()), "r"), "a.mov", SourceOptions()))


def test_videos_beside_images_are_counted_with_the_option_that_takes_them(tmp_path: Path) -> None:
    (tmp_path / "one.png").write_bytes(picture(1))
    film(tmp_path / "clip.MOV")
    skipped = Skipped()
    found = list(list_images(str(tmp_path), None, skipped))
    assert [image.image_id for image in found] == ["one.png"]
    assert str(skipped) == "skipped: 1 .mov (--frames SECONDS takes them)"
    both = [image.image_id for image in listed(tmp_path, "2")]
    assert both == ["one.png", "clip.MOV/0", "clip.MOV/2000"]


@pytest.mark.parametrize("frames", ["0", "-1", "nan", "keys", "1e9"])
def test_frames_that_make_no_sense_are_refused(frames: str) -> None:
    with pytest.raises(ConfigurationError, match=r"frames must be seconds from 0\.001 to 1000000, or key; got"):
        SourceOptions(frames=frames)


def test_without_ffmpeg_a_run_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = film(tmp_path / "a.mp4")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match="videos need the program ffprobe on the path of every machine"):
        listed(path)
