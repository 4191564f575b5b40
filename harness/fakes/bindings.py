"""Modules that behave as pybind11 makes them, from the manifests of the real ones (T0-04).

A *face* is a class here whose methods say what a class of the library does, in all its versions. ``assemble`` gives one
version: of each face the members that this version has, under its bases, with its enums and their numbers, and with the
argument checks that pybind11 does. Nothing about a version is typed by hand.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, MemberDescriptorType, ModuleType
from typing import Any, ClassVar

__all__ = ["Enum", "Face", "Parameter", "assemble", "make_enum", "make_face", "parameters", "read_manifest"]

Manifest = Mapping[str, Mapping[str, Any]]

_MANIFESTS = Path(__file__).resolve().parents[2] / "fixtures" / "api"
_OWN = frozenset({"__dict__", "__weakref__", "__doc__", "__slots__", "__annotations__", "__module__", "__qualname__"})


@functools.cache
def read_manifest(name: str) -> Manifest:
    """The manifest ``fixtures/api/<name>.json``; ``ValueError`` with those that there are."""
    path = _MANIFESTS / f"{name}.json"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in _MANIFESTS.glob("*.json")))
        raise ValueError(f"no manifest of {name}; there are {known}")
    manifest: Manifest = json.loads(path.read_text(encoding="utf-8"))
    return manifest


class Enum:
    """A member of a pybind11 enum: no ``int``, equal to its own kind alone, ``<BuilderFlag.TF32: 6>``."""

    __slots__ = ("_name", "_value")
    __members__: ClassVar[dict[str, Any]] = {}

    def __init__(self, value: int) -> None:
        self._value = int(value)
        self._name = next((name for name, member in self.__members__.items() if member._value == self._value), "???")

    @property
    def name(self) -> str:
        return self._name

    @property
    def value(self) -> int:
        return self._value

    def __int__(self) -> int:
        return self._value

    __index__ = __int__

    def __hash__(self) -> int:
        return hash(self._value)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and int(other) == self._value

    def __repr__(self) -> str:
        return f"<{type(self).__name__}.{self._name}: {self._value}>"

    def __str__(self) -> str:
        return f"{type(self).__name__}.{self._name}"


def make_enum(name: str, values: Mapping[str, int], module: str) -> type[Enum]:
    """An enum class with these members, in the order of their numbers."""
    members: dict[str, Any] = {}
    made = type(name, (Enum,), {"__slots__": (), "__members__": members, "__module__": module})
    for member, value in sorted(values.items(), key=lambda item: (item[1], item[0])):
        members[member] = one = made(value)
        one._name = member  # two names may share a number
        setattr(made, member, one)
    return made


class _BindingType(type):
    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        made = super().__call__(*args, **kwargs)
        if not getattr(made, "_is_made", False):
            base = next(kind for kind in cls.__mro__ if "_is_binding" in vars(kind))
            raise TypeError(f"{base.__module__}.{base.__qualname__}.__init__() must be called when overriding __init__")
        return made


class Face(metaclass=_BindingType):
    """The root of all faces. What an object is made of lies in ``_state``; no other attribute can be set on it.

    A face names only its own members: bases come from the manifest, so ``super()`` has no place in one.
    """

    __slots__ = ("__weakref__", "_is_made", "_state")
    _library: ClassVar[Any]
    _state: Any
    _is_made: bool


def make_face(name: str, members: Mapping[str, Any], bases: tuple[type, ...] = (Face,)) -> type[Face]:
    """A face by its name."""
    made: Any = _BindingType(name, bases, {"__slots__": (), **members})
    return made  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Parameter:
    """One argument of a bound function: its name, the type as the docstring writes it, and its default or ``None``."""

    name: str
    type: str
    default: str | None


def parameters(text: str) -> list[Parameter] | None:
    """The arguments in the first line of a pybind11 docstring, without ``self``; ``None`` where it does not list them."""
    match = re.match(r"\w+\((.*)\)(?: -> .*)?$", text)
    if match is None or match[1].startswith("*args"):
        return None
    found = []
    for piece in _split(match[1]):
        declared, _, default = piece.partition(" = ")
        name, _, kind = declared.partition(": ")
        found.append(Parameter(name, kind, default or None))
    return found[1:] if found and found[0].name == "self" else found


def assemble(
    module: ModuleType, manifest: Manifest, faces: Iterable[type[Face]], functions: Mapping[str, Any], library: Any
) -> None:
    """Put into ``module`` every enum of the manifest, each of the faces that it has, and the functions that it has.

    ``library``: what the faces reach as ``self._library``.
    """
    for name, entry in manifest.items():
        if "enum" in entry:
            setattr(module, name, make_enum(name, entry["enum"], module.__name__))
    by_name = {face.__name__: face for face in faces}
    for name in by_name:
        if name in manifest:
            _add(module, manifest, by_name, name, library)
    for name, function in functions.items():
        if "function" in manifest.get(name, ()):
            setattr(module, name, function)


def _add(
    module: ModuleType, manifest: Manifest, faces: Mapping[str, type[Face]], name: str, library: Any
) -> type[Face]:
    if name in vars(module):
        return getattr(module, name)  # type: ignore[no-any-return]
    entry = manifest[name]
    bases: tuple[type, ...] = tuple(
        _add(module, manifest, faces, base, library) for base in entry["bases"] if base in faces
    ) or (Face,)
    members = {
        key: value
        for key, value in vars(faces[name]).items()
        if not isinstance(value, MemberDescriptorType) and key not in _OWN and _is_in(key, entry["members"])
    }
    for key, value in members.items():
        text = entry["members"].get(key, "")
        if isinstance(value, FunctionType) and text:
            members[key] = _checked(value, text, module)
        elif isinstance(value, property) and text.endswith("(read-only)"):
            members[key] = property(value.fget)
    if not entry["members"].get("__init__", "").startswith("__init__("):
        members["__init__"] = _no_constructor
    namespace = {
        **members,
        "__module__": module.__name__,
        "__doc__": faces[name].__doc__,
        "_library": library,
        "_is_binding": True,
    }
    made = make_face(name, namespace, bases)
    setattr(module, name, made)
    return made


def _is_in(key: str, members: Mapping[str, str]) -> bool:
    """Whether a version keeps this attribute of a face: what begins with an underscore is no API, except ``__len__``."""
    return key in members or (key.startswith("_") and key not in ("__len__", "__getitem__"))


def _no_constructor(self: Face, *_args: Any, **_kwargs: Any) -> None:
    raise TypeError(f"{type(self).__module__}.{type(self).__qualname__}: No constructor defined!")


def _checked(function: FunctionType, text: str, module: ModuleType) -> Callable[..., Any]:
    """The function behind the checks that pybind11 does from its signature: how many arguments, names, and types."""
    declared = parameters(text)
    is_constructor = function.__name__ == "__init__"
    if declared is None:
        return function
    checks = [_check_of(parameter.type, module) for parameter in declared]
    places = {parameter.name: place for place, parameter in enumerate(declared)}
    required = sum(parameter.default is None for parameter in declared)

    @functools.wraps(function)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        fits = required <= len(args) + len(kwargs) <= len(checks) and all(name in places for name in kwargs)
        if fits:
            given = [*zip(checks, args, strict=False), *((checks[places[name]], kwargs[name]) for name in kwargs)]
            fits = all(check(value) for check, value in given)
        if not fits:
            what = "constructor" if is_constructor else "function"
            raise TypeError(
                f"{function.__name__}(): incompatible {what} arguments. The following argument types are supported:\n"
                f"    1. {text}\n\nInvoked with: {', '.join(map(repr, (*args, *kwargs.values())))}"
            )
        if is_constructor:
            self._is_made = True
        return function(self, *args, **kwargs)

    return call


def _check_of(kind: str, module: ModuleType) -> Callable[[Any], bool]:
    """Whether a value is taken for a type as docstrings write it; a class is looked up when it is needed."""
    plain = kind.rpartition(".")[2]
    if kind in ("int", "typing.SupportsInt"):
        return _is_int
    if kind in ("float", "typing.SupportsFloat"):
        return lambda value: hasattr(value, "__float__") or hasattr(value, "__index__")
    if kind == "str":
        return lambda value: isinstance(value, str)
    if plain.lower() == "buffer":
        return _is_buffer
    if (
        kind.startswith(("tensorrt.", "tensorrt_rtx_bindings."))
        and "[" not in kind
        and plain not in ("Dims", "Severity")
    ):
        return lambda value: _is_a(value, getattr(module, plain, None))
    return lambda value: True  # sequences and capsules: the method looks for itself


def _is_int(value: Any) -> bool:
    return hasattr(value, "__index__")  # an enum of pybind11's too: create_network(STRONGLY_TYPED) is taken, and wrong


def _is_buffer(value: Any) -> bool:
    try:
        memoryview(value)
    except TypeError:
        return False
    return True


def _is_a(value: Any, kind: Any) -> bool:
    return kind is None or isinstance(value, kind)


def _split(text: str) -> list[str]:
    """The arguments of a signature: split at the commas outside of any bracket."""
    pieces, depth, start = [], 0, 0
    for place, character in enumerate(text):
        depth += (character in "[(<{") - (character in "])>}")
        if character == "," and depth == 0:
            pieces.append(text[start:place].strip())
            start = place + 1
    pieces.append(text[start:].strip())
    return [piece for piece in pieces if piece]
