"""Runs a Dockerfile's steps on a root file system, a layer for each step, as a container engine's builder does.

One thing is not as in the Dockerfile: what stands after `FROM` lies in a registry, so `debootstrap` makes the base: the
same release of Debian with Debian's own Python of the same minor version.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.cluster.image.context import Ignored, copy_context
from tests.cluster.image.dockerfile import Stage, assignments, expand, options, parse
from tests.cluster.image.namespaces import UNSHARE, bind, overlay, size_bytes, system_folders

BASE_PACKAGES = "ca-certificates,netbase,python3-venv,tzdata"
"""What the official image of Python has beside Debian's smallest system, and Python."""

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


LINES_OF_A_FAILURE = 30


class BuildError(Exception):
    """A step of the build has failed."""


@dataclass(frozen=True)
class Layer:
    """What one step has changed."""

    folder: Path
    step: str
    seconds: float

    @property
    def size_bytes(self) -> int:
        return size_bytes(self.folder)


@dataclass(frozen=True)
class Image:
    """Layers, lowest first, and how a container of them starts."""

    layers: tuple[Layer, ...]
    environment: Mapping[str, str] = field(default_factory=lambda: {"PATH": SYSTEM_PATH})
    working_folder: str = "/"
    user: str = "0:0"
    entrypoint: tuple[str, ...] = ()

    @property
    def folders(self) -> list[Path]:
        return [layer.folder for layer in self.layers]

    def report(self) -> str:
        """A line for each layer with its size, and their sum."""
        sizes = [layer.size_bytes for layer in self.layers]
        lines = [
            f"{size / 1e6:9,.1f} MB  {layer.step[:100]}"
            for size, layer in zip(sizes, self.layers, strict=True)
            if size > 0
        ]
        return "\n".join([*lines, f"{sum(sizes) / 1e6:9,.1f} MB  in {len(self.layers)} layers"])


@dataclass(frozen=True)
class Machine:
    """What of this machine a build may use.

    Attributes:
        arguments: `--build-arg`s.
        environment: for RUN steps only; no layer keeps it. As secrets of a build, such as where packages come from.
        files: files of this machine, shown to RUN steps at the same place, read-only.
    """

    arguments: Mapping[str, str]
    environment: Mapping[str, str]
    files: Sequence[Path]


