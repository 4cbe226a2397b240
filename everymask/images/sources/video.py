"""Videos: pictures at regular times, or key frames, by the programs `ffprobe` and `ffmpeg`.

A picture is identified by milliseconds on the video's own clock: it is the last frame that begins by that time. It is
returned as a BMP of the upright frame, 8 bits a channel: without loss, and with the same bytes whether it is read alone
or among others, because its digest must match when it is opened again.

Listing a video reads its header and the packets at its end; for key frames all of it, without decoding. Pictures close
to each other are read in one pass, which begins at the key frame before its first picture.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor

import pyarrow as pa

from everymask.errors import EverymaskError, InputError
from everymask.images.decoding import ImageLimits
from everymask.images.sources.ffmpeg import Program
from everymask.images.sources.options import SourceOptions
from everymask.images.sources.served import served
from everymask.images.sources.source import Found, Source
from everymask.records import Member

MAX_PICTURES = 1_000_000
"""Most pictures of one video: a damaged clock could name any number."""
_KEY = "key"
_PICTURES = "V:0"  # not the cover of a film
_END_S, _MOST_MISSING_S = 10, 2
_SEEK_FROM_MS = 5000
"""Beyond this distance, one search for each picture is less work than decoding everything between."""
_KEYS_AT_ONCE = 100
_SCALE = "scale=flags=bitexact+accurate_rnd+full_chroma_int+full_chroma_inp,format=bgr24"
_BMP_HEAD = 6
_MARGINS_MS = (1000, 60_000, 10**9)
"""Decoding begins this long before a picture. Files record when a frame is decoded; it may be shown later."""


@dataclass(frozen=True)
class _Stream:
    """A video's clock: the length of a tick in milliseconds, and the duration in seconds."""

    tick_ms: Fraction
    seconds: float | None


def list_images(file: pa.NativeFile, name: str, options: SourceOptions) -> Iterator[Found]:
    """Every picture that the options ask for; if the video is cut short or damaged, the last one found says so."""
    apart = options.frames_apart()
    with served(file) as place:
        try:
            stream = _look(place.url)
            if apart == "key":
                times, damage = _packets(place.url, stream, None, keys=True)
            else:
                ends, damage = _end(place.url, stream)
                times = _times(ends[0], ends[-1], apart) if ends else []
        except InputError as error:
            yield Found("", error=f"the file is no video that can be read ({error})")
            return
    kind = _KEY if apart == _KEY else None
    for milliseconds in times[:MAX_PICTURES]:
        yield Found(str(milliseconds), Member("frame", kind, milliseconds=milliseconds))
    if len(times) > MAX_PICTURES:
        yield Found("", error=f"the video would give more than {MAX_PICTURES:,} pictures; take them further apart")
    elif damage or not times:
        yield Found("", error=f"the video is cut short or damaged ({damage or 'it holds no picture'})")


