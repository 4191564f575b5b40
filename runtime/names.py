"""What an engine's file name says (TR-01): ``<model>__sm<SM>_jp<JP>_trt<TRT>_<precision>.engine``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from runtime.data import PRECISIONS
from runtime.errors import EngineSchemaMismatchError

__all__ = ["SUFFIX", "EngineName", "parse_engine_name", "same_version"]

SUFFIX = ".engine"

_FORM = "<model>__sm<SM>_jp<JP>_trt<TRT>_<precision>.engine"
_MAX_LENGTH = 200  # a file system allows 255 bytes, and temporary names and sidecars add to it
_NUMBER = r"(?:0|[1-9][0-9]{0,4})"
_PARTS = {
    "model": (r"[A-Za-z0-9][A-Za-z0-9._-]*", "letters, digits, '.', '_' and '-', beginning with a letter or digit"),
    "sm": (r"[1-9][0-9]{1,2}", "a compute capability like 87"),
    "jetpack": (rf"none|unknown|{_NUMBER}(?:\.{_NUMBER}){{1,2}}", "a version like 6.2, none or unknown"),
    "trt": (rf"(?:rtx)?{_NUMBER}(?:\.{_NUMBER}){{1,3}}", "a version like 10.3 or rtx1.7"),
    "precision": ("|".join(PRECISIONS), f"one of {', '.join(PRECISIONS)}"),
}


@dataclass(frozen=True)
class EngineName:
    """A valid engine file name in parts. ``sm``: ``"87"``. ``jetpack``: ``"6.2"``, ``"none"`` on a host that is no
    Jetson, ``"unknown"`` on a Jetson whose L4T we do not know. ``trt``: ``"10.3"``, or ``"rtx1.7"`` for TensorRT-RTX.

    Raises ``EngineSchemaMismatchError`` that names the wrong part.
    """

    model: str
    sm: str
    jetpack: str
    trt: str
    precision: str

    def __post_init__(self) -> None:
        for part, (pattern, expected) in _PARTS.items():
            value = getattr(self, part)
            if not re.fullmatch(pattern, value):
                raise _refusal(f"{part} is {value!r}; expected {expected}.")
        if len(self.format()) > _MAX_LENGTH:
            raise _refusal(f"model is too long: the name has {len(self.format())} characters of {_MAX_LENGTH}.")

    def format(self) -> str:
        """The file name; the inverse of ``parse_engine_name``."""
        return f"{self.model}__sm{self.sm}_jp{self.jetpack}_trt{self.trt}_{self.precision}{SUFFIX}"

    @property
    def is_rtx(self) -> bool:
        """True for an engine of TensorRT-RTX."""
        return self.trt.startswith("rtx")

    @property
    def target(self) -> str:
        """``sm87 jp6.2 trt10.3 fp16``, for messages."""
        return f"sm{self.sm} jp{self.jetpack} trt{self.trt} {self.precision}"


def parse_engine_name(name: str) -> EngineName:
    """The parts of a file name. Raises ``EngineSchemaMismatchError`` that names the part that is wrong."""
    shown = repr(name if len(name) <= _MAX_LENGTH else name[:_MAX_LENGTH] + "…")
    if not name.endswith(SUFFIX):
        raise _refusal(f"{shown} does not end in {SUFFIX}.")
    # no part after the model holds an underscore, so the last "__" ends the model, whatever the model is called
    model, separator, target = name[: -len(SUFFIX)].rpartition("__")
    parts = target.split("_")
    if not separator or len(parts) != 4:
        raise _refusal(f"{shown} is not of the form {_FORM}.")
    values = []
    for part, prefix in zip(parts, ("sm", "jp", "trt", ""), strict=True):
        if not part.startswith(prefix):
            raise _refusal(f"{shown} has {part!r} where {prefix}<{prefix.upper()}> was expected.")
        values.append(part[len(prefix) :])
    try:
        return EngineName(model, *values)
    except EngineSchemaMismatchError as error:
        raise _refusal(f"{shown}: {error.message}") from None


def same_version(left: str, right: str) -> bool:
    """Whether two TensorRT versions agree in every part that both give: 10.3 and 10.3.0.30 do, 10.3 and rtx10.3 not."""
    return all(a == b for a, b in zip(left.split("."), right.split("."), strict=False))


def _refusal(message: str) -> EngineSchemaMismatchError:
    return EngineSchemaMismatchError(
        f"engine name: {message}", remedy="Build the engine with `trigate compile`, and do not rename it."
    )
