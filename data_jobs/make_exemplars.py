"""Get pictures of your classes: made by a diffusion model, found on the web, or taken from folders or your own scenes.

    everymask exemplars --classes cat,dog --source diffusion --output exemplars
    everymask exemplars --classes cat,dog --source crawl --output exemplars
    everymask exemplars --classes cat,dog --source folder --input my-pictures --output exemplars
    everymask exemplars --classes cat,dog --source boxes --boxes coco.json --input scenes --output pets
    everymask exemplars --classes cat,dog --source concepts --input photos --output pets

Several sources may fill one folder, one after another. The same command again resumes. Exit codes: 0 done; 2 usage,
configuration, a class without a picture, or an output that cannot be written (whatever was finished is kept).
"""

from __future__ import annotations

import io
import logging
import shlex
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from data_jobs.exemplars.generation import generate
from data_jobs.runtime.actors import Footprint, connect, plan_actors
from data_jobs.runtime.command import Command
from data_jobs.runtime.exit_codes import DONE
from data_jobs.runtime.options import AddressOptions, WorkerOptions, refuse_idle
from data_jobs.runtime.outcome import next_step, tell
from data_jobs.runtime.settings import JOINED, Without
from everymask.backbone.devices import device_for
from everymask.backbone.models import MODELS
from everymask.backbone.registry import load_backbone
from everymask.classes.config import ConceptsConfig
from everymask.classes.exemplars.boxes import boxed_pictures
from everymask.classes.exemplars.concepts import SURE, concept_pictures
from everymask.classes.exemplars.crawl import CrawlConfig, crawl
from everymask.classes.exemplars.diffusion import DiffusionConfig, planned_pictures
from everymask.classes.exemplars.filters import DuplicateFilter, PictureFilter
from everymask.classes.exemplars.folder import class_folder_pictures
from everymask.classes.exemplars.likeness import ALIKE, likeness
from everymask.classes.exemplars.manifest import ExemplarFolder, Origin, load_exemplars
from everymask.classes.exemplars.queries import Queries, further_queries, read_queries
from everymask.classes.taxonomy import Taxonomy
from everymask.errors import ConfigurationError
from everymask.files.storage import canonical_uri
from everymask.images.decoding import ImageLimits, decode_image
from everymask.pictures.contact_sheet import contact_sheet
from everymask.wording import counted

REPORT_EVERY = 25
_DIFFUSION = Footprint(cores=4, memory_bytes=10 * 2**30)
"""Of a worker with Stable Diffusion in float32 (our choice)."""

_SOURCES_OF = {
    "margin": ("boxes", "concepts"),
    "checkpoint": ("concepts",),
    "concepts": ("concepts",),
    "queries": ("crawl", "diffusion"),
    "crawl": ("crawl",),
    "diffusion": ("diffusion",),
}
"""Settings that only some sources have a use for."""

Outcome = tuple[Origin, str | None]


