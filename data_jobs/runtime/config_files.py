"""Settings as a YAML file: written with a comment each, and read as if typed before all options."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar

import yaml

from data_jobs.runtime.settings import Setting, as_arguments, settings_of
from everymask.errors import ConfigurationError

_COMMENT_WIDTH = 100
_FORMER_NAMES = {"class_names": "names"}
"""Former names of settings in older files, with the current names."""


def file_arguments(path: str, config: type) -> list[str]:
    """The options in a file: one from `config_text`, a part of it, or a store's run.json.

    Raises:
        ConfigurationError: the file is unreadable, not a mapping, or names an unknown setting.
    """
    content = _read(path)
    if "attempts" in content:  # a run.json, whose settings lie beside what else it records
        recorded = content.get("settings")
        content = recorded if isinstance(recorded, Mapping) else {}
        if not content:
            raise ConfigurationError(f"{path} is of a run that recorded no settings; give a configuration file instead")
    settings = {setting.path: setting for setting in settings_of(config)}
    arguments: list[str] = []
    for name, value in _leaves(content, settings):
        name = _FORMER_NAMES.get(name, name)
        if name not in settings:
            raise ConfigurationError(f"{path} sets {name}, which is no setting here{_nearest(name, settings)}")
        if value is not None or settings[name].default is not None:
            arguments += as_arguments(settings[name], value)
    return arguments


class _PlainLoader(yaml.SafeLoader):  # type: ignore[misc] # PyYAML has no types
    """Plain values as in YAML 1.2: in version 1.1 `1:16` is the number 76, `no` is false, and `1e-05` is text."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}


for _tag, _pattern, _first in (
    ("null", r"~|null|", "~n"),
    ("bool", r"true|false", "tf"),
    ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan", "-+.0123456789"),
):
    _PlainLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), [*_first, ""])


def _read(path: str) -> Mapping[str, Any]:
    try:
        content = yaml.load(Path(path).read_text(encoding="utf-8"), _PlainLoader)
    except OSError as error:
        raise ConfigurationError(
            f"the configuration {path} cannot be read ({error.strerror}); check the path"
        ) from None
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        where = getattr(error, "problem_mark", None)
        line = f" in line {where.line + 1}" if where else ""
        raise ConfigurationError(f"the configuration {path} is no YAML{line}; --print-config writes one") from None
    if not isinstance(content, Mapping):
        raise ConfigurationError(f"the configuration {path} must hold `name: value` lines; --print-config writes one")
    return content


def _leaves(tree: Mapping[str, Any], settings: Mapping[str, Setting], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        name = f"{prefix}{key}"
        # What aliases lead in circles ends here: no setting has its name.
        if isinstance(value, Mapping) and any(path.startswith(f"{name}.") for path in settings):
            yield from _leaves(value, settings, f"{name}.")
        else:
            yield name, value


def _nearest(name: str, known: Mapping[str, Setting]) -> str:
    alike = get_close_matches(name, known, n=1)
    return f"; did you mean {alike[0]}?" if alike else "; --print-config lists them"


def config_text(tree: Mapping[str, Any], config: type, title: str) -> str:
    """A configuration as YAML, each setting below a comment on what it does; see `settings.as_tree`."""
    comments = {setting.path: setting for setting in settings_of(config)}
    lines = _commented(title, "")
    lines += _body(tree, comments, "", "")
    return "\n".join(lines) + "\n"


def _body(tree: Mapping[str, Any], settings: Mapping[str, Setting], prefix: str, indent: str) -> list[str]:
    lines: list[str] = []
    for name, value in tree.items():
        path = f"{prefix}{name}"
        lines.append("")
        if path not in settings:
            lines += [f"{indent}{name}:", *_body(value, settings, f"{path}.", f"{indent}  ")[1:]]
            continue
        lines += _commented(settings[path].help, indent)
        required = settings[path].default is MISSING and value is None
        lines.append(f"{indent}{'# ' if required else ''}{name}: {_scalar(value)}")
    return lines


def _commented(text: str, indent: str) -> list[str]:
    marker = f"{indent}# "
    return [f"{marker}{line}" for line in textwrap.wrap(text, _COMMENT_WIDTH - len(marker))]


def _scalar(value: Any) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True)
    return text.removesuffix("...\n").strip()


def option_value(arguments: Sequence[str], option: str) -> str | None:
    """The last value given to an option, or None."""
    found = None
    for place, word in enumerate(arguments, start=1):
        name, equals, value = word.partition("=")
        if name.replace("_", "-") == option:
            found = value if equals else "".join(arguments[place : place + 1])
    return found
