"""What the site has beyond the files of docs/: pages made from the code, so that they are never older than it.

`mkdocs.yml` names this as its hook; it needs everymask installed.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from data_jobs.runtime.command import Command
from data_jobs.runtime.settings import settings_of
from everymask_cli.main import COMMANDS

REPOSITORY = Path(__file__).resolve().parent.parent
FROM_ELSEWHERE = {"cluster.md": "cluster/README.md", "example-heads.md": "everymask/classes/heads/README.md"}
"""Page of the site → the file of the repository that it shows."""

_LINK = re.compile(r"(!?\[[^\]]*\])\(([^)\s#]+)(#[^)]*)?\)")
_MAX_DEFAULT = 60


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are made, and those that lie elsewhere in the repository."""
    made = {"reference/options.md": options(), "reference/http.md": http(), "reference/python.md": python()}
    for place, source in FROM_ELSEWHERE.items():
        made[place] = (REPOSITORY / source).read_text(encoding="utf-8")
    for place, content in made.items():
        files.append(File.generated(config, place, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links to files of the repository lead to their page here; what has none is named without a link."""
    here = page.file.src_uri
    folder = posixpath.dirname(FROM_ELSEWHERE.get(here, f"docs/{here}"))
    pages = {source: place for place, source in FROM_ELSEWHERE.items()}

    def link(match: re.Match[str]) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        if "://" in target or target.startswith("mailto:"):
            return match[0]
        path = posixpath.normpath(posixpath.join(folder, target))
        if path == "docs/decisions":
            path = "docs/decisions/classes.md"
        there = pages.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
        if there is None:
            return f"{text[1:-1]} (`{path}`)" if (REPOSITORY / path).exists() else match[0]
        return f"{text}({posixpath.relpath(there, posixpath.dirname(here) or '.')}{anchor})"

    return _LINK.sub(link, markdown)


def options() -> str:
    """Every setting of every command, from the dataclasses that the commands read."""
    parts = [
        "# Commands and settings\n",
        "An option is typed as it stands here, or given in a file (`--config FILE.yaml`) by its path: "
        "`--entities.points-per-side 16` is `entities: {points_per_side: 16}` there. `everymask COMMAND --help` shows "
        "the options that most people need, `--print-config` writes all of them with their values.\n",
    ]
    for row in COMMANDS:
        command = row.load()
        parts.append(f"## everymask {row.words}\n")
        if not isinstance(command, Command):
            parts.append(f"{row.summary[0].upper()}{row.summary[1:]}: `everymask {row.words} --help`.\n")
            continue
        parts += [f"{command.summary}\n", "| option | what it does | default |", "| --- | --- | --- |"]
        required = {setting.path for setting in command.required}
        for setting in settings_of(command.config):
            default = "required" if setting.path in required else _shown(setting.default)
            parts.append(f"| `{setting.option}` | {_cell(setting.help)} | {default} |")
        parts.append("")
    return "\n".join(parts)


def http() -> str:
    """The HTTP interface, from the document that the service itself answers with."""
    from serve.api import create_app
    from serve.auth import ApiKeys
    from serve.settings import ServiceSettings

    app: Any = create_app(None, ServiceSettings(), ApiKeys(None))  # type: ignore[arg-type]
    document = app.openapi()
    parts = [
        "# HTTP\n",
        "Made from `/openapi.json`, which a running service answers with; its page `/docs` has the whole of it, with "
        "examples to try. [The service](../service.md) says what the answers mean.\n",
    ]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parts += [f"## {method.upper()} {path}\n", f"{operation.get('description', operation['summary'])}\n"]
            if "parameters" in operation:
                parts += ["| parameter | what it does |", "| --- | --- |"]
                parts += [f"| `{p['name']}` | {_cell(p.get('description', ''))} |" for p in operation["parameters"]]
                parts.append("")
            answers = ", ".join(f"{code} {_cell(a['description'])}" for code, a in operation["responses"].items())
            parts.append(f"Answers: {answers}.\n")
    for name, schema in document["components"]["schemas"].items():
        fields = schema.get("properties", {})
        if not fields:
            continue
        parts += [f"## {name}\n", f"{schema.get('description', '')}\n", "| field | what it is |", "| --- | --- |"]
        parts += [f"| `{field}` | {_cell(value.get('description', ''))} |" for field, value in fields.items()]
        parts.append("")
    return "\n".join(parts)


def python() -> str:
    """What `import everymask` offers."""
    import everymask

    parts = ["# Python\n", "What `import everymask` offers.\n"]
    for name in everymask.__all__:
        target = getattr(everymask, name)
        if not name.startswith("_"):
            parts.append(f"::: {target.__module__}.{target.__name__}\n")
    return "\n".join(parts)


def _shown(default: Any) -> str:
    if default is None or default is False or default in ((), {}, ""):
        return "–"
    text = " ".join(map(str, default)) if isinstance(default, tuple) else str(default)
    return f"`{text}`" if len(text) <= _MAX_DEFAULT else "see `--print-config`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
