"""What the documents tell people to type."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [
        *(path for path in REPOSITORY.glob("*.md") if path.name != "CHANGELOG.md"),
        *(
            path
            for folder in ("docs", "cluster", "examples", "everymask")
            for path in (REPOSITORY / folder).rglob("*.md")
        ),
    ]
)
_BLOCK = re.compile(r"^ {0,4}```([a-z]*)\n(.*?)^ {0,4}```", re.DOTALL | re.MULTILINE)
_PROGRAMS = (
    *("everymask", "python", "make", "curl", "ray", "serve", "pip", "git", "cp", "export", "source", "apt-get"),
    *("docker", "kubectl", "sbatch", "prometheus", "pytest", "aws", "gcloud", "eksctl", "huggingface-cli"),
)
_COMMENT = re.compile(r"\s+# .*$")


def fenced_lines(text: str) -> Iterator[str]:
    """The lines of a page's blocks that are no other language than a shell's; a continued line is one."""
    for language, block in _BLOCK.findall(text):
        if language in ("", "bash", "sh", "console", "shell"):
            yield from (line.strip() for line in block.replace("\\\n", " ").splitlines())


def commands_of(page: Path) -> list[str]:
    """What a page has people type, in its order, without comments and prompts, with the values of variables."""
    variables: dict[str, str] = {}
    found = []
    for line in fenced_lines(page.read_text(encoding="utf-8")):
        if assigned := re.fullmatch(r'(\w+)="(.*)"', line):
            variables[assigned[1]] = assigned[2]
            continue
        for name, value in variables.items():
            line = line.replace(f"${name}", value)
        line = re.sub(r" {2,}", " ", _COMMENT.sub("", line.removeprefix("$ ")))
        words = [word for word in line.split() if not re.match(r"^[A-Z_]+=", word)]
        if words and words[0] in _PROGRAMS and ":" not in words[0]:
            found.append(line)
    return found