class Builder:
    """Builds the stages of a Dockerfile into a folder, which may hold layers of an earlier build.

    Args:
        folder: for layers; one that is there and was made in the same way is taken as it is.
        machine: what steps may use of this machine.
        say: gets a line for each step.
    """

    def __init__(self, folder: Path, machine: Machine, say: Callable[[str], None] = print) -> None:
        self._folder = folder
        self._machine = machine
        self._say = say
        self._context = folder / "context"
        self._stages: dict[str, Image] = {}
        for name in ("layers", "root", "source", "cache"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    def build(self, dockerfile: Path, repository: Path) -> Image:
        """The last stage's image.

        Raises:
            BuildError: a step has failed; it says what the step printed.
        """
        shutil.rmtree(self._context, ignore_errors=True)
        ignored = Ignored(dockerfile.with_name(f"{dockerfile.name}.dockerignore").read_text())
        copy_context(repository, ignored, self._context)
        stages = parse(dockerfile.read_text())
        for stage in stages:
            self._stages[stage.name] = self._build_stage(stage)
        return self._stages[stages[-1].name]

    def _build_stage(self, stage: Stage) -> Image:
        image = self._stages.get(stage.base) or Image((self._base(stage.base),))
        arguments: dict[str, str] = {}
        for number, (instruction, text) in enumerate(stage.steps, 1):
            head = f"[{stage.name} {number}/{len(stage.steps)}] {instruction} {text}"
            variables = {**image.environment, **arguments}
            match instruction:
                case "ARG":
                    (name, default), *_ = assignments(text, variables).items()
                    arguments[name] = self._machine.arguments.get(name, default)
                case "ENV":
                    image = replace(image, environment={**image.environment, **assignments(text, variables)})
                case "WORKDIR":
                    image = replace(image, working_folder=expand(text, variables))
                    image = self._with(image, head, "", [f"mkdir -p {self._root}{image.working_folder}"])
                case "USER":
                    image = replace(image, user=text)
                case "ENTRYPOINT":
                    image = replace(image, entrypoint=tuple(part.strip(' "') for part in text.strip("[]").split(",")))
                case "COPY":
                    image = self._copy(image, head, expand(text, variables))
                case "RUN":
                    image = self._run(image, head, text, variables)
        return image

    @property
    def _root(self) -> Path:
        return self._folder / "root"

    def _base(self, name: str) -> Layer:
        """What stands in for the image after `FROM`."""
        release = name.partition("-slim-")[2].partition("$")[0]
        key = hashlib.sha256(f"{release} {BASE_PACKAGES}".encode()).hexdigest()[:12]
        target = self._folder / "layers" / key
        command = ["debootstrap", "--variant=minbase", f"--include={BASE_PACKAGES}", release, f"{target}.part"]

        def make() -> None:
            shutil.rmtree(f"{target}.part", ignore_errors=True)
            _run_logged(command, target.with_suffix(".log"))
            root = Path(f"{target}.part")
            for link, program in (("python", "python3"), ("python3", "python3"), ("pip", "pip3")):
                (root / "usr/local/bin" / link).symlink_to(f"/usr/bin/{program}")
            for name in ("hosts", "hostname", "resolv.conf"):  # where an engine shows its own
                (root / "etc" / name).write_text("")
            for archive in (root / "var/cache/apt/archives").glob("*.deb"):
                archive.unlink()
            shutil.rmtree(root / "var/lib/apt/lists")

        return self._layer(f"[base] {shlex.join(command[:-1])}", target, make)

    def _layer(self, step: str, target: Path, make: Callable[[], None]) -> Layer:
        """The layer at `target`: made, or as it is there, its making timed."""
        record = target.with_suffix(".seconds")
        if not record.exists():
            started = time.monotonic()
            make()
            Path(f"{target}.part").rename(target)
            record.write_text(f"{time.monotonic() - started:.1f}")
            state = f"{record.read_text()} s"
        else:
            state = f"there ({record.read_text()} s)"
        layer = Layer(target, step, float(record.read_text()))
        self._say(f"{step}\n    {state}, {layer.size_bytes / 1e6:,.1f} MB")
        return layer

    def _with(
        self, image: Image, step: str, key: str, inside: Sequence[str], mount_points: Sequence[Path] = ()
    ) -> Image:
        """The image and one layer more: what shell lines change below `root`.

        Args:
            image: what the layer goes on.
            step: the instruction, which together with the layers below and `key` tells layers apart.
            key: whatever else the layer depends on.
            inside: lines run where the layers are mounted.
            mount_points: files and folders made only to mount something there; they do not stay.
        """
        text = "\n".join([image.layers[-1].folder.name, step.partition("] ")[2], key])
        target = self._folder / "layers" / hashlib.sha256(text.encode()).hexdigest()[:12]
        part, work = Path(f"{target}.part"), Path(f"{target}.work")

        def make() -> None:
            for folder in (part, work):
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
            script = "\n".join([overlay(image.folders, self._root, part, work), *inside])
            _run_logged([*UNSHARE, "sh", "-ec", script], target.with_suffix(".log"))
            shutil.rmtree(work, ignore_errors=True)
            for point in mount_points:
                left = part / point.relative_to(self._root)
                left.rmdir() if left.is_dir() else left.unlink()

        return replace(image, layers=(*image.layers, self._layer(step, target, make)))

    def _run(self, image: Image, head: str, text: str, variables: Mapping[str, str]) -> Image:
        flags, command = options(text)
        root = self._root
        lines = system_folders(root, ["/tmp"])
        lines += [bind(Path("/etc") / name, root / "etc" / name) for name in ("hosts", "resolv.conf")]
        made = []
        for file in self._machine.files:
            target = root / str(file)[1:]
            if not any((folder / str(file)[1:]).exists() for folder in image.folders):
                lines.append(f"mkdir -p {target}" if file.is_dir() else f"mkdir -p {target.parent} && touch {target}")
                made.append(target)
            lines.append(bind(file, target))
        if flags:
            mount = dict(entry.split("=") for entry in flags["mount"].split(","))
            lines += [
                f"mkdir -p {root}{mount['target']}",
                bind(self._folder / "cache", root / mount["target"][1:], False),
            ]
        environment = {"HOME": "/root", **variables, **self._machine.environment}
        given = [f"{name}={value}" for name, value in environment.items()]
        inside = f"cd {image.working_folder} && {command}"
        lines.append(shlex.join(["chroot", str(root), "/usr/bin/env", "-i", *given, "/bin/sh", "-c", inside]))
        return self._with(image, head, repr(sorted(variables.items())), lines, made)

    def _copy(self, image: Image, head: str, text: str) -> Image:
        flags, rest = options(text)
        *sources, target = shlex.split(rest)
        into_folder = target.endswith("/") or len(sources) > 1
        place = self._root / os.path.join(image.working_folder, target).lstrip("/").removesuffix("./")
        if "from" in flags:
            stage = self._stages[flags["from"]]
            lines, source_root = [overlay(stage.folders, self._folder / "source")], self._folder / "source"
            key = stage.layers[-1].folder.name
        else:
            lines, source_root, key = [], self._context, _digest(self._context, sources)
        copy = "cp -a --no-preserve=ownership"
        for source in sources:
            path = source_root / source.lstrip("/")
            one = f"mkdir -p {place} && {copy} {path} {place}/" if into_folder else ""
            one = one or f"mkdir -p {place.parent} && {copy} {path} {place}"
            # What another stage holds is seen only where its layers are mounted: the shell has to look.
            lines.append(f"if [ -d {path} ]; then mkdir -p {place} && {copy} {path}/. {place}; else {one}; fi")
        if "chown" in flags:
            lines.append(f"chown -R {flags['chown']} {place}")
        return self._with(image, head, key, lines)


def _run_logged(command: Sequence[str], log: Path) -> None:
    with log.open("wb") as stream:
        code = subprocess.run(command, stdout=stream, stderr=subprocess.STDOUT).returncode
    if code:
        last = "\n".join(log.read_text(errors="replace").splitlines()[-LINES_OF_A_FAILURE:])
        raise BuildError(f"exit code {code}, after\n{last}")


def _digest(root: Path, sources: Sequence[str]) -> str:
    """A digest of the names, rights and bytes of files."""
    digest = hashlib.sha256()
    for source in sources:
        top = root / source
        for path in sorted([top, *top.rglob("*")] if top.is_dir() else [top]):
            digest.update(f"{path.relative_to(root)} {path.stat().st_mode:o}\n".encode())
            if path.is_file():
                digest.update(path.read_bytes())
    return digest.hexdigest()
