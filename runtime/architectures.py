"""Which factory makes which torch model (PT-02). Imports no torch, and knows no model: a plug-in registers its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from runtime.data import TensorSpec
from runtime.errors import ConfigError

__all__ = ["Architecture", "ArchitectureFactory", "ArchitectureRegistry", "default_registry", "register_architecture"]

ArchitectureFactory = Callable[[], Any]
"""Makes a fresh ``torch.nn.Module`` with no arguments and any weights; typed without torch, which is not imported here.

``forward`` takes the declared inputs by position, in their order, and returns a tensor, a tuple or list of tensors in
the order of the declared outputs, or a dict by output name.
"""


@dataclass(frozen=True)
class Architecture:
    """A registered model. Without ``inputs`` the names are those of ``forward``'s parameters; shapes stay unchecked."""

    name: str
    factory: ArchitectureFactory
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()


class ArchitectureRegistry:
    """Model names to architectures. Iterates over the names, sorted."""

    def __init__(self) -> None:
        self._known: dict[str, Architecture] = {}

    def register(
        self,
        name: str,
        factory: ArchitectureFactory,
        *,
        inputs: Iterable[TensorSpec] = (),
        outputs: Iterable[TensorSpec] = (),
    ) -> None:
        """Add a model; the same one twice is fine, another one under the same name is a ``ConfigError``."""
        if not name or not isinstance(name, str):
            raise ConfigError(f"an architecture's name is {name!r}; expected a text that is not empty.")
        if not callable(factory):
            raise ConfigError(f"the factory of architecture {name!r} is {factory!r}; expected something callable.")
        new = Architecture(name, factory, tuple(inputs), tuple(outputs))
        # setdefault, not a test and then a store: plug-ins may register from several threads
        known = self._known.setdefault(name, new)
        if known != new:
            what = "another factory" if known.factory != factory else "other inputs or outputs"
            raise ConfigError(
                f"architecture {name!r} is already registered with {what}: {known.factory!r}, now {factory!r}.",
                remedy="Choose another name.",
            )

    def get(self, name: str) -> Architecture:
        """The architecture ``name``. Raises ``ConfigError`` that names those that are known."""
        try:
            return self._known[name]
        except KeyError:
            import difflib  # 3 ms that only a misspelt name pays

            near = difflib.get_close_matches(name, self._known, n=1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise ConfigError(
                f"no architecture {name!r} is registered; known: {', '.join(self) or 'none'}.",
                remedy=f"{hint}Register it with register_architecture({name!r}, factory).",
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._known))


default_registry = ArchitectureRegistry()
"""The registry of this process; ``register_architecture`` fills it."""


def register_architecture(
    name: str,
    factory: ArchitectureFactory,
    *,
    inputs: Iterable[TensorSpec] = (),
    outputs: Iterable[TensorSpec] = (),
) -> None:
    """``ArchitectureRegistry.register`` on ``default_registry``."""
    default_registry.register(name, factory, inputs=inputs, outputs=outputs)
