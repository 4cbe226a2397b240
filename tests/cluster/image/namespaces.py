"""Root file systems in layers, and processes in them that see nothing else: what a container engine does, without one.

Layers are folders that the kernel's overlay file system puts on top of each other. Every process group gets namespaces
of its own, so that its mounts are gone when it ends, however it ends.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

UNSHARE = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
DEVICES = ("full", "null", "random", "tty", "urandom", "zero")


def why_impossible(folder: Path) -> str | None:
    """Why no image can be built and started here, in a sentence; None where it can."""
    if os.geteuid() != 0:
        return "building a root file system needs root"
    for name in ("lower", "upper", "work", "root"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    mounts = overlay([folder / "lower"], folder / "root", folder / "upper", folder / "work")
    tried = subprocess.run([*UNSHARE, "--net", "sh", "-ec", f"{mounts}\nip link set lo up"], capture_output=True)
    if tried.returncode:
        return f"this machine lets nobody make namespaces and mounts ({tried.stderr.decode().strip()})"
    return None


def overlay(layers: Sequence[Path], root: Path, changes: Path | None = None, work: Path | None = None) -> str:
    """The shell line that mounts layers, lowest first, at `root`: read-only, or with `changes` going to a folder."""
    if changes is None and len(layers) == 1:
        return f"mount --bind {layers[0]} {root} && mount -o remount,bind,ro {root}"
    options = [f"lowerdir={':'.join(str(layer) for layer in reversed(layers))}"]
    if changes is not None:
        options += [f"upperdir={changes}", f"workdir={work}"]
    return shlex.join(["mount", "-t", "overlay", "overlay", "-o", ",".join(options), str(root)])


def system_folders(root: Path, tmpfs: Sequence[str] = ()) -> list[str]:
    """Shell lines that mount /proc, /sys, the few devices an engine gives, and folders in memory.

    Args:
        root: where the layers are mounted.
        tmpfs: `PATH` or `PATH:OPTIONS` of folders in memory, as `docker run --tmpfs` takes them.
    """
    lines = [
        f"mount -t proc proc {root}/proc",
        f"mount --rbind -o ro /sys {root}/sys",
        f"mount -t tmpfs -o mode=755 tmpfs {root}/dev",
        f"mkdir {root}/dev/shm {root}/dev/pts",
        f"ln -s /proc/self/fd {root}/dev/fd",
    ]
    lines += [f"touch {root}/dev/{name} && mount --bind /dev/{name} {root}/dev/{name}" for name in DEVICES]
    for entry in tmpfs:
        path, _, options = entry.partition(":")
        lines.append(f"mount -t tmpfs -o {options or 'mode=1777'} tmpfs {root}{path}")
    return lines


def bind(source: Path, target: Path, read_only: bool = True) -> str:
    """The shell line that shows a file or folder of this machine at `target`."""
    line = f"mount --bind {shlex.quote(str(source))} {shlex.quote(str(target))}"
    return f"{line} && mount -o remount,bind,ro {shlex.quote(str(target))}" if read_only else line


def size_bytes(folder: Path) -> int:
    """Bytes of all files in a layer, hard links once."""
    seen = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            status = os.lstat(os.path.join(parent, name))
            seen[status.st_ino] = status.st_size
    return sum(seen.values())
