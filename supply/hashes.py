"""`pip install --report` → requirements with the sha256 of every file: `python -m supply.hashes REPORT > FILE`."""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path
from typing import Any

HEAD = """\
# Every file the suite was run with, by sha256: what is installed by it is what was tested, whatever an index answers.
# For CPython {python} on {system}. Regenerate: make constraints. Use: make install HASHES=1
"""


def hashed_requirements(report: dict[str, Any]) -> list[str]:
    """One line a package, sorted: name, version and digest; no address, so that any index or mirror serves.

    Args:
        report: what pip writes with `--report`.

    Raises:
        KeyError: a package comes from a folder or a repository and has no digest.
    """
    lines = []
    for item in report["install"]:
        name, version = item["metadata"]["name"], item["metadata"]["version"]
        digest = item["download_info"]["archive_info"]["hashes"]["sha256"]
        lines.append(f"{name}=={version} --hash=sha256:{digest}")
    return sorted(lines, key=str.lower)


def main() -> None:
    """Print the file."""
    report = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    system = f"{platform.system()} {platform.machine()}"
    print(HEAD.format(python=".".join(platform.python_version_tuple()[:2]), system=system), end="")
    print("\n".join(hashed_requirements(report)))


if __name__ == "__main__":
    main()