@dataclass(frozen=True)
class MakeExemplarsConfig:
    """Get pictures of your classes. The same command again resumes."""

    classes: str
    """Names, `cat,dog`; or classes that gather several subjects, `animals=bird+cat+dog,person`; or a JSON file of
    {subject: class}."""
    output: str
    """Folder for the pictures, by subject, with manifest.jsonl that says where each is from, and contact sheets."""
    source: Literal["diffusion", "crawl", "folder", "boxes", "concepts"]
    """folder: your own, a directory per subject in --input; boxes: cut out of your own scenes, see --boxes; concepts:
    the same where SAM 3 is sure of them (3.4 GB, gated, GPU); crawl: openly licensed ones from the web;
    diffusion: a text-to-image model makes them (4 GB to fetch, GPU advised)."""
    input: str | None = None
    """Folder with a directory of pictures per subject, for folder; or of the images, for boxes and concepts."""
    boxes: str | None = None
    """Where the objects are, for --source boxes: a COCO file (.json), a YOLO data.yaml, or a label store of classes."""
    queries: str | None = None
    """What is asked for, for --source crawl and --source diffusion: a JSON file of {subject: [query, …]}. Common
    subjects have several by default, such as `person walking` and `person from behind`; others have their name."""
    addresses: Annotated[AddressOptions, JOINED] = field(default_factory=AddressOptions)
    margin: float = 0.15
    """Surroundings that a cut-out keeps on each side, as a share of its box's longer side."""
    device: str = "auto"
    """Where the diffusion model or SAM 3 runs: auto, cpu, cuda or cuda:N."""
    workers: Annotated[WorkerOptions, JOINED] = field(default_factory=WorkerOptions)
    duplicate_bits: int = 6
    """Pictures of a subject whose 64-bit perceptual hashes differ in at most so many bits are one; -1 keeps all."""
    sheet_pictures: int = 40
    """Most pictures on the contact sheet of a subject; 0 makes none."""
    checkpoint: str | None = None
    """Weights of SAM 3 for --source concepts: model.safetensors of facebook/sam3; by default fetched with HF_TOKEN."""
    concepts: Annotated[ConceptsConfig, Without(("names", "classes", "negatives"))] = field(
        default_factory=lambda: ConceptsConfig(score_thresh=SURE)
    )
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    crawl: CrawlConfig = field(default_factory=CrawlConfig)
    pictures: PictureFilter = field(default_factory=PictureFilter)

    def __post_init__(self) -> None:
        if self.source == "folder" and self.input is None:
            raise ConfigurationError("--source folder needs --input, the folder with a directory per subject")
        if self.source == "concepts" and self.input is None:
            raise ConfigurationError("--source concepts needs --input, the folder of your pictures")
        if self.input is not None and self.source not in ("folder", "boxes", "concepts"):
            raise ConfigurationError("--input is for --source folder, boxes and concepts; leave it out")
        if self.input is not None:
            place, source = canonical_uri(self.output), canonical_uri(self.input)
            if place == source or (self.source == "concepts" and place.startswith(f"{source}/")):
                raise ConfigurationError(
                    f"--output {self.output} lies in the input, where the next run would take its pictures for yours; "
                    "choose another folder"
                )
        if (self.source == "boxes") != (self.boxes is not None):
            raise ConfigurationError("--boxes says where the objects are for --source boxes; give both or neither")
        for name, sources in _SOURCES_OF.items():
            if self.source not in sources:
                refuse_idle(self, (name,), f"for --source {self.source}")
        if not 0 <= self.margin <= 2:
            raise ConfigurationError(f"margin must be in [0, 2]; got {self.margin}")
        if not -1 <= self.duplicate_bits <= 64 or self.sheet_pictures < 0:
            raise ConfigurationError("duplicate-bits must be in [-1, 64], sheet-pictures at least 0")


def run(config: MakeExemplarsConfig) -> int:
    """Fill the folder; returns the exit code.

    Raises:
        EverymaskError: (or an error of Ray with one as its cause) usage, configuration, a class without a picture, or
            an output that cannot be written.
    """
    taxonomy = Taxonomy.parse(config.classes)
    folder = ExemplarFolder(config.output, taxonomy, config.pictures, DuplicateFilter(config.duplicate_bits))
    rejected: Counter[str] = Counter()
    for done, (origin, reason) in enumerate(_outcomes(config, taxonomy, folder), start=1):
        if reason is not None:
            rejected[origin.subject] += 1
        if done % REPORT_EVERY == 0:
            print(f"{done:,} candidates: {done - rejected.total():,} kept, {rejected.total():,} rejected", flush=True)
    for subject, name in taxonomy.subjects:
        place = subject if subject == name else f"{subject} ({name})"
        print(
            f"{place}: {counted(folder.count(subject), 'picture')}, {counted(rejected[subject], 'candidate')} rejected"
        )
    if config.sheet_pictures:
        for subject, shown in _write_sheets(config, taxonomy).items():
            _warn_of_likeness(subject, *shown)
    missing = [subject for subject, _ in taxonomy.subjects if not folder.count(subject)]
    if missing:
        raise ConfigurationError(
            f"no picture of {', '.join(missing)} was kept; {config.output}/rejected.jsonl says why for each candidate"
        )
    print(f"look at {config.output}/sheets, and delete what does not fit")
    tell(output=config.output, pictures={subject: folder.count(subject) for subject, _ in taxonomy.subjects})
    next_step(f"everymask train classes --exemplars {shlex.quote(config.output)} --output classes.safetensors")
    return DONE


def _outcomes(config: MakeExemplarsConfig, taxonomy: Taxonomy, folder: ExemplarFolder) -> Iterator[Outcome]:
    """Every candidate with None if it was kept, else the reason."""
    if config.source == "crawl":
        yield from crawl(taxonomy, folder, config.crawl, _queries(config))
    elif config.source == "concepts":
        yield from _by_concepts(config, taxonomy, folder)
    elif config.source in ("folder", "boxes"):
        for origin, data in _own_pictures(config, taxonomy):
            if not folder.knows(origin):
                yield origin, folder.add(data, origin)
    else:
        planned = planned_pictures(taxonomy, config.diffusion, _queries(config))
        planned = [origin for origin in planned if not folder.knows(origin)]
        if planned:
            connect()
            actors = plan_actors(config.workers.actors, config.workers.gpus_per_actor, _DIFFUSION)
            device = device_for(config.device, actors.gpus)
            for number, data in generate(planned, config.diffusion, device, actors):
                yield planned[number], folder.add(data, planned[number])


