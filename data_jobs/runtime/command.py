"""Commands: options and configuration files become a configuration; running it gives an exit code."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field
from difflib import get_close_matches
from typing import Any, Generic, Literal, TypeVar, get_args, get_origin

import tyro

from data_jobs.runtime.config_files import config_text, file_arguments, option_value
from data_jobs.runtime.exit_codes import DONE, exit_code
from data_jobs.runtime.outcome import JSON, QUIET, run_with
from data_jobs.runtime.settings import Setting, as_arguments, as_tree, settings_of
from everymask.errors import ConfigurationError

C = TypeVar("C")

Presets = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Path of a setting → its value → other settings' values, unless they are given."""

_MAX_WIDTH = 100
_OPTION_WIDTH = 26
_MAX_CHOICES = 5
_OWN_OPTIONS = (
    ("--config FILE.yaml", "Take settings from this file, or from the run.json of an earlier run; options typed win."),
    ("--print-config", "Write every setting with its value and meaning, as such a file, and stop."),
)
_TELLING = (
    (QUIET, "Say nothing but errors."),
    (JSON, "Print one JSON object about what was done, and nothing else, for scripts."),
)


@dataclass(frozen=True)
class Command(Generic[C]):
    """One command.

    Attributes:
        words: what is typed after `everymask`.
        config: dataclass of its settings.
        run: does the work and returns the exit code.
        summary: a sentence or two at the top of its help.
        groups: titles of help with their settings' paths; by default all settings. Other settings are set by a file, or
            by options that help omits.
        presets: the meaning of its recipes.
        interrupted: what Ctrl-C leaves.
        stand_ins: values for settings without a default while the configuration is printed, by path; they must pass its
            checks. By default the first choice, or the setting's own name.
        first: path of the setting whose value may come first, without its option.
    """

    words: str
    config: type[C]
    run: Callable[[C], int]
    summary: str
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    presets: Presets = field(default_factory=dict)
    interrupted: str = "nothing was written"
    stand_ins: Mapping[str, str] = field(default_factory=dict)
    first: str = ""

    def __call__(self, arguments: Sequence[str]) -> int:
        """Run it with what was typed after its words."""
        arguments = self._named(arguments)
        if {"-h", "--help"} & set(arguments):
            print(self.help(min(_MAX_WIDTH, shutil.get_terminal_size((_MAX_WIDTH, 0)).columns)), end="")
            return DONE
        return run_with(
            arguments, lambda rest: exit_code(lambda: self._parse_and_run(rest), self.interrupted), self._telling
        )

    @property
    def _telling(self) -> list[str]:
        """Those of `--quiet` and `--json` that are not the command's own options."""
        settings = {setting.option for setting in settings_of(self.config)}
        return [option for option, _ in _TELLING if option not in settings]

    def _parse_and_run(self, arguments: Sequence[str]) -> int:
        if not takes_file(self.config) or "--print-config" not in arguments:
            return self.run(self.parse(arguments))
        rest = [word for word in arguments if word != "--print-config"]
        print(self.print_config(rest), end="")
        return DONE

    def parse(self, arguments: Sequence[str]) -> C:
        return parse(self.config, self._named(arguments), f"everymask {self.words}", self.presets)

    def _named(self, arguments: Sequence[str]) -> Sequence[str]:
        """The arguments, with the option of a first value that was typed without it."""
        unnamed = self.first and arguments and not arguments[0].startswith("-")
        return [f"--{self.first}", *arguments] if unnamed else arguments

    @property
    def required(self) -> list[Setting]:
        return [setting for setting in settings_of(self.config) if setting.default is MISSING]

    def print_config(self, arguments: Sequence[str]) -> str:
        """The configuration as a commented file; required settings that are missing are commented out."""
        given = [word for part in _given(self.config, arguments, f"everymask {self.words}") for word in part]
        chosen = {setting.path: setting for setting in settings_of(self.config)}
        of_user = {setting.path: setting for setting in self.required} | {path: chosen[path] for path in self.stand_ins}
        missing = [setting for setting in of_user.values() if option_value(given, setting.option) is None]
        stand_ins = [
            f"{setting.option}={self.stand_ins.get(setting.path) or _stand_in(setting)}" for setting in missing
        ]
        tree = as_tree(self.parse([*stand_ins, *arguments]))
        for setting in missing:
            tree[setting.path] = None
        title = f"everymask {self.words} --config FILE takes this file, or any part of it."
        return config_text(tree, self.config, title)

    def help(self, width: int) -> str:
        """The text of `--help`, at most `width` characters wide: the settings of `groups`, or all."""
        settings = {setting.path: setting for setting in settings_of(self.config)}
        groups = self.groups or {"options": tuple(settings)}
        lines = [f"usage: everymask {self.words} {f'{self.first.upper()} ' if self.first else ''}[OPTIONS]", ""]
        lines += textwrap.wrap(self.summary, width)
        for title, paths in groups.items():
            lines += ["", f"{title}:"]
            for path in paths:
                lines += _entry(_usage(settings[path]), _explained(settings[path]), width)
        if takes_file(self.config):
            lines += ["", "all settings:"]
            for option, text in _OWN_OPTIONS:
                lines += _entry(option, text, width)
        lines += ["", "what it says:"]
        for option, text in _TELLING:
            if option in self._telling:
                lines += _entry(option, text, width)
        return "\n".join(lines) + "\n"


