"""Train a class head on exemplars: the masks of every picture are described once, then a head is trained in a minute.
It learns from corrected labels, too, beside exemplars or without any.

    everymask train classes --exemplars exemplars --output pets.safetensors
    everymask train classes --exemplars exemplars --classes animals=cat+dog,chair --output rooms.safetensors
    everymask train classes --corrections labels --embeddings embeddings --output corrected.safetensors

The same exemplars train any number of heads without embedding again. Exit codes: 0 done; 2 usage, configuration, a
class without usable exemplars or corrections, a loss that became NaN, or an output that cannot be written.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from data_jobs.evaluation.figures import class_rows, table
from data_jobs.exemplars.bags import BagSpec, embed_exemplars, pending_exemplars
from data_jobs.exemplars.composites import planned_composites, write_composites
from data_jobs.exemplars.scenes import Scenes, choose_scenes, measure_scenes
from data_jobs.exemplars.training_page import Pictured, write_page
from data_jobs.runtime.actors import Footprint, connect, plan_actors
from data_jobs.runtime.command import Command
from data_jobs.runtime.exit_codes import DONE
from data_jobs.runtime.options import AddressOptions, ModelOptions, WorkerOptions, refuse_idle
from data_jobs.runtime.outcome import next_step, tell
from data_jobs.runtime.progress import format_duration
from data_jobs.runtime.settings import JOINED
from data_jobs.runtime.waiting import waiting
from everymask.backbone.devices import device_for
from everymask.backbone.registry import load_backbone
from everymask.classes.config import MaskConfig, Recipe
from everymask.classes.embeddings import StoredEmbeddings, load_embeddings
from everymask.classes.exemplars.filters import SingleObjectFilter
from everymask.classes.exemplars.manifest import Exemplar, load_exemplars
from everymask.classes.head import ClassHead, save_head
from everymask.classes.recipes import PAPER_MASKS, PAPER_TRAINING, below
from everymask.classes.taxonomy import Taxonomy
from everymask.classes.training.bags import check_pictured, make_bags, no_bags
from everymask.classes.training.composites import composite_masks
from everymask.classes.training.corrections import (
    CorrectedImage,
    NamedMasks,
    classes_of,
    corrected_images,
    correction_class_ids,
    named_masks,
)
from everymask.classes.training.negatives import negative_masks, negative_pictures, suspicious_negatives
from everymask.classes.training.train import Epoch, TrainingConfig, TrainingResult, head_spec, train_head
from everymask.errors import ConfigurationError
from everymask.files.storage import canonical_uri
from everymask.labels.address_policy import address_policy
from everymask.labels.provenance import read_run
from everymask.labels.store import LabelStore
from everymask.redaction import redact
from everymask.wording import counted


@dataclass(frozen=True)
class TrainClassesConfig:
    """A class head from exemplars, from corrected labels, or from both."""

    output: str
    """The class head to write, a .safetensors file; a report page, .html, is put beside it."""
    exemplars: str | None = None
    """Folder of exemplars."""
    corrections: str | None = None
    """Label store with corrections that people made (`everymask review import`), to learn from."""
    embeddings: str | None = None
    """Mask embeddings of the images in that store (`everymask label --save-embeddings`), so that few of them need to be
    read again."""
    negatives: str | None = None
    """Folder of pictures that show none of the classes, beside exemplars: all that is in them is background."""
    scenes: str | None = None
    """Folder of pictures like those to be labelled, or these themselves, beside exemplars. The report shows what the
    head finds there. Objects cut out of exemplars are pasted into those that show no class, as far as the head can
    tell, and are learnt from, too."""
    scenes_truth: Path | None = None
    """What people drew in some of the scenes: a file or folder of COCO, CVAT, Label Studio, LabelMe or X-AnyLabeling.
    The head is measured on these, and does not learn from them."""
    composites: int = 200
    """With --scenes: so many pictures with pasted objects, of as many scenes at most; 0 pastes nothing."""
    classes: str | None = None
    """Which classes, as for `everymask exemplars`: `cat,dog`, or `animals=cat+dog,person` to gather several subjects
    into one class. By default those of the manifest, or every directory; without exemplars, the corrections'."""
    model: Annotated[ModelOptions, JOINED] = field(default_factory=ModelOptions)
    workers: Annotated[WorkerOptions, JOINED] = field(default_factory=WorkerOptions)
    addresses: Annotated[AddressOptions, JOINED] = field(default_factory=AddressOptions)
    bags: str | None = None
    """Folder for the mask embeddings of the exemplars; by default .bags/ in the folder of exemplars."""
    single_object_only: bool = False
    """Leave out exemplars that show no clear object by their own masks."""
    recipe: Recipe = "default"
    """paper: U-SAM as published, MIL and uncertainty distillation on SAM's mask tokens with nothing added; default:
    ours, derived from it. An option given beside it wins. Label with --recipe paper, too."""
    masks: MaskConfig = field(default_factory=MaskConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    single_object: SingleObjectFilter = field(default_factory=SingleObjectFilter)

    def __post_init__(self) -> None:
        if not self.output.endswith(".safetensors"):
            raise ConfigurationError(f"--output {self.output} must end in .safetensors")
        if self.exemplars is None and self.corrections is None:
            raise ConfigurationError("there is nothing to learn from; give --exemplars, --corrections, or both")
        if self.negatives is not None and self.exemplars is None:
            raise ConfigurationError("--negatives go with exemplars, which are missing; give --exemplars, too")
        if self.scenes is not None and self.exemplars is None:
            raise ConfigurationError("--scenes go with exemplars, which are missing; give --exemplars, too")
        if self.exemplars is None:
            refuse_idle(self, ("bags", "single_object_only"), "without --exemplars")
        if self.scenes is None:
            refuse_idle(self, ("composites", "scenes_truth"), "without --scenes")
        if not self.single_object_only:
            refuse_idle(self, ("single_object",), "without --single-object-only")
        if self.composites < 0:
            raise ConfigurationError(f"composites must not be negative; got {self.composites}")
        if self.embeddings is not None and self.corrections is None:
            raise ConfigurationError("--embeddings are of the images of --corrections, which are missing; give both")


def run(config: TrainClassesConfig) -> int:
    """Embed what is not embedded yet, train, write head and report; returns the exit code.

    Raises:
        EverymaskError: (or an error of Ray with one as its cause) see the module's exit code 2.
    """
    if "crop" in config.training.features:
        config = replace(config, masks=replace(config.masks, describer="crop"))
    exemplars = load_exemplars(config.exemplars) if config.exemplars is not None else []
    corrected = corrected_images(LabelStore(config.corrections)) if config.corrections is not None else []
    taxonomy = _taxonomy(config, exemplars, corrected)
    class_ids = correction_class_ids(corrected, taxonomy, every_class=config.exemplars is None)
    chosen = [item for item in exemplars if item.origin.subject in taxonomy.class_of]
    if config.exemplars is not None:
        check_pictured(taxonomy, {item.origin.subject for item in chosen}, {item.origin.subject for item in exemplars})
    scenes: Scenes | None = None
    if config.scenes is not None:
        scenes = choose_scenes(config.scenes, config.scenes_truth, config.composites, taxonomy)
    model = config.model
    with waiting(f"loading {model.model}"):
        device = model.device if corrected else "cpu"
        backbone = load_backbone(model.model, model.checkpoint, device, model.precision)
    spec = head_spec(taxonomy.classes, backbone, config.training)
    records: list[StoredEmbeddings] = []
    bags = no_bags(spec.input_dim)
    named: list[NamedMasks] = []
    negatives: list[StoredEmbeddings] = []
    name = f"{backbone.name}-{backbone.weights_sha256[:12]}"
    if config.exemplars is not None:
        directory = f"{config.bags or Path(config.exemplars) / '.bags'}/{name}"
        records = _clear(config, _embedded(config, chosen, config.exemplars, directory))
        subject_of = {item.bag_id: item.origin.subject for item in chosen}
        bags = make_bags(records, subject_of, taxonomy, config.training.features)
    if config.negatives is not None:
        pictures = negative_pictures(config.negatives, chosen)
        directory = f"{config.bags}/negatives/{name}" if config.bags else f"{config.negatives}/.bags/{name}"
        negatives = _embedded(config, pictures, config.negatives, directory)
        if any(len(record.embeddings) for record in negatives):
            named.append(negative_masks(negatives, config.training.features, len(spec.classes)))
    if corrected:
        assert config.corrections is not None
        policy = address_policy(
            LabelStore(config.corrections), config.addresses.local_root, config.addresses.allow_private_networks
        )
        with waiting(f"describing the masks of {counted(len(corrected), 'corrected image')}"):
            corrections = named_masks(
                corrected,
                class_ids,
                len(spec.classes),
                backbone,
                config.masks,
                config.training.features,
                config.embeddings,
                lambda image_id, reason: print(f"{image_id}: masks are left out: {reason}", file=sys.stderr),
                policy,
            )
        objects = int((corrections.labels < len(spec.classes)).sum())
        print(
            f"{counted(len(corrected), 'corrected image')}: {counted(objects, 'mask')} of classes, "
            f"{len(corrections) - objects:,} of background"
        )
        named.append(corrections)
    in_scenes: list[StoredEmbeddings] = []
    if scenes is not None:
        place = f"{config.bags or f'{config.exemplars}/.bags'}/scenes/{name}"
        in_scenes = _embedded(config, scenes.pictures, scenes.folder, place)
    if config.composites and scenes is not None and scenes.unseen:
        first = train_head(bags, spec, config.training, _show_epoch, NamedMasks.joined(named) if named else None).head
        composites = _composites(config, first, chosen, records, taxonomy, name, scenes, in_scenes)
        if composites is not None:
            named.append(composites)
    print(
        f"training {counted(len(spec.classes), 'class', 'classes')} on "
        + (f"{counted(len(bags), 'exemplar')} with {counted(len(bags.inputs), 'mask')}" if bags else "corrections"),
        flush=True,
    )
    started = time.monotonic()
    result = train_head(bags, spec, config.training, _show_epoch, NamedMasks.joined(named) if named else None)
    seconds = time.monotonic() - started
    for item in suspicious_negatives(result.head, negatives):
        print(
            f"the negative {item.file} still looks like {item.class_name} ({item.probability:.0%}); take it out if it "
            "shows one",
            file=sys.stderr,
        )
    save_head(result.head, config.output)
    measured = measure_scenes(scenes, in_scenes, result.head, taxonomy, config.masks) if scenes else None
    page = Path(config.output).with_suffix(".html")
    taught = [
        ("exemplars", f"{len(chosen):,}"),
        ("negatives", f"{len(negatives):,}"),
        ("composites", f"{config.composites if scenes and scenes.unseen else 0:,}"),
        ("corrected images", f"{len(corrected):,}"),
    ]
    write_page(
        page,
        _facts(config, result, taught, seconds),
        result,
        Pictured(config.exemplars or "", chosen, records),
        Pictured(config.scenes or "", scenes.pictures if scenes else (), in_scenes),
        taxonomy,
        config.masks,
        measured,
    )
    right, total = int(result.confusion.trace()), int(result.confusion.sum())
    held_out = f"{right:,} of {counted(total, 'held-out exemplar')} named right; " if total else ""
    print(f"trained in {format_duration(seconds)}; {held_out}wrote {config.output}, look at {page}")
    if measured is not None:
        rows = class_rows(measured)
        print(f"on {counted(measured.images, 'annotated scene')}, in %:\n{table(rows)}")
        tell(scenes=rows)
    tell(head=config.output, report=str(page), classes=list(spec.classes), held_out=total, held_out_right=right)
    next_step(_labelling(config))
    return DONE


def _labelling(config: TrainClassesConfig) -> str:
    """The command that labels with the new head: the corrected store anew, if there is one that a run has labelled."""
    head = shlex.quote(config.output)
    if config.corrections is not None:
        store = LabelStore(config.corrections)
        record = read_run(store)
        if record is not None and record.settings is not None and record.settings.get("method") == "classes":
            return f"everymask label --config {shlex.quote(f'{redact(store.uri)}/run.json')} --head {head} --update"
    return f"everymask label --input IMAGES --output LABELS --method classes --head {head}"


def _taxonomy(
    config: TrainClassesConfig, exemplars: Sequence[Exemplar], corrected: Sequence[CorrectedImage]
) -> Taxonomy:
    if config.classes is not None:
        return Taxonomy.parse(config.classes)
    if config.exemplars is None:
        return classes_of(corrected)
    return Taxonomy(tuple(dict.fromkeys((item.origin.subject, item.class_name) for item in exemplars)))


def _embedded(
    config: TrainClassesConfig, exemplars: Sequence[Exemplar], folder: str, directory: str
) -> list[StoredEmbeddings]:
    """Mask embeddings of pictures in `folder`, made if `directory` lacks them."""
    directory = canonical_uri(directory)  # workers may have another working directory
    pending = pending_exemplars(exemplars, directory, config.masks)
    if pending:
        print(f"embedding the masks of {counted(len(pending), 'picture')} into {directory}", flush=True)
        connect()
        actors = plan_actors(
            config.workers.actors, config.workers.gpus_per_actor, Footprint.of_model(config.model.model)
        )
        device = device_for(config.model.device, actors.gpus)
        model = config.model
        checkpoint = model.checkpoint and canonical_uri(model.checkpoint)
        spec = BagSpec(model.model, checkpoint, device, config.masks, actors.threads, directory, model.precision)
        embed_exemplars(pending, folder, spec, actors)
    wanted = {item.bag_id for item in exemplars}
    return [record for record in load_embeddings(directory) if record.image_id in wanted]


def _composites(
    config: TrainClassesConfig,
    head: ClassHead,
    exemplars: Sequence[Exemplar],
    records: Sequence[StoredEmbeddings],
    taxonomy: Taxonomy,
    name: str,
    scenes: Scenes,
    in_scenes: Sequence[StoredEmbeddings],
) -> NamedMasks | None:
    """Masks of composites with their known classes."""
    assert config.exemplars is not None
    into = {item.bag_id: Path(scenes.folder) / item.file for item in scenes.unseen}
    bags = config.bags or f"{config.exemplars}/.bags"
    classes = {subject: taxonomy.classes.index(one) for subject, one in taxonomy.subjects}
    plans = planned_composites(
        [record for record in in_scenes if record.image_id in into],
        records,
        {item.bag_id: classes[item.origin.subject] for item in exemplars},
        head,
        config.composites,
        config.training.seed,
    )
    files = {item.bag_id: Path(str(config.exemplars)) / item.file for item in exemplars}
    files |= into
    pasted = {item.bag_id: (item, objects) for item, objects in write_composites(plans, files, f"{bags}/composites")}
    described = _embedded(
        config, [item for item, _ in pasted.values()], f"{bags}/composites", f"{bags}/composites/{name}"
    )
    return composite_masks(
        ((pasted[record.image_id][1], record.embeddings) for record in described),
        config.training.features,
        len(taxonomy.classes),
    )


def _clear(config: TrainClassesConfig, records: list[StoredEmbeddings]) -> list[StoredEmbeddings]:
    """With --single-object-only, the records of exemplars that show one clear object."""
    if not config.single_object_only:
        return records
    clear = [record for record in records if config.single_object.problem(record.embeddings) is None]
    print(f"left out: {counted(len(records) - len(clear), 'exemplar')} without one clear object")
    return clear


def _show_epoch(epoch: Epoch) -> None:
    held_out = (
        f", held out {epoch.held_out_loss:.3f}, {epoch.held_out_accuracy:.1%} right"
        if epoch.held_out_loss is not None
        else ""
    )
    print(f"{epoch.stage} epoch {epoch.number}: loss {epoch.training_loss:.3f}{held_out}", flush=True)


def _facts(
    config: TrainClassesConfig, result: TrainingResult, taught: list[tuple[str, str]], seconds: float
) -> list[tuple[str, str]]:
    """What the page says about the training."""
    right, total = int(result.confusion.trace()), int(result.confusion.sum())
    return [
        ("classes", f"{len(result.head.spec.classes)}"),
        *taught,
        ("held out, named right", f"{right} of {total}"),
        ("model", f"{result.head.spec.backbone} {result.head.spec.weights_sha256[:12]}"),
        ("features", result.head.spec.features),
        ("distillation", "on" if config.training.distillation else "off"),
        ("recipe", config.recipe),
        ("seed", f"{config.training.seed}"),
        ("training", format_duration(seconds)),
    ]


RECIPES = {"recipe": {"paper": {**below("masks", PAPER_MASKS), **below("training", PAPER_TRAINING)}}}

command = Command(
    "train classes",
    TrainClassesConfig,
    run,
    "Train a class head on exemplars (from `everymask exemplars`, or any directory of pictures per class), on "
    "corrected labels, or on both. The masks of every picture are described once; then a head is trained in a minute.",
    groups={
        "input and output": (
            "exemplars",
            "corrections",
            "embeddings",
            "negatives",
            "scenes",
            "scenes_truth",
            "classes",
            "output",
            "bags",
        ),
        "method": (
            "recipe",
            "composites",
            "training.features",
            "training.epochs",
            "training.seed",
            "single_object_only",
        ),
        "model": ("model", "checkpoint", "device"),
        "resources": ("actors", "gpus_per_actor"),
    },
    presets=RECIPES,
    stand_ins={"output": "head.safetensors", "exemplars": "pictures"},
    interrupted="embedded exemplars are kept, the same command goes on",
)

if __name__ == "__main__":
    sys.exit(command(sys.argv[1:]))
