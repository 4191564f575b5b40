"""Modules that behave as pybind11 makes them: held against real bindings where they are installed."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from harness.fakes.bindings import Face, assemble, make_enum, parameters, read_manifest

pytestmark = pytest.mark.covers("T0-04")

MANIFEST: dict[str, dict[str, Any]] = {
    "Colour": {"enum": {"RED": 4, "BLUE": 2, "AZURE": 2}},
    "Base": {
        "bases": ["pybind11_object"],
        "members": {"__init__": "__init__(self: m.Base) -> None", "said": "said(*args)"},
    },
    "Thing": {
        "bases": ["Base"],
        "members": {
            "__init__": "__init__(self: m.Thing, size: int, name: str = None) -> None",
            "add": "add(self: m.Thing, other: tensorrt.Thing, data: buffer, times: int = 1) -> int",
            "size": "property (read-only)",
            "said": "said(*args, **kwargs)",
        },
    },
    "Made": {"bases": ["pybind11_object"], "members": {"__init__": "Initialize self.  See help(type(self))."}},
    "count": {"function": "count() -> int"},
}


class Base(Face):
    __slots__ = ()

    def __init__(self) -> None:
        self._state = 0

    def said(self) -> str:
        return "base"


class Thing(Face):
    __slots__ = ()

    def __init__(self, size: int, name: str | None = None) -> None:
        self._state = size

    @property
    def size(self) -> int:
        return int(self._state)

    @size.setter
    def size(self, value: int) -> None:
        self._state = value

    def add(self, other: Any, data: Any, times: int = 1) -> int:
        return int(self._state + other.size * times + len(bytes(data)))

    def is_later(self) -> bool:
        return True


class Made(Face):
    __slots__ = ()


@pytest.fixture
def module() -> Any:
    made = ModuleType("m")
    assemble(made, MANIFEST, (Thing, Base, Made), {"count": lambda: 3, "gone": lambda: 4}, library="the library")
    return made


def test_an_enum_is_no_integer_and_equals_its_own_kind_alone(module: Any) -> None:
    colour, other = module.Colour, make_enum("Other", {"RED": 4}, "m")
    assert (repr(colour.RED), str(colour.RED), int(colour.RED), colour.RED.name) == (
        "<Colour.RED: 4>",
        "Colour.RED",
        4,
        "RED",
    )
    assert colour(4) == colour.RED
    assert colour.RED != 4
    assert colour.RED != other.RED  # type: ignore[attr-defined]
    assert not isinstance(colour.RED, int)
    with pytest.raises(TypeError):
        1 << colour.RED
    assert 1 << int(colour.RED) == 16
    assert list(colour.__members__) == ["AZURE", "BLUE", "RED"]
    assert (colour.BLUE == colour.AZURE, hash(colour.BLUE) == hash(colour.AZURE)) == (True, True)
    assert colour(77).name == "???"


def test_a_class_has_the_members_of_its_manifest_and_no_others(module: Any) -> None:
    assert not hasattr(module.Thing, "is_later")
    assert not hasattr(module, "gone")
    assert issubclass(module.Thing, module.Base)
    assert module.Thing(3).said() == "base"
    assert module.Thing(3)._library == "the library"
    assert module.count() == 3


def test_no_attribute_can_be_invented_and_none_that_is_read_only_set(module: Any) -> None:
    thing = module.Thing(3)
    with pytest.raises(AttributeError, match="'Thing' object has no attribute 'colour'"):
        thing.colour = 3
    with pytest.raises(AttributeError):
        thing.size = 3


def test_what_cannot_be_constructed_says_so(module: Any) -> None:
    with pytest.raises(TypeError, match=r"^m\.Made: No constructor defined!$"):
        module.Made()


def test_a_derived_class_has_to_call_the_constructor_of_its_base(module: Any) -> None:
    class Forgetful(module.Thing):  # type: ignore[misc]
        def __init__(self) -> None:
            self.colour = 1

    with pytest.raises(TypeError, match=r"m\.Thing\.__init__\(\) must be called when overriding __init__"):
        Forgetful()

    class Careful(module.Thing):  # type: ignore[misc]
        def __init__(self) -> None:
            module.Thing.__init__(self, 3)
            self.colour = 1

    assert Careful().size == 3


@pytest.mark.parametrize(
    "call",
    [
        lambda m, t: t.add(),
        lambda m, t: t.add(t),
        lambda m, t: t.add(m.Base(), b""),
        lambda m, t: t.add(t, "text"),
        lambda m, t: t.add(t, b"", 1.5),
        lambda m, t: t.add(t, b"", 1, 2),
        lambda m, t: t.add(t, b"", often=1),
        lambda m, t: t.add(None, b""),
        lambda m, t: m.Thing("three"),
        lambda m, t: m.Thing(),
    ],
)
def test_arguments_that_the_signature_does_not_take_are_refused_before_the_call(module: Any, call: Any) -> None:
    with pytest.raises(TypeError, match=r"incompatible (function|constructor) arguments"):
        call(module, module.Thing(1))


def test_arguments_that_it_takes_arrive(module: Any) -> None:
    one, two = module.Thing(1), module.Thing(size=2, name="two")
    assert one.add(two, bytearray(3)) == 6
    assert one.add(other=two, data=b"", times=3) == 7


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("f(self: m.T) -> None", []),
        ("f(*args, **kwargs)", None),
        ("Some words about it.", None),
        ("f(arg0: int) -> int", [("arg0", "int", None)]),
        (
            "f(self: m.T, a: List[Tuple[int, str]], b: m.C = <C.X: 0>) -> None",
            [("a", "List[Tuple[int, str]]", None), ("b", "m.C", "<C.X: 0>")],
        ),
    ],
)
def test_a_signature_is_read_off_the_first_line_of_a_docstring(text: str, expected: Any) -> None:
    found = parameters(text)
    assert (None if found is None else [(p.name, p.type, p.default) for p in found]) == expected


def test_an_unknown_manifest_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match=r"no manifest of tensorrt-9; there are .*tensorrt-10\.3\.0"):
        read_manifest("tensorrt-9")


def test_the_real_bindings_behave_in_these_ways() -> None:
    real = pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx: not installed")

    class Forgetful(real.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            pass

    flag = real.BuilderFlag.TF32
    assert (repr(flag), str(flag), flag == int(flag)) == (f"<BuilderFlag.TF32: {int(flag)}>", "BuilderFlag.TF32", False)
    assert flag == real.BuilderFlag(int(flag))
    with pytest.raises(TypeError):
        1 << flag
    with pytest.raises(TypeError, match=r"__init__\(\) must be called when overriding __init__"):
        Forgetful()
    with pytest.raises(TypeError, match="No constructor defined!"):
        real.ICudaEngine()
    builder = real.Builder(real.Logger(real.Logger.INTERNAL_ERROR))
    with pytest.raises(AttributeError, match="has no attribute 'colour'"):
        builder.colour = 3
    with pytest.raises(TypeError, match="incompatible function arguments"):
        builder.create_network(1.5)
    with pytest.raises(TypeError, match="incompatible constructor arguments"):
        real.Builder()
