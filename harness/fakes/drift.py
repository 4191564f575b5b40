"""Whether a fake still has the API of the real thing (T0-04): every name, number, base, and signature of it.

A fake may lack what the real library has. What it has must be there in the real one, under the same name, in the same
place, with the same parameters.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

from harness.fakes.bindings import Enum, Parameter, parameters

__all__ = ["drift"]

_SPECIAL = frozenset({"__init__", "__len__", "__getitem__"})
_CONSTRUCTED_BY_NOBODY = "Initialize self."


def drift(fake: ModuleType, manifest: Mapping[str, Mapping[str, Any]], *, also: Iterable[str] = ()) -> list[str]:
    """One sentence for each difference; empty for a fake that is true to its manifest.

    ``also``: names, as ``volume`` or ``Runtime.__enter__``, that the real module has and the manifest does not list.
    """
    known = set(also)
    found = []
    for name in sorted(vars(fake)):
        if name.startswith("_") or name in known:
            continue
        value = getattr(fake, name)
        entry = manifest.get(name)
        if entry is None:
            found.append(f"{name}: the real module has no such name")
        elif "enum" in entry:
            found += _enum_drift(name, value, entry["enum"])
        elif "members" in entry:
            found += _class_drift(name, value, entry, manifest, known)
        elif "function" in entry:
            found += _signature_drift(name, value, entry["function"], is_method=False)
        elif entry["value"] != type(value).__name__:
            found.append(f"{name}: is a {type(value).__name__}, and the real one a {entry['value']}")
    missing = [name for name, entry in manifest.items() if "enum" in entry and not hasattr(fake, name)]
    return found + [f"{name}: the enum is not there" for name in missing]


def _enum_drift(name: str, value: Any, expected: Mapping[str, int]) -> list[str]:
    if not (isinstance(value, type) and issubclass(value, Enum)):
        return [f"{name}: is no enum"]
    attributes = {key: int(member) for key, member in vars(value).items() if isinstance(member, Enum)}
    listed = {key: int(member) for key, member in value.__members__.items()}
    return [
        f"{name}.{key}: is {seen.get(key, 'not there')}, and the real one {expected.get(key, 'not there')}"
        for seen in (attributes, listed)
        for key in sorted(seen.keys() | expected.keys())
        if seen.get(key) != expected.get(key)
    ]


def _class_drift(
    name: str, value: Any, entry: Mapping[str, Any], manifest: Mapping[str, Any], known: set[str]
) -> list[str]:
    found = []
    ours = {base.__name__ for base in value.__mro__ if base.__name__ in manifest}
    theirs = _ancestors(name, manifest)
    if not ours <= theirs:
        found.append(f"{name}: has the bases {sorted(ours - theirs)}, which the real one has not")
    for key in sorted({key for base in value.__mro__ for key in vars(base) if _is_public(base, key)}):
        if f"{name}.{key}" in known or (key in _SPECIAL and key not in entry["members"]):
            continue
        text = entry["members"].get(key)
        raw = inspect.getattr_static(value, key)
        if text is None:
            found.append(f"{name}.{key}: the real class has no such member")
        elif isinstance(raw, property) or text.startswith("property"):
            found += _property_drift(f"{name}.{key}", raw, text)
        elif callable(raw):
            found += _signature_drift(f"{name}.{key}", raw, text, is_method=True)
    return found


def _is_public(base: type, key: str) -> bool:
    """Members that a class of the library has of its own, and not from Python's ``object`` or ``bytes``."""
    return base.__module__ != "builtins" and (not key.startswith("_") or key in _SPECIAL)


def _ancestors(name: str, manifest: Mapping[str, Any]) -> set[str]:
    bases = manifest.get(name, {}).get("bases", ())
    return {name}.union(*(_ancestors(base, manifest) for base in bases))


def _property_drift(name: str, raw: Any, text: str) -> list[str]:
    if not isinstance(raw, property):
        return [f"{name}: is no property, and the real one is"]
    if not text.startswith("property"):
        return [f"{name}: is a property, and the real one is {text!r}"]
    if (raw.fset is None) != text.endswith("(read-only)"):
        return [f"{name}: is {'read-only' if raw.fset is None else 'writable'}, and the real one is not"]
    return []


def _signature_drift(name: str, function: Any, text: str, *, is_method: bool) -> list[str]:
    expected = parameters(text)
    if expected is None or text.startswith(_CONSTRUCTED_BY_NOBODY):
        return []
    actual = list(inspect.signature(function).parameters.values())[is_method:]
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in actual):
        return []  # bound by its manifest: ``bindings`` checks each call against it
    if not _agree(expected, actual):
        shown = ", ".join(map(str, actual))
        return [f"{name}: takes ({shown}), and the real one is {text!r}"]
    return []


def _agree(expected: list[Parameter], actual: list[inspect.Parameter]) -> bool:
    if len(expected) != len(actual):
        return False
    return all(
        real.name == ours.name and (real.default is None) == (ours.default is ours.empty)
        for real, ours in zip(expected, actual, strict=True)
    )
