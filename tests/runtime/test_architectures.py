from __future__ import annotations

import functools
from typing import Any

import pytest

from runtime.architectures import ArchitectureRegistry, default_registry, register_architecture
from runtime.data import TensorSpec
from runtime.errors import ConfigError

X = (TensorSpec("x", (1,), "float32"),)


def make() -> Any:
    raise AssertionError("registering must not build")


class Models:
    def make(self) -> Any:
        return None


@pytest.mark.covers("PT-02")
def test_the_same_factory_twice_is_fine() -> None:
    registry, models = ArchitectureRegistry(), Models()
    for factory in (make, models.make):
        for _ in range(2):
            registry.register(repr(factory), factory, inputs=list(X))
    assert registry.get(repr(make)).factory is make
    assert registry.get(repr(make)).inputs == X


@pytest.mark.covers("PT-02")
@pytest.mark.parametrize(
    ("factory", "inputs", "words"),
    [(functools.partial(make), X, "with another factory"), (make, (), "with other inputs or outputs")],
)
def test_another_one_under_the_same_name_is_refused_and_the_first_stays(factory: Any, inputs: Any, words: str) -> None:
    registry = ArchitectureRegistry()
    registry.register("disk", make, inputs=X)
    with pytest.raises(ConfigError, match=f"'disk' is already registered {words}"):
        registry.register("disk", factory, inputs=inputs)
    assert registry.get("disk").factory is make
    assert registry.get("disk").inputs == X


@pytest.mark.covers("PT-02")
@pytest.mark.parametrize(("name", "factory"), [("", make), (None, make), ("disk", None), ("disk", "make")])
def test_what_is_no_name_or_no_factory_is_refused(name: Any, factory: Any) -> None:
    with pytest.raises(ConfigError, match="expected"):
        ArchitectureRegistry().register(name, factory)


@pytest.mark.covers("PT-02")
def test_an_unknown_name_is_answered_with_the_known_ones_and_a_guess() -> None:
    registry = ArchitectureRegistry()
    with pytest.raises(ConfigError, match="known: none"):
        registry.get("disk")
    registry.register("lightglue", make)
    registry.register("disk", make)
    assert list(registry) == ["disk", "lightglue"]
    with pytest.raises(ConfigError, match=r"known: disk, lightglue. Did you mean 'lightglue'"):
        registry.get("lightgleu")


@pytest.mark.covers("PT-02")
def test_the_function_fills_the_default_registry_and_the_core_itself_knows_no_model() -> None:
    name = "test_architectures.only_here"
    register_architecture(name, make, inputs=X, outputs=X)
    assert default_registry.get(name).outputs == X