def _by_concepts(config: MakeExemplarsConfig, taxonomy: Taxonomy, folder: ExemplarFolder) -> Iterator[Outcome]:
    """What SAM 3 is sure of; says what that took, beside what a small model takes."""
    assert config.input is not None
    backbone = load_backbone("sam3", config.checkpoint, config.device)
    images: set[str] = set()
    started = time.monotonic()
    found = concept_pictures(backbone, config.input, taxonomy, config.concepts, config.margin, ImageLimits())
    for origin, data in found:
        images.add(origin.url.partition("#")[0])
        if not folder.knows(origin):
            yield origin, folder.add(data, origin)
    seconds = (time.monotonic() - started) / max(1, len(images))
    print(
        f"SAM 3 took {seconds:.3g} s for each of {counted(len(images), 'picture')} with something in it; by a head "
        f"that learns from them nano takes {MODELS['nano'].speed} on two CPU cores: see `everymask estimate`"
    )


def _queries(config: MakeExemplarsConfig) -> Queries:
    return Queries() if config.queries is None else read_queries(config.queries)


def _own_pictures(config: MakeExemplarsConfig, taxonomy: Taxonomy) -> Iterator[tuple[Origin, bytes]]:
    if config.boxes is not None:
        return boxed_pictures(
            config.boxes,
            config.input,
            taxonomy,
            config.margin,
            ImageLimits(),
            config.addresses.local_root,
            config.addresses.allow_private_networks,
        )
    assert config.input is not None
    return class_folder_pictures(config.input, taxonomy)


def _write_sheets(
    config: MakeExemplarsConfig, taxonomy: Taxonomy
) -> dict[str, tuple[list[NDArray[np.uint8]], set[str]]]:
    """Write a contact sheet for each subject; returns pictures from first to last, and all its queries."""
    folder = Path(config.output)
    files: dict[str, list[str]] = {subject: [] for subject, _ in taxonomy.subjects}
    asked: dict[str, set[str]] = {subject: set() for subject, _ in taxonomy.subjects}
    for exemplar in load_exemplars(folder) if (folder / "manifest.jsonl").is_file() else []:
        if exemplar.origin.subject in files:
            files[exemplar.origin.subject].append(exemplar.file)
            asked[exemplar.origin.subject].add(exemplar.origin.prompt)
    shown = {}
    for subject, found in files.items():
        if found:
            count = min(len(found), config.sheet_pictures)
            names = [found[index * len(found) // count] for index in range(count)]
            pictures = [decode_image((folder / name).read_bytes()) for name in names]
            shown[subject] = pictures, asked[subject]
            sheet = contact_sheet(pictures, [Path(name).name for name in names], columns=8, cell=160)
            stream = io.BytesIO()
            Image.fromarray(sheet).save(stream, "JPEG", quality=88)
            target = folder / "sheets" / f"{subject}.jpg"
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(stream.getvalue())
    return shown


def _warn_of_likeness(subject: str, pictures: list[NDArray[np.uint8]], asked: set[str]) -> None:
    alike = likeness(pictures, torch.device("cpu"))
    if alike is not None and alike > ALIKE:
        words = ", ".join(f"“{query}”" for query in further_queries(subject, asked))
        print(
            f"{subject}: its pictures look alike (mean similarity {alike:.2f}, above {ALIKE:g}), so it will be found "
            f"only where it looks like them; add other views, such as {words} with --queries, or cut it out of your "
            "scenes with --source boxes"
        )


def _main(config: MakeExemplarsConfig) -> int:
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    return run(config)


command = Command(
    "exemplars",
    MakeExemplarsConfig,
    _main,
    "Get pictures of your classes: made by a diffusion model, found on the web, or taken from folders or your own "
    "scenes. Several sources may fill one folder, one after another. The same command again resumes.",
    groups={
        "input and output": ("classes", "output", "source", "input", "boxes", "margin", "sheet_pictures"),
        "which pictures": ("queries", "duplicate_bits", "crawl.images_per_subject", "crawl.licenses"),
        "diffusion model": ("diffusion.model", "diffusion.images_per_subject", "device", "actors", "gpus_per_actor"),
    },
    interrupted="what is finished is kept, the same command resumes",
)

if __name__ == "__main__":
    sys.exit(command(sys.argv[1:]))
