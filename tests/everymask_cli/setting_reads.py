"""Where the code reads each setting: the types of configurations, followed through the syntax trees of all packages."""

from __future__ import annotations

import ast
import inspect
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

from data_jobs.runtime.settings import Setting

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = ("data_jobs", "everymask", "everymask_cli", "serve", "browse")
CHECKS = "__post_init__"
"""What only a configuration's own check reads acts on nothing."""

Field = tuple[type, str]
"""A setting where it is declared: its dataclass and its name there."""
Kinds = tuple[Any, ...]
"""What an expression may be: configurations, or the name of the class whose `self` it is."""


def nested(config: type) -> Iterator[type]:
    """A configuration and those inside it."""
    yield config
    for hint in get_type_hints(config).values():
        for part in _dataclasses(hint):
            yield from nested(part)


def declared(config: type, setting: Setting) -> Field:
    """The field behind a setting of a command."""
    for name in setting.attributes[:-1]:
        (config,) = _dataclasses(get_type_hints(config)[name])
    return _owner(config, setting.attributes[-1])


def _dataclasses(hint: Any) -> list[type]:
    return [part for part in (hint, *get_args(hint)) if isinstance(part, type) and is_dataclass(part)]


def _owner(config: type, name: str) -> Field:
    return next(base for base in config.__mro__ if name in inspect.get_annotations(base)), name


def _sources() -> Iterator[tuple[Path, str]]:
    for package in PACKAGES:
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            yield path, path.read_text(encoding="utf-8")


class Reads:
    """What is read of configurations, and where.

    Attributes:
        of: files that read a field, checks of the configuration itself apart.
        hints: the fields of each configuration, with their types.
    """

    def __init__(self, configs: set[type]) -> None:
        self.of: dict[Field, set[Path]] = defaultdict(set)
        self.hints = {config: get_type_hints(config) for config in configs}
        self._named = {config.__name__: config for config in configs}
        self._returned: dict[str, Kinds] = {}
        self._held: dict[tuple[Any, str], Kinds] = {}
        trees = {path: ast.parse(text) for path, text in _sources() if any(name in text for name in self._named)}
        for tree in trees.values():
            self._learn(tree)
        for path, tree in trees.items():
            _Reader(self, path).visit(tree)

    def named(self, annotation: ast.expr | str | None) -> Kinds:
        """The configurations that an annotation names."""
        text = ast.unparse(annotation) if isinstance(annotation, ast.expr) else annotation or ""
        return tuple(self._named[word] for word in re.findall(r"\w+", text) if word in self._named)

    def returned(self, name: str) -> Kinds:
        """The configuration that a function or a class of that name gives."""
        return self.named(name) or self._returned.get(name, ())

    def attribute(self, kind: Any, name: str) -> Kinds:
        """The configurations that an attribute of something holds."""
        if kind in self.hints:
            return tuple(_dataclasses(self.hints[kind].get(name))) or self._returned.get(name, ())
        return self._held.get((kind, name), ())

    def anywhere(self, name: str) -> Kinds:
        """The configuration that every attribute of that name holds, whatever has it."""
        held = {kinds for (_, other), kinds in self._held.items() if other == name and kinds}
        held |= {tuple(found) for hints in self.hints.values() if (found := _dataclasses(hints.get(name)))}
        return next(iter(held)) if len(held) == 1 else ()

    def _learn(self, tree: ast.Module) -> None:
        """What functions return, and which attributes of objects hold a configuration."""
        for node in ast.walk(tree):
            match node:
                case ast.FunctionDef(name, returns=returns) if found := self.named(returns):
                    self._returned[name] = found
                case ast.ClassDef(holder, body=body):
                    for line in body:
                        self._learn_held(holder, line)

    def _learn_held(self, holder: str, line: ast.stmt) -> None:
        match line:
            case ast.AnnAssign(ast.Name(name), annotation):
                self._held[holder, name] = self.named(annotation)
            case ast.FunctionDef("__init__", arguments, body):
                given = {one.arg: self.named(one.annotation) for one in (*arguments.args, *arguments.kwonlyargs)}
                for target, value in _assigned(body):
                    match target, value:
                        case ast.Attribute(ast.Name("self"), name), ast.Name(source):
                            self._held[holder, name] = given.get(source, ())


def _assigned(body: list[ast.stmt]) -> Iterator[tuple[ast.expr, ast.expr]]:
    """What is assigned to what, tuples taken apart."""
    for line in body:
        match line:
            case ast.Assign([ast.Tuple(targets)], ast.Tuple(values)):
                yield from zip(targets, values, strict=False)
            case ast.Assign(targets, value):
                yield from ((target, value) for target in targets)


class _Reader(ast.NodeVisitor):
    """Follows configurations through one file."""

    def __init__(self, reads: Reads, path: Path) -> None:
        self._reads = reads
        self._path = path
        self._scope: dict[str, Kinds] = {}
        self._class = ""
        self._function: ast.FunctionDef | None = None

    def _kinds(self, node: ast.expr) -> Kinds:
        match node:
            case ast.Name(name):
                return self._scope.get(name, ())
            case ast.Attribute(value, name):
                kinds = self._kinds(value)
                found = tuple(found for kind in kinds for found in self._reads.attribute(kind, name))
                return found if kinds else self._reads.anywhere(name)
            case ast.Call(ast.Name("replace"), [first, *_]):
                return self._kinds(first)
            case ast.Call(ast.Name(name) | ast.Attribute(_, name)):
                return self._reads.returned(name)
            case ast.BoolOp(_, values):
                return tuple(found for value in values for found in self._kinds(value))
            case ast.IfExp(_, body, other):
                return self._kinds(body) + self._kinds(other)
        return ()

    def _read(self, of: ast.expr, *names: str) -> None:
        if self._reads.named(self._class) and self._function is not None and self._function.name == CHECKS:
            return
        for kind in self._kinds(of):
            for name in self._reads.hints.get(kind, {}).keys() & set(names):
                self._reads.of[_owner(kind, name)].add(self._path)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        outer, self._class = self._class, node.name
        self.generic_visit(node)
        self._class = outer

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        outer = dict(self._scope), self._function
        self._function = node
        for argument in (*node.args.args, *node.args.kwonlyargs):
            own = (*self._reads.named(self._class), self._class) if argument.arg == "self" else ()
            self._scope[argument.arg] = own or self._reads.named(argument.annotation)
        self.generic_visit(node)
        self._scope, self._function = outer

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        for target, value in _assigned([node]):
            if isinstance(target, ast.Name) and (found := self._kinds(value)):
                self._scope[target.id] = found

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self._read(node.value, node.attr)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        match node:
            case ast.Call(ast.Name("getattr"), [of, ast.Name(), *_]) if self._function is not None:
                # By a name that is one of the function's texts.
                texts = (one.value for one in ast.walk(self._function) if isinstance(one, ast.Constant))
                self._read(of, *(text for text in texts if isinstance(text, str)))
        self.generic_visit(node)