def parse(config: type[C], arguments: Sequence[str], program: str, presets: Presets) -> C:
    """The configuration of options, possibly with a file among them.

    Raises:
        ConfigurationError: an unknown option or setting, or contradicting values.
        SystemExit: a value is missing or of the wrong type; the reason is printed.
    """
    in_file, typed = _given(config, arguments, program)
    # The last one counts. A recipe stands where it was given, before the options beside it.
    of_file, of_typed = _presets(config, in_file, typed, presets)
    return tyro.cli(config, args=[*of_file, *in_file, *of_typed, *typed], prog=program, add_help=False)


def takes_file(config: type) -> bool:
    """Whether settings can come from a file; not if the command has its own option --config."""
    return all(setting.path != "config" for setting in settings_of(config))


def _given(config: type, arguments: Sequence[str], program: str) -> tuple[list[str], list[str]]:
    """The file's settings as options, and the typed options."""
    typed = list(arguments)
    if not takes_file(config):
        _check_options(config, typed, program)
        return [], typed
    path = option_value(typed, "--config")
    while (place := next((i for i, word in enumerate(typed) if word.split("=")[0] == "--config"), None)) is not None:
        del typed[place : place + (1 if "=" in typed[place] else 2)]
    _check_options(config, typed, program)
    return [] if path is None else file_arguments(path, config), typed


def _check_options(config: type, arguments: Sequence[str], program: str) -> None:
    known = {setting.option for setting in settings_of(config)}
    for word in arguments:
        option = word.split("=")[0].replace("_", "-")
        if option.startswith("--") and option not in known and _without_no(option) not in known:
            alike = get_close_matches(option, known, n=1)
            hint = f"did you mean {alike[0]}?" if alike else f"{program} --help lists them"
            raise ConfigurationError(f"{program} has no option {option}; {hint}")


def _without_no(option: str) -> str:
    """`--folder.no-name` → `--folder.name`."""
    folder, dot, name = option.removeprefix("--").rpartition(".")
    return f"--{folder}{dot}{name.removeprefix('no-')}"


def _presets(
    config: type, in_file: Sequence[str], typed: Sequence[str], presets: Presets
) -> tuple[list[str], list[str]]:
    """The meaning of the file's and the typed recipes; a typed one replaces the file's."""
    settings = {setting.path: setting for setting in settings_of(config)}
    of_file: list[str] = []
    of_typed: list[str] = []
    for path, values in presets.items():
        typed_name, name = (option_value(part, settings[path].option) for part in (typed, in_file))
        chosen = of_file if typed_name is None else of_typed
        for other, value in values.get((name if typed_name is None else typed_name) or "", {}).items():
            chosen += as_arguments(settings[other], value)
    return of_file, of_typed


def _entry(option: str, text: str, width: int) -> list[str]:
    indent = " " * _OPTION_WIDTH
    body = [
        line for part in text.split("\n") for line in textwrap.wrap(part, width - _OPTION_WIDTH, subsequent_indent="")
    ]
    first = f"  {option}"
    if len(first) + 2 > _OPTION_WIDTH:
        return [first, *(indent + line for line in body)]
    return [first.ljust(_OPTION_WIDTH) + (body[0] if body else ""), *(indent + line for line in body[1:])]


def _usage(setting: Setting) -> str:
    choices = _choices(setting.kind)
    if setting.kind is bool:
        return setting.option
    if 0 < len(choices) < _MAX_CHOICES:
        return f"{setting.option} {'|'.join(choices)}"
    return f"{setting.option} {_value_name(setting.kind)}"


def _stand_in(setting: Setting) -> str:
    """A value for a missing required setting, different for each."""
    return next(iter(_choices(setting.kind)), setting.path)


def _value_name(kind: Any) -> str:
    """The placeholder of a value in help: a number, or some text."""
    parts = {kind, *get_args(kind)}
    if int in parts:
        return "N"
    return "X" if float in parts else "TEXT"


def _explained(setting: Setting) -> str:
    default = setting.default
    if default is MISSING:
        return f"{setting.help} [required]"
    if default is None or default is False or default in ((), {}, ""):
        return setting.help
    shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
    return f"{setting.help} [{shown}]"


def _choices(kind: Any) -> tuple[str, ...]:
    if get_origin(kind) is Literal:
        return tuple(map(str, get_args(kind)))
    return tuple(choice for part in get_args(kind) for choice in _choices(part))


def one_of(commands: Sequence[Command[Any]]) -> Callable[[Sequence[str]], int]:
    """The script of several commands, chosen by the first word that differs."""

    def run(arguments: Sequence[str]) -> int:
        names = {command.words.split()[-1]: command for command in commands}
        if arguments and arguments[0] in names:
            return names[arguments[0]](arguments[1:])
        group = commands[0].words.rpartition(" ")[0]
        asks_help = bool({"-h", "--help"} & set(arguments))
        print(f"usage: everymask {group} {'|'.join(names)} [OPTIONS]", flush=True)
        return DONE if asks_help else 2

    return run
