"""`everymask doctor`: what this machine has, which model suits it, what is missing and how to get it."""

from __future__ import annotations

import importlib
import json
import os
import platform
import shutil
import tempfile
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from data_jobs.runtime.command import Command
from everymask import __version__
from everymask.backbone.models import MODELS
from everymask.backbone.weights import cache_directory, is_cached
from everymask.cores import usable_cores
from everymask.wording import counted

State = Literal["ok", "note", "missing"]

NEEDED = ("torch", "ray", "segment-anything", "pyarrow", "pycocotools", "scikit-image", "transformers")
OPTIONAL = (
    ("gradio", "the page (`everymask ui`)", "ui"),
    ("diffusers", "exemplars by Stable Diffusion", "synthesis"),
    ("pi-heif", "HEIC pictures of phones", "heic"),
    ("s3fs", "addresses that pyarrow does not open by itself", "cloud"),
)
PROGRAMS = (("ffmpeg", "frames of videos"),)
_EXAMPLES = "examples/images"
_MIN_SHARED_BYTES = 1 << 30
_MIN_FREE_BYTES = 5 << 30
_MIN_MEMORY_BYTES = 4 << 30


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        subject: what was checked.
        state: ok; note: works, but not as well as possible; missing: something does not work without it.
        text: what was found.
        remedy: what to do about it; "" for nothing.
    """

    subject: str
    state: State
    text: str
    remedy: str = ""


def findings() -> list[Finding]:
    """All findings in the order of the report; fetches and changes nothing."""
    gpus = _gpus()
    return [
        Finding("everymask", "ok", f"{__version__}, Python {platform.python_version()}, {platform.platform()}"),
        *_packages(),
        *_programs(),
        _processor(),
        _memory(),
        gpus,
        *_disks(),
        _shared_memory(),
        *_models(gpus.state == "ok"),
    ]


@dataclass(frozen=True)
class DoctorConfig:
    """What this machine has, which model suits it, what is missing and how to get it."""

    json: bool = False
    """Print the findings as JSON, to attach to a report."""


def examine(config: DoctorConfig) -> int:
    """Print the report; 1 if something that everymask needs is missing, else 0."""
    found = findings()
    if config.json:
        print(json.dumps([asdict(finding) for finding in found], indent=2))
    else:
        width = max(len(finding.subject) for finding in found)
        for finding in found:
            sign = {"ok": " ", "note": "·", "missing": "!"}[finding.state]
            print(f"{sign} {finding.subject:<{width}}  {finding.text}")
            if finding.remedy:
                print(f"  {'':<{width}}  → {finding.remedy}")
        images = _EXAMPLES if Path(_EXAMPLES).is_dir() else "IMAGES"
        print(f"next: everymask label --input {images} --output runs/first")
    return int(any(finding.state == "missing" for finding in found))


command = Command(
    "doctor",
    DoctorConfig,
    examine,
    "What this machine has, which model suits it, what is missing and how to get it. Nothing is fetched or changed.",
)


def _packages() -> list[Finding]:
    found = []
    for name in NEEDED:
        installed = _version(name)
        if installed is None:
            found.append(Finding(name, "missing", "is not installed", "pip install everymask"))
        else:
            found.append(Finding(name, "ok", installed))
    for name, purpose, extra in OPTIONAL:
        installed = _version(name)
        if installed is None:
            found.append(Finding(name, "note", f"is not installed: {purpose}", f"pip install 'everymask[{extra}]'"))
        else:
            found.append(Finding(name, "ok", installed))
    return found


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _programs() -> list[Finding]:
    found = []
    for name, purpose in PROGRAMS:
        path = shutil.which(name)
        if path is None:
            found.append(Finding(name, "note", f"is not installed: {purpose}", f"apt-get install {name}"))
        else:
            found.append(Finding(name, "ok", path))
    return found


def _processor() -> Finding:
    cores = usable_cores()
    info = Path("/proc/cpuinfo")
    flags = set(info.read_text().split()) if info.is_file() else set()
    fast = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
    return Finding("processor", "ok", f"{counted(cores, 'core')}, {', '.join(fast) or platform.machine()}")


def _memory() -> Finding:
    total, free = _memory_bytes()
    if free < _MIN_MEMORY_BYTES:
        remedy = "close other programs: a run of the built-in model takes about 4 GiB"
        return Finding("memory", "note", f"{_gib(free)} of {_gib(total)} free", remedy)
    return Finding("memory", "ok", f"{_gib(free)} of {_gib(total)} free")


def _memory_bytes() -> tuple[int, int]:
    """Total and available memory; available is the total if the system does not say."""
    page = os.sysconf("SC_PAGE_SIZE")
    total = page * os.sysconf("SC_PHYS_PAGES")
    info = Path("/proc/meminfo")
    if not info.is_file():
        return total, total
    lines = dict(line.split(":", 1) for line in info.read_text().splitlines())
    return total, int(lines["MemAvailable"].split()[0]) * 1024


def _gpus() -> Finding:
    try:
        torch = importlib.import_module("torch")
    except Exception as error:  # whatever a broken installation raises
        return Finding("GPU", "missing", f"PyTorch cannot be imported ({error})", "pip install --force-reinstall torch")
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        return Finding("GPU", "ok", "; ".join(f"{gpu.name}, {_gib(gpu.total_memory)}" for gpu in names))
    if shutil.which("nvidia-smi"):
        remedy = "install NVIDIA's driver, or a PyTorch that was built for CUDA"
        return Finding("GPU", "missing", f"there is one, but PyTorch {torch.__version__} does not see it", remedy)
    return Finding("GPU", "note", "none: everything runs on the processor, more slowly")


def _disks() -> list[Finding]:
    found = []
    places = {"here": Path.cwd(), "temporary files": Path(tempfile.gettempdir()), "weights": cache_directory()}
    for name, path in places.items():
        there = next(parent for parent in (path, *path.parents) if parent.exists())
        if not os.access(there, os.W_OK):
            found.append(Finding(f"disk, {name}", "missing", f"{there} cannot be written to", "choose another folder"))
            continue
        free = shutil.disk_usage(there).free
        state: State = "ok" if free >= _MIN_FREE_BYTES else "note"
        remedy = "" if state == "ok" else f"make room: {_gib(_MIN_FREE_BYTES)} are comfortable"
        found.append(Finding(f"disk, {name}", state, f"{_gib(free)} free at {path}", remedy))
    return found


def _shared_memory() -> Finding:
    """Shared memory, which holds Ray's object store; a container has 64 MiB by default."""
    shared = Path("/dev/shm")
    if not shared.is_dir():
        return Finding("shared memory", "ok", "not used on this system")
    total = shutil.disk_usage(shared).total
    if total < _MIN_SHARED_BYTES:
        return Finding("shared memory", "note", f"{_gib(total)} at {shared}", "docker run --shm-size 4g")
    return Finding("shared memory", "ok", f"{_gib(total)} at {shared}")


def _models(has_gpu: bool) -> list[Finding]:
    found = []
    for name, model in MODELS.items():
        source = model.weights
        if source is None:
            found.append(Finding(f"model {name}", "ok", f"built in; on two cores an image takes {model.speed}"))
        elif is_cached(source):
            found.append(Finding(f"model {name}", "ok", f"is here; {model.licence}; for {model.device}"))
        else:
            text = f"fetched on first use ({model.size}); {model.licence}; for {model.device}"
            found.append(Finding(f"model {name}", "ok", text))
    advice = "sam2.1_large or vit_h" if has_gpu else "mobile_sam; nano to try things out"
    return [*found, Finding("for this machine", "ok", f"--model {advice}")]


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.1f} GiB"
