"""Make the documents' tables of figures from the files that the measuring commands wrote.

    everymask evaluate clicks --path DATA/coco_panoptic/val --json benchmarks/results/clicks-coco.json
    python benchmarks/tables.py           # write the tables anew
    python benchmarks/tables.py --check   # exit 1 where one is not what its file says

A table stands between two comments, the first of which names its file and columns:

    <!-- figures benchmarks/results/clicks-coco.json: clicks best top -->
    <!-- end of figures -->
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from everymask.evaluation.figure_files import read_figures

REPOSITORY = Path(__file__).resolve().parent.parent
DOCUMENTS = ("README.md", "docs", "everymask/backbone/nano/MODEL_CARD.md")
_TABLE = re.compile(r"(<!-- figures (\S+): ([^>]+?) -->\n).*?(<!-- end of figures -->)", re.DOTALL)


def documents() -> list[Path]:
    """The pages that may hold such tables."""
    found = []
    for name in DOCUMENTS:
        path = REPOSITORY / name
        found += sorted(path.rglob("*.md")) if path.is_dir() else [path]
    return found


def sources(text: str) -> list[Path]:
    """The files that a page's tables are made from."""
    return [REPOSITORY / match[2] for match in _TABLE.finditer(text)]


def filled(text: str) -> str:
    """A page with its tables made anew.

    Raises:
        InputError: a file is missing or holds no figures.
    """
    return _TABLE.sub(
        lambda match: f"{match[1]}{made_table(REPOSITORY / match[2], match[3].split())}\n{match[4]}", text
    )


def made_table(path: Path, columns: list[str]) -> str:
    """The rows of a file of figures, shares to the two digits that every processor reproduces, and its origin."""
    content = read_figures(path)
    lines = [f"| | {' | '.join(columns)} |", f"| --- |{' --- |' * len(columns)}"]
    for name, row in content["figures"].items():
        cells = (f"{row[column]:z.2f}" if isinstance(row[column], float) else str(row[column]) for column in columns)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    weights = ", ".join(f"{model} {sha256[:12]}" for model, sha256 in content["weights"].items())
    commit = str(content["commit"])[:9]
    origin = f"`{content['command']}`, {content['date']}, commit {commit}, {content['processor']}"
    origin += f"; weights: {weights}." if weights else "."
    return "\n".join([*lines, "", origin])


def main() -> int:
    """Write the tables, or only check them."""
    stale = [page for page in documents() if filled(text := page.read_text(encoding="utf-8")) != text]
    for page in stale:
        print(f"{page.relative_to(REPOSITORY)} is not what its files of figures say", file=sys.stderr)
        if "--check" not in sys.argv:
            page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
    return int(bool(stale) and "--check" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
