"""A command's settings, read from its configuration dataclass and named in help, configuration files and run.json.

A setting is a field that is not a dataclass. Its path is what users type: `entities.points_per_side` in a file,
`--entities.points-per-side` on a command line. A field joined to its parent (`JOINED`) adds nothing to the path.
"""

from __future__ import annotations

import ast
import inspect
import shlex
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import tyro

from everymask.decided import is_decided

JOINED = tyro.conf.arg(name="")
"""Marks a nested configuration whose settings are named as its parent's."""


WITH_DECIDED = "with decided parameters"
"""Marks a nested configuration whose decided parameters (`everymask.decided`) can be set too, to measure again."""


@dataclass(frozen=True)
class Without:
    """Marks a nested configuration with fields that cannot be set here, by their paths in it."""

    paths: tuple[str, ...]


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        path: such as `entities.points_per_side`.
        attributes: names that lead from the configuration to its value.
        kind: its type.
        default: `dataclasses.MISSING` if it is required.
        help: what it does.
    """

    path: str
    attributes: tuple[str, ...]
    kind: Any
    default: Any
    help: str

    @property
    def option(self) -> str:
        """As typed: `--entities.points-per-side`."""
        return f"--{self.path.replace('_', '-')}"

    def value(self, config: object) -> Any:
        for name in self.attributes:
            config = getattr(config, name)
        return config


def settings_of(config: type) -> tuple[Setting, ...]:
    """Every setting of a configuration dataclass, in the order of fields."""
    return tuple(_walk(config, "", (), None, False))


def _walk(
    config: type, prefix: str, attributes: tuple[str, ...], default: object, with_decided: bool
) -> Iterator[Setting]:
    """The settings in one configuration, with defaults from `default` if its parent gives it a value."""
    hints, texts = get_type_hints(config, include_extras=True), _field_docs(config)
    for field in fields(config):
        if is_decided(field) and not with_decided:
            continue
        kind, notes = _unwrapped(hints[field.name])
        joined = JOINED in notes
        name = next((given for note in notes if (given := getattr(note, "name", None))), field.name)
        path = prefix if joined else f"{prefix}{name}"
        inner = (*attributes, field.name)
        value = _default(field) if default is None else getattr(default, field.name)
        if isinstance(kind, type) and is_dataclass(kind):
            nested = None if value is MISSING else value
            below = path if joined else f"{path}."
            barred = {f"{below}{inside}" for note in notes if isinstance(note, Without) for inside in note.paths}
            yield from (
                setting
                for setting in _walk(kind, below, inner, nested, with_decided or WITH_DECIDED in notes)
                if not any(setting.path == one or setting.path.startswith(f"{one}.") for one in barred)
            )
        elif not any(is_dataclass(part) for part in get_args(kind)):
            written = [str(text) for note in notes if (text := getattr(note, "help", None))]
            yield Setting(path, inner, kind, value, "".join(written) or texts.get(field.name, ""))


def _unwrapped(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """A type, and its annotations."""
    if get_origin(hint) is not Annotated:
        return hint, ()
    kind, *notes = get_args(hint)
    return kind, tuple(notes)


def _default(field: Field[Any]) -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default


def _field_docs(config: type) -> dict[str, str]:
    """The docstrings of a dataclass's fields, inherited ones included, each in one line."""
    found: dict[str, str] = {}
    for base in reversed(config.__mro__):
        if not is_dataclass(base):
            continue
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(body, ast.ClassDef)
        for line, below in zip(body.body, body.body[1:], strict=False):
            if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and isinstance(below, ast.Expr):
                found[line.target.id] = " ".join(str(ast.literal_eval(below.value)).split())
    return found


def as_tree(config: Any) -> dict[str, Any]:
    """A configuration's values by path, nested as in a file."""
    tree: dict[str, Any] = {}
    for setting in settings_of(type(config)):
        *folders, name = setting.path.split(".")
        place = tree
        for folder in folders:
            place = place.setdefault(folder, {})
        place[name] = _plain(setting.value(config))
    return tree


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def as_arguments(setting: Setting, value: Any) -> list[str]:
    """The options that give a setting a value."""
    option, plain = setting.option, _plain(value)
    if isinstance(plain, bool):
        folder, _, name = option.removeprefix("--").rpartition(".")
        return [option if plain else f"--{folder}{'.' if folder else ''}no-{name}"]
    if isinstance(plain, dict):
        return [option, *(str(part) for pair in plain.items() for part in pair)]
    if isinstance(plain, list):
        return [option, *map(str, plain)]
    return [f"{option}={plain}"]


def typed(words: str, config: Any) -> str:
    """The command line that repeats a configuration: every setting that differs from its default."""
    arguments = [
        argument
        for setting in settings_of(type(config))
        if (value := setting.value(config)) != setting.default
        for argument in as_arguments(setting, value)
    ]
    return shlex.join(["everymask", *words.split(), *arguments])
