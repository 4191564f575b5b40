"""The mutation list: planted breaks, each with the test that must turn red (``mutations/*.toml``)."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["LIST", "ROOT", "Mutation", "covers_of", "load", "parts_of"]

ROOT = Path(__file__).resolve().parents[2]
LIST = Path(__file__).with_name("mutations")


@dataclass(frozen=True)
class Mutation:
    """A plausible bug: in ``file``, the one place that reads ``before`` reads ``after``.

    ``covers``: the requirements that it breaks. ``title``: the bug in words. ``test``: the pytest node that must fail.
    ``hangs``: the bug shows as a test that does not end, so running into ``limit_s`` is red too.
    """

    covers: tuple[str, ...]
    title: str
    file: str
    before: str
    after: str
    test: str
    hangs: bool = False
    limit_s: float = 120.0


def load(folder: Path = LIST) -> list[Mutation]:
    """All mutations, in the order of the files and of what is in them."""
    return [
        Mutation(**{**values, "covers": tuple(values["covers"])})
        for path in sorted(folder.glob("*.toml"))
        for values in tomllib.loads(path.read_text(encoding="utf-8"))["mutation"]
    ]


def parts_of(test: str) -> tuple[str, list[str]]:
    """A pytest node as its file, and the names of class and function without a parameter."""
    path, *names = test.partition("[")[0].split("::")
    return path, names


def covers_of(test: str, root: Path = ROOT) -> set[str] | None:
    """The ids of the ``covers`` marks on a test, its class and its module; ``None`` where there is no such test."""
    path, names = parts_of(test)
    if not (root / path).is_file():
        return None
    scope: Any = ast.parse((root / path).read_text(encoding="utf-8"))
    found = {
        mark
        for node in scope.body
        if isinstance(node, ast.Assign) and any(getattr(target, "id", "") == "pytestmark" for target in node.targets)
        for mark in _marks(node.value)
    }
    for name in names:
        scope = next((node for node in scope.body if getattr(node, "name", "") == name), None)
        if scope is None:
            return None
        found |= {mark for decorator in scope.decorator_list for mark in _marks(decorator)}
    return found if names else None


def _marks(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "covers":
            yield from (str(argument.value) for argument in node.args if isinstance(argument, ast.Constant))
