"""Files of every annotation tool with a few values changed: each is imported, or answered with a sentence.

python -m tests.review.import_fuzz FILES SEED
"""

from __future__ import annotations

import copy
import json
import random
import re
import resource
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from everymask.classes.exemplars.boxes import boxed_pictures
from everymask.classes.taxonomy import Taxonomy
from everymask.errors import EverymaskError
from everymask.evaluation.ground_truth import read_coco_instances
from everymask.images.decoding import ImageLimits
from everymask.labels.store import LabelStore
from everymask.review.importing import import_corrections
from everymask.review.reviewed import EditingFormat
from tests.formats.exporting import run_export
from tests.formats.shapes import shape_store

WAYS: list[tuple[EditingFormat, str]] = [
    ("coco", "rle"),
    ("coco", "uncompressed"),
    ("coco", "polygon"),
    ("label-studio", "bitmask"),
    ("label-studio", "brush"),
    ("label-studio", "polygon"),
    ("labelme", ""),
    ("x-anylabeling", ""),
    ("cvat", ""),
]
VALUES: list[Any] = [None, True, False, 0, -1, 1, 1.5, 7777, -300, -1e308, 1e308, float("nan"), float("inf")]
VALUES += [2**31, 2**63, 10**30, "", "x", "\0", "\ud800", "0" * 24, "P" * 50, "-5", "9" * 20]
VALUES += [[], [1], [[1, 2]], [None], {}, {"a": 1}, [[float("nan")] * 2] * 4, [2**62] * 4]
ATTRIBUTES = ["", "-1", "0", "999", "9" * 12, "nan", "inf", "1e400", "x", "1,2", "0, 5", "1;2", "&lt;", "²", "9" * 5000]
MOST_KEYS = 6


def submitted(content: Any, tool: EditingFormat) -> Any:
    """A file as it is when a person has finished every image."""
    if tool == "label-studio":
        for task in content:
            (prediction,) = task.pop("predictions")
            task["annotations"] = [{"completed_by": {"email": "a@b.c"}, "result": prediction["result"]}]
    elif tool == "x-anylabeling":
        content["checked"] = True
    elif tool == "labelme":
        content["flags"] = {"reviewed": True}
    return content


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where a JSON value could be changed."""
    if path:
        yield path
    inner = (
        value.keys() if isinstance(value, dict) else range(min(len(value), MOST_KEYS) if isinstance(value, list) else 0)
    )
    for key in inner:
        yield from places(value[key], (*path, key))


def changed_json(content: Any, draw: random.Random) -> bytes:
    """The file with one to three of its values lost, doubled, or replaced by nonsense."""
    content = copy.deepcopy(content)
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        *way, last = draw.choice(list(places(content)))
        holder = content
        for key in way:
            holder = holder[key]
        how = draw.random()
        if how < 0.15 and isinstance(holder, dict):
            del holder[last]
        elif how < 0.25 and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[last]))
        else:
            holder[last] = copy.deepcopy(draw.choice(VALUES))
        if not list(places(content)):
            break
    return json.dumps(content).encode("utf-8", "surrogatepass")


def changed_xml(data: bytes, draw: random.Random) -> bytes:
    """The file with one to three of its attributes, or an element's name, replaced."""
    for _ in range(draw.choice([1, 1, 2, 3])):
        pattern = rb'="([^"]*)"' if draw.random() < 0.8 else rb"<(mask|image|attribute)\b"
        spots = [match.span(1) for match in re.finditer(pattern, data)]
        first, last = draw.choice(spots)
        new = (
            draw.choice(ATTRIBUTES)
            if pattern.startswith(b"=")
            else draw.choice(["box", "ellipse", "polygon", "track", "tag"])
        )
        data = data[:first] + new.encode() + data[last:]
    return data


def changed_bytes(data: bytes, draw: random.Random) -> bytes:
    """The file with some of its bytes replaced."""
    altered = bytearray(data)
    for _ in range(draw.choice([1, 3, 20])):
        altered[draw.randrange(len(altered))] = draw.randrange(256)
    return bytes(altered)


def fuzz(folder: Path, files: int, seed: int) -> Counter[str]:
    """Read so many changed files of each way, with every reader that takes them; how each ended, by its kind.

    Whatever is no sentence is raised, with the changed file left where it is.
    """
    draw = random.Random(seed)
    store = shape_store(folder)
    ends: Counter[str] = Counter()
    for tool, segmentation in WAYS:
        output = (
            folder
            / f"{tool}-{segmentation}"
            / {"labelme": "out", "x-anylabeling": "out", "cvat": "out.xml"}.get(tool, "instances.json")
        )
        output.parent.mkdir()
        run_export(store, tool, output, segmentation or None)
        written = [output] if output.is_file() else [file for file in output.rglob("*.json") if file.name[0] != "."]
        for file in written if tool != "cvat" else ():
            file.write_text(json.dumps(submitted(json.loads(file.read_text()), tool)))
        original = {file: file.read_bytes() for file in written}
        for _ in range(files):
            file = draw.choice(written)
            if draw.random() < 0.08:
                file.write_bytes(changed_bytes(original[file], draw))
            elif tool == "cvat":
                file.write_bytes(changed_xml(original[file], draw))
            else:
                file.write_bytes(changed_json(json.loads(original[file]), draw))
            ends.update(read_by_all(store, output, tool))
            file.write_bytes(original[file])
    return ends


def read_by_all(store: LabelStore, output: Path, tool: EditingFormat) -> Iterator[str]:
    """Whether each reader took the files."""
    yield ending(lambda: import_corrections(store, output, tool))
    store.corrections.delete()
    if tool == "coco":
        classes = Taxonomy.parse("cat,dog")
        pictures = Path(store.uri).parent / "pictures"
        yield ending(lambda: read_coco_instances(output.parent, classes))
        yield ending(lambda: list(boxed_pictures(str(output), str(pictures), classes, 0.1, ImageLimits())))


def ending(read: Any) -> str:
    """How a reader ended: by what it has read, or by a sentence."""
    try:
        read()
    except EverymaskError as error:
        sentence = str(error)
    else:
        return "read"
    assert "\n" not in sentence
    return "refused"


def main(files: int, seed: int) -> None:
    """Change so many files in all and print how they ended, and the most memory that it took."""
    with tempfile.TemporaryDirectory() as folder:
        ends = fuzz(Path(folder), -(-files // len(WAYS)), seed)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({"files": -(-files // len(WAYS)) * len(WAYS), "peak_mib": peak, **ends}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
