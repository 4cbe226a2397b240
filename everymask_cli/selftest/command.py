"""`everymask selftest`: the publisher's code and ours on the same weights and pictures, and how they agree."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

import everymask
from data_jobs.runtime.command import Command
from data_jobs.runtime.outcome import next_step
from data_jobs.runtime.waiting import waiting
from everymask.backbone.models import MODELS, ModelName, PrecisionSetting
from everymask.backbone.registry import choose_device
from everymask.backbone.weights import model_weights
from everymask.errors import ConfigurationError
from everymask_cli.selftest.comparison import (
    LIMITS,
    LIMITS_OF_RANDOM_WEIGHTS,
    Agreement,
    agreements,
    disagreements,
)
from everymask_cli.selftest.pictures import installed_pictures, pictures_in, save_pictures
from everymask_cli.selftest.publishers import PUBLISHERS
from everymask_cli.selftest.recorded import PRECISION, recorded_answers
from everymask_cli.selftest.task import Answers, Task

_OUR_PROGRAM = "everymask_cli.selftest.ours"


@dataclass(frozen=True)
class SelftestConfig:
    """Compare this machine's masks with those of the model's publisher."""

    model: ModelName = "nano"
    """The model: nano is compared with its recorded answers, any other with its publisher's code."""
    checkpoint: str | None = None
    """File or address of its weights, if not the published ones."""
    random_weights: bool = False
    """Compare on random weights of the model's sizes: nothing is fetched but the publisher's code."""
    device: str = "auto"
    """Where both run: auto, cpu, cuda or cuda:N."""
    precision: PrecisionSetting = "auto"
    """Of everymask's model, as for `everymask label`; the publisher's computes in fp32."""
    images: Path | None = None
    """Folder whose first eight pictures are used, if not photographs that come with scikit-image."""
    points_per_side: int | None = None
    """Clicks along each side of the grid of automatic masks. Default: 32 on a GPU, 8 on a CPU."""
    json: bool = False
    """Print the report as JSON, to attach to a bug report."""


@dataclass(frozen=True)
class Report:
    """What a self-test found.

    Attributes:
        machine: processor or GPU, and versions.
        theirs: the publisher's answers, or the recorded ones.
        ours: the answers of this machine.
        agreements: by picture.
        disagreements: limits that are not kept.
    """

    machine: str
    theirs: Answers
    ours: Answers
    agreements: Mapping[str, Agreement]
    disagreements: list[str]


def examine(config: SelftestConfig) -> int:
    """Print the report; 1 if the answers disagree, else 0.

    Raises:
        ConfigurationError: options contradict each other, the publisher's code cannot be installed, or a program fails.
        CheckpointError: the weights cannot be had.
    """
    report = compare_programs(config)
    print(json.dumps(as_json(report), indent=2) if config.json else text_of(report, config.random_weights))
    if not config.json and not report.disagreements and not config.random_weights:
        next_step(f"everymask label --input IMAGES --output LABELS --model {config.model}")
    return int(bool(report.disagreements))


command = Command(
    "selftest",
    SelftestConfig,
    examine,
    "Runs the publisher's own code and everymask's on the same weights and pictures of this machine, and says how far "
    "masks, predicted IoU, time and memory agree. What the publisher's code needs is installed into an environment of "
    "its own.",
)


def compare_programs(config: SelftestConfig) -> Report:
    """Run both programs; raises as `examine`."""
    family = MODELS[config.model].family
    recorded = family == "nano"
    if config.random_weights and (recorded or config.checkpoint):
        raise ConfigurationError("--random-weights goes with a model that has a publisher, and without --checkpoint")
    if recorded and (config.checkpoint or config.images or config.points_per_side or config.precision != "auto"):
        raise ConfigurationError("nano is compared with answers recorded for its own weights: give --model nano alone")
    device = str(choose_device("cpu" if recorded else config.device))
    theirs = recorded_answers() if recorded else None
    with tempfile.TemporaryDirectory(prefix="everymask-selftest-") as folder:
        pictures = pictures_in(config.images) if config.images else installed_pictures(large=not recorded)
        task = Task(
            model=config.model,
            checkpoint="" if recorded else _checkpoint(config, Path(folder)),
            makes_weights=config.random_weights,
            device=device,
            pictures=str(Path(folder) / "pictures.npz"),
            points_per_side=config.points_per_side or (8 if device == "cpu" else 32),
            thresholds=None,
            answers=str(Path(folder) / "theirs.json"),
            precision=PRECISION if recorded else config.precision,
        )
        save_pictures(pictures, Path(task.pictures))
        if theirs is None:
            publisher = PUBLISHERS[family]
            with waiting(f"looking for {publisher.name}"):
                python = publisher.python()
            theirs = _run(python, publisher.program, task, Path(folder), publisher.name)
        ours = _run(
            Path(sys.executable),
            _OUR_PROGRAM,
            replace(
                task,
                makes_weights=False,
                finds_entities=not config.random_weights,
                thresholds=theirs.thresholds,
                answers=str(Path(folder) / "ours.json"),
            ),
            Path(folder),
            "everymask",
        )
    if recorded and theirs.weights_sha256 != ours.weights_sha256:
        raise ConfigurationError("the answers of nano were recorded with other weights: install everymask anew")
    found = agreements(theirs, ours)
    limits = LIMITS_OF_RANDOM_WEIGHTS if config.random_weights and ours.precision == "fp32" else LIMITS[ours.precision]
    return Report(_machine(device), theirs, ours, found, disagreements(found, limits))


