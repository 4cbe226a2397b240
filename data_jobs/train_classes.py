"""Train a class head on exemplars: the masks of every picture are embedded once, then a head is trained in a minute.

    python data_jobs/train_classes.py --exemplars exemplars --output pets.safetensors
    python data_jobs/train_classes.py --exemplars exemplars --classes animals=cat+dog,chair --output rooms.safetensors

The same exemplars train any number of heads without embedding again. Exit codes: 0 done; 2 usage, configuration, a
class without usable exemplars, a loss that became NaN, or an output that cannot be written.
"""

from __future__ import annotations

import sys
from pathlib import Path

# As a script, the checkout this file belongs to comes before any installed everymask, on workers too.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated

import numpy as np
import tyro
from numpy.typing import NDArray

from data_jobs.exemplars.bags import BagSpec, embed_exemplars, pending_exemplars
from data_jobs.runtime.actors import connect, plan_actors
from data_jobs.runtime.exit_codes import DONE, exit_code
from data_jobs.runtime.progress import format_duration
from everymask.backbone import load_backbone
from everymask.classes.class_set import ClassSet
from everymask.classes.config import MaskConfig, Recipe
from everymask.classes.embeddings import StoredEmbeddings, load_embeddings
from everymask.classes.exemplars.filters import SingleObjectFilter
from everymask.classes.exemplars.manifest import Exemplar, load_exemplars
from everymask.classes.head import save_head
from everymask.classes.recipes import PAPER_MASKS, PAPER_TRAINING, follow
from everymask.classes.training.bags import make_bags
from everymask.classes.training.report import ShownMask, draw_mask, most_certain, most_uncertain, training_report
from everymask.classes.training.train import Epoch, TrainingConfig, TrainingResult, head_spec, train_head
from everymask.devices import device_for
from everymask.errors import ConfigurationError
from everymask.images import decode_image
from everymask.location import Location
from everymask.models import ModelName, model_help

CERTAIN_PER_CLASS, UNCERTAIN = 3, 24