def _times(first: int, last: int, apart: int) -> list[int]:
    """The first frame, and from there on whole multiples."""
    return [first, *range((first // apart + 1) * apart, last + 1, apart)[:MAX_PICTURES]]


def _look(url: str) -> _Stream:
    """The clock of a video's pictures; InputError if it has none."""
    wanted = (
        "-select_streams",
        _PICTURES,
        "-show_entries",
        "stream=time_base:format=start_time,duration",
        "-of",
        "json",
    )
    with Program("ffprobe", wanted, url) as probe:
        found, complaint = json.loads(b"".join(iter(lambda: probe.read(2**16), b"")) or b"{}"), probe.complaint()
    if not found.get("streams"):
        raise InputError(complaint or "it holds no pictures")
    length = found.get("format", {})
    seconds = float(length.get("start_time", 0)) + float(length["duration"]) if "duration" in length else None
    return _Stream(Fraction(found["streams"][0]["time_base"]) * 1000, seconds)


def _end(url: str, stream: _Stream) -> tuple[list[int], str]:
    """The first and the last time at which a frame begins, and the damage found."""
    if stream.seconds is not None:
        first, _ = _packets(url, stream, "%+#8")
        last, damage = _packets(url, stream, f"{max(0.0, stream.seconds - _END_S):.3f}%")
        if first and last:
            whole = last[-1] > (stream.seconds - _MOST_MISSING_S) * 1000
            return [first[0], last[-1]], "" if whole else damage
    return _packets(url, stream, None)


def _packets(url: str, stream: _Stream, interval: str | None, keys: bool = False) -> tuple[list[int], str]:
    """Milliseconds at which frames begin, in order, and the program's error."""
    reading = () if interval is None else ("-read_intervals", interval)
    entries = ("-select_streams", _PICTURES, "-show_entries", "packet=pts,flags", "-of", "csv=p=0")
    times = set()
    with Program("ffprobe", (*entries, *reading), url) as probe:
        for line in probe.lines():
            pts, _, flags = line.partition(",")
            # D: left out by the video's own list of cuts.
            if pts.lstrip("-").isdigit() and "D" not in flags and ("K" in flags or not keys):
                times.add(_milliseconds(int(pts), stream))
                if len(times) > MAX_PICTURES:
                    break
        else:
            return sorted(time for time in times if time >= 0), probe.complaint()
    return sorted(time for time in times if time >= 0), ""


def _milliseconds(pts: int, stream: _Stream) -> int:
    """Rounded as ffmpeg's `settb` rounds: to the nearest, halves away from zero."""
    exact = pts * stream.tick_ms
    return floor(exact + Fraction(1, 2)) if exact >= 0 else ceil(exact - Fraction(1, 2))


def read_images(file: pa.NativeFile, members: Sequence[Member], limits: ImageLimits) -> list[bytes | InputError]:
    """The pictures as BMP files, in the given order."""
    found: list[bytes | InputError] = [InputError("")] * len(members)
    order = sorted(range(len(members)), key=lambda index: members[index].milliseconds or 0)
    with served(file) as place:
        for some in _passes(order, members):
            times = [members[index].milliseconds or 0 for index in some]
            key = members[some[0]].name == _KEY
            for index, data in zip(some, _one_pass(place.url, times, key, limits), strict=True):
                found[index] = data
    return found


def _passes(order: Sequence[int], members: Sequence[Member]) -> Iterator[list[int]]:
    """Indices of members to decode in one pass: evenly spaced and not far apart, or key frames."""
    some: list[int] = []
    for index in order:
        if some and not _goes_with(some, index, members):
            yield some
            some = []
        some.append(index)
    if some:
        yield some


def _goes_with(some: Sequence[int], index: int, members: Sequence[Member]) -> bool:
    member, last = members[index], members[some[-1]]
    if member.name != last.name:
        return False
    if member.name == _KEY:
        return len(some) < _KEYS_AT_ONCE
    step = (member.milliseconds or 0) - (last.milliseconds or 0)
    before = (last.milliseconds or 0) - (members[some[-2]].milliseconds or 0) if len(some) > 1 else step
    return 0 < step == before < _SEEK_FROM_MS


def _one_pass(url: str, times: Sequence[int], key: bool, limits: ImageLimits) -> list[bytes | InputError]:
    """The picture of each time, in order."""
    found: list[bytes | InputError] = []
    for margin in _MARGINS_MS:
        start = max(0, times[0] - margin)
        found = _decode(url, start, times, key, limits)
        if start == 0 or isinstance(found[0], bytes):
            break
    if key and len(times) > 1 and isinstance(found[-1], InputError):  # which one is missing, nobody knows
        return [_one_pass(url, [time], key, limits)[0] for time in times]
    return found


def _decode(url: str, start: int, times: Sequence[int], key: bool, limits: ImageLimits) -> list[bytes | InputError]:
    """The same, decoding from the key frame before `start`; after a missing one all are missing."""
    skip: tuple[str, ...] = ()
    if key:
        skip += ("-skip_frame", "nokey")
        chosen = "select='" + "+".join(f"eq(pts,{time})" for time in times) + "'"
    else:
        apart = times[1] - times[0] if len(times) > 1 else 1000
        chosen = (
            # Nothing at all where decoding begins too late.
            f"select='lte(pts,{times[0]})+not(isnan(prev_selected_pts))',"
            # One frame more at the end, so that the last one is known to be shown until then.
            f"tpad=stop=1:stop_mode=clone,fps=fps=1000/{apart}:start_time={times[0] / 1000:.3f}:round=up"
        )
    before = (
        *("-nostdin", "-threads", "1", "-max_pixels", str(limits.max_pixels), *skip),
        *("-copyts", "-seek_timestamp", "1", "-noaccurate_seek", "-ss", f"{start / 1000:.3f}"),
    )
    after = (
        *("-map", f"0:{_PICTURES}", "-vf", f"settb=1/1000,{chosen},{_SCALE}", "-vsync", "passthrough"),
        *("-frames:v", str(len(times)), "-c:v", "bmp", "-f", "image2pipe", "pipe:1"),
    )
    found: list[bytes | InputError] = []
    with Program("ffmpeg", before, url, after) as program:
        for time in times:
            picture = _next_picture(program, time, limits)
            if isinstance(picture, InputError):
                return found + [picture] * (len(times) - len(found))
            found.append(picture)
    return found


def _next_picture(program: Program, milliseconds: int, limits: ImageLimits) -> bytes | InputError:
    head = program.read(_BMP_HEAD)
    size = int.from_bytes(head[2:], "little")
    if len(head) == _BMP_HEAD:
        try:
            limits.check_bytes(size)
        except EverymaskError as error:
            return InputError(str(error))
        picture = head + program.read(size - _BMP_HEAD)
        if len(picture) == size:
            return picture
    reason = program.complaint() or "there is none"
    return InputError(f"the video gives no picture at {milliseconds / 1000:.3f} s ({reason})")


VIDEO = Source(
    "videos",
    (".mp4", ".mov", ".mkv", ".webm"),
    ("frame",),
    list_images,
    read_images,
    lambda options: options.frames is not None,
    "--frames SECONDS",
)