def _checkpoint(config: SelftestConfig, folder: Path) -> str:
    if config.random_weights:
        ending = "safetensors" if MODELS[config.model].family == "sam3" else "pt"
        return str(folder / f"{config.model}.{ending}")
    return str(model_weights(config.model, config.checkpoint).path.resolve())


def _run(python: Path, program: str, task: Task, folder: Path, name: str) -> Answers:
    """Run a program in a process of its own, so that its memory is its own; ConfigurationError if it fails."""
    given = folder / "task.json"
    task.write(given)
    root = str(Path(everymask.__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    with waiting(f"running {name} on {task.device}"):
        # In a folder of its own, an interpreter does not take the user's modules for packages.
        done = subprocess.run(
            [python, "-m", program, given],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
        )
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
        raise ConfigurationError(f"{name} did not answer ({said[-1]}); `everymask doctor` says what this machine has")
    return Answers.read(task.answers)


def _machine(device: str) -> str:
    what = platform.processor() or platform.machine()
    if device.startswith("cuda"):
        what = torch.cuda.get_device_properties(torch.device(device)).name
    return f"{what}, PyTorch {torch.__version__}, Python {platform.python_version()}"


def as_json(report: Report) -> dict[str, object]:
    """The report without its masks."""
    return {
        "everymask": everymask.__version__,
        "machine": report.machine,
        "agree": not report.disagreements,
        "disagreements": report.disagreements,
        "pictures": {name: asdict(agreement) for name, agreement in report.agreements.items()},
        "programs": [{**asdict(program), "pictures": None} for program in (report.theirs, report.ours)],
        "entities": {name: [picture.entities, picture.coverage] for name, picture in report.ours.pictures.items()},
    }


def text_of(report: Report, random_weights: bool) -> str:
    """The report for people."""
    theirs, ours = report.theirs, report.ours
    lines = [
        f"{theirs.code} and {ours.code} on {'random weights' if random_weights else 'the same weights'}; "
        f"{report.machine}; image encoder in {ours.precision}",
        "",
    ]
    width = max(map(len, report.agreements))
    lines.append(f"{'picture':<{width}}  mean IoU  worst IoU  predicted IoU  automatic masks        entities")
    for name, found in report.agreements.items():
        automatic = f"{found.automatic[1]} (theirs: none)"
        if found.matched is not None:
            automatic = f"{found.matched:.1%} of {found.automatic[0]}, {found.automatic[1]} here"
        picture = ours.pictures[name]
        entities = (
            "not asked for" if picture.coverage is None else f"{picture.entities} ({picture.coverage:.0%} covered)"
        )
        lines.append(
            f"{name:<{width}}  {found.mean_iou:8.4f}  {found.worst_iou:9.4f}  {found.iou_difference:13.1e}  "
            f"{automatic:<22} {entities}"
        )
    lines += ["", f"{'seconds':<24}  {theirs.code:<24}  {ours.code}"]
    for stage in dict.fromkeys([*theirs.seconds, *ours.seconds]):
        lines.append(f"{stage:<24}  {_figure(theirs.seconds.get(stage)):<24}  {_figure(ours.seconds.get(stage))}")
    lines.append(f"{'memory, GiB':<24}  {theirs.memory_bytes / 2**30:<24.2f}  {ours.memory_bytes / 2**30:.2f}")
    if ours.gpu_memory_bytes:
        shown = f"{theirs.gpu_memory_bytes / 2**30:<24.2f}  {ours.gpu_memory_bytes / 2**30:.2f}"
        lines.append(f"{'memory of the GPU, GiB':<24}  {shown}")
    return "\n".join([*lines, "", *(report.disagreements or ["they agree"])])


def _figure(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.2f}"