@dataclass(frozen=True)
class TrainClassesConfig:
    """Train a class head on exemplars, from make_exemplars.py or any directory of pictures per class."""

    exemplars: str
    """Folder of exemplars."""
    output: str
    """The class head to write, a .safetensors file; a report page, .html, is put beside it."""
    classes: str | None = None
    """Which classes, as for make_exemplars.py: `cat,dog`, or `animals=cat+dog,person` to gather several subjects into
    one class. By default those of the manifest, or every directory."""
    model: Annotated[
        ModelName, tyro.conf.arg(help="The backbone that images will be labelled with. " + model_help())
    ] = "nano"
    checkpoint: str | None = None
    """File or URL of other weights of that model."""
    device: str = "auto"
    """Of the backbone: auto, cpu, cuda or cuda:N. The head is trained on the CPU."""
    actors: str = "auto"
    """Workers that embed exemplars: N, MIN:MAX or auto, as for label_dataset.py."""
    gpus_per_actor: float | None = None
    """Share of a GPU for each of these workers."""
    bags: str | None = None
    """Folder for the mask embeddings of the exemplars; by default .bags/ in the folder of exemplars."""
    single_object_only: bool = False
    """Leave out exemplars that show no clear object by their own masks."""
    recipe: Recipe = "default"
    """paper: U-SAM as published, MIL and uncertainty distillation on SAM's mask tokens with nothing added; default:
    ours, derived from it. An option given beside it wins. Label with --classes.recipe paper, too."""
    masks: MaskConfig = field(default_factory=MaskConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    single_object: SingleObjectFilter = field(default_factory=SingleObjectFilter)

    def __post_init__(self) -> None:
        if not self.output.endswith(".safetensors"):
            raise ConfigurationError(f"--output {self.output} must end in .safetensors")


def run(config: TrainClassesConfig) -> int:
    """Embed what is not embedded yet, train, write head and report; returns the exit code.

    Raises:
        EverymaskError: (or an error of Ray with one as its cause) see the module's exit code 2.
    """
    config = replace(
        config,
        masks=follow(config.masks, config.recipe, PAPER_MASKS),
        training=follow(config.training, config.recipe, PAPER_TRAINING),
    )
    if "crop" in config.training.features:
        config = replace(config, masks=replace(config.masks, describer="crop"))
    exemplars = load_exemplars(config.exemplars)
    class_set = _class_set(config, exemplars)
    chosen = [item for item in exemplars if item.origin.subject in class_set.class_of]
    backbone = load_backbone(config.model, config.checkpoint, "cpu")
    name = f"{backbone.name}-{backbone.weights_sha256[:12]}"
    directory = f"{config.bags or Path(config.exemplars) / '.bags'}/{name}"
    records = _embedded(config, chosen, directory)
    subject_of = {item.bag_id: item.origin.subject for item in chosen}
    bags = make_bags(records, subject_of, class_set, config.training.features)
    spec = head_spec(class_set.classes, backbone, config.training)
    print(
        f"training {len(spec.classes)} classes on {len(bags):,} exemplars with {len(bags.inputs):,} masks", flush=True
    )
    started = time.monotonic()
    result = train_head(bags, spec, config.training, _show_epoch)
    seconds = time.monotonic() - started
    save_head(result.head, config.output)
    page = Path(config.output).with_suffix(".html")
    _write_report(config, page, result, records, {item.bag_id: item for item in chosen}, seconds)
    right, total = int(result.confusion.trace()), int(result.confusion.sum())
    print(
        f"trained in {format_duration(seconds)}; {right} of {total} held-out exemplars named right; wrote "
        f"{config.output}, look at {page}"
    )
    return DONE


def _class_set(config: TrainClassesConfig, exemplars: Sequence[Exemplar]) -> ClassSet:
    if config.classes is not None:
        return ClassSet.parse(config.classes)
    return ClassSet(tuple(dict.fromkeys((item.origin.subject, item.class_name) for item in exemplars)))


def _embedded(config: TrainClassesConfig, exemplars: Sequence[Exemplar], directory: str) -> list[StoredEmbeddings]:
    """Mask embeddings of the exemplars, made where they are missing."""
    pending = pending_exemplars(exemplars, directory, config.masks)
    if pending:
        print(f"embedding the masks of {len(pending):,} exemplars into {directory}", flush=True)
        connect()
        actors = plan_actors(config.actors, config.gpus_per_actor, config.model)
        device = device_for(config.device, actors.gpus)
        spec = BagSpec(config.model, config.checkpoint, device, config.masks, actors.threads, directory)
        embed_exemplars(pending, config.exemplars, spec, actors)
    wanted = {item.bag_id for item in exemplars}
    records = [record for record in load_embeddings(directory) if record.image_id in wanted]
    if not config.single_object_only:
        return records
    clear = [record for record in records if config.single_object.problem(record.embeddings) is None]
    print(f"{len(records) - len(clear):,} exemplars without one clear object are left out")
    return clear


def _show_epoch(epoch: Epoch) -> None:
    held_out = (
        f", held out {epoch.held_out_loss:.3f}, {epoch.held_out_accuracy:.1%} right"
        if epoch.held_out_loss is not None
        else ""
    )
    print(f"{epoch.stage} epoch {epoch.number}: loss {epoch.training_loss:.3f}{held_out}", flush=True)


def _write_report(
    config: TrainClassesConfig,
    page: Path,
    result: TrainingResult,
    records: Sequence[StoredEmbeddings],
    exemplars: dict[str, Exemplar],
    seconds: float,
) -> None:
    held_out = set(result.held_out.image_ids)
    shown = {record.image_id: record for record in records if record.image_id in held_out}
    classes = result.head.spec.classes

    def picture(mask: ShownMask) -> tuple[NDArray[np.uint8], str]:
        image = decode_image((Path(config.exemplars) / exemplars[mask.image_id].file).read_bytes())
        caption = f"{classes[mask.class_id]} {mask.probability:.0%}, uncertainty {mask.uncertainty:.2f}"
        return draw_mask(image, shown[mask.image_id], mask, classes), f"{caption} · {exemplars[mask.image_id].file}"

    right, total = int(result.confusion.trace()), int(result.confusion.sum())
    facts = [
        ("classes", f"{len(classes)}"),
        ("exemplars", f"{len(exemplars):,}"),
        ("held out, named right", f"{right} of {total}"),
        ("backbone", f"{result.head.spec.backbone} {result.head.spec.weights_sha256[:12]}"),
        ("features", result.head.spec.features),
        ("distillation", "on" if config.training.distillation else "off"),
        ("recipe", config.recipe),
        ("seed", f"{config.training.seed}"),
        ("training", format_duration(seconds)),
    ]
    html = training_report(
        f"Class head {Path(config.output).name}",
        facts,
        result,
        [picture(mask) for mask in most_certain(result.head, list(shown.values()), CERTAIN_PER_CLASS)],
        [picture(mask) for mask in most_uncertain(result.head, list(shown.values()), UNCERTAIN)],
    )
    Location.at(str(page)).write(html.encode())


def main(arguments: list[str] | None = None, program: str = "python data_jobs/train_classes.py") -> int:
    """The command; returns its exit code."""
    return exit_code(
        lambda: run(tyro.cli(TrainClassesConfig, args=arguments, prog=program)),
        "embedded exemplars are kept, the same command goes on",
    )


if __name__ == "__main__":
    sys.exit(main())
