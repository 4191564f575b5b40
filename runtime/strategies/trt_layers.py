"""What each layer of a built engine really computes in, held against what was asked for (TT-02).

A builder may leave a layer in fp32 whatever its flags say, so precision is read back: from the engine inspector where
the plan can be loaded, from the builder's own list of layers where it cannot (a plan for another GPU), and from a
strongly typed network's tensors where there is neither.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runtime.data import EngineLayer

__all__ = [
    "INSPECTOR",
    "LAYERS_SCHEMA",
    "LOG",
    "NETWORK",
    "Layer",
    "counted",
    "described",
    "judge",
    "layers_from_inspector",
    "layers_from_log",
    "layers_path",
    "layers_to_json",
]

LAYERS_SCHEMA = 1
"""Of ``<engine>.layers.json``. 1: schema, source, precision (layers by type), layers, inspector."""

INSPECTOR, LOG, NETWORK = "inspector", "builder log", "network"
"""Where layers were read: the loaded engine, the lines of the builder, the network before it was built."""

_WORD = re.compile(
    r"\b(?:(?P<fp16>half|fp16|float16)|(?P<bf16>bf16|bfloat16)|(?P<int8>int8)|(?P<fp8>fp8)|(?P<int4>int4)|(?P<fp4>fp4)"
    r"|(?P<fp32>float|fp32|float32))\b",
    re.IGNORECASE,
)
"""The type in ``Half``, ``Row major linear FP16 format`` or ``DataType.HALF``; integers of indices and shapes are none."""

_LIST = r"\[(?P<{}>| \{{.*?\}} ?)\]"
_LINE = re.compile(
    r"^Name: (?P<name>.*?), LayerType: (?P<kind>[^,]+), Inputs: "
    + _LIST.format("inputs")
    + "(?:, Constants: "
    + _LIST.format("constants")
    + ")?, Outputs: "
    + _LIST.format("outputs")
    + "(?:,|$)",
    re.MULTILINE,
)
_TYPE_IN_LINE = re.compile(r"(?:Format/)?Datatype: ([^,}]+)")
_TACTIC_IN_LINE = re.compile(r"Tactic(?:Name|Value|): ([^,\s]+)")
_NARROW_FIRST = ("int4", "fp4", "int8", "fp8", "fp16", "bf16", "fp32")
_MOVING = frozenset({"reformat", "noop", "constant", "signal", "wait", "cast", "shape", "shapecall"})
_FUSED = frozenset({"kgen", "pointwise", "pointwisev2"})


@dataclass(frozen=True)
class Layer:
    """One layer as the library tells it. ``inputs``, ``outputs``, ``constants``: types as ``fp16``, without indices.

    ``tactic``: the name of the chosen kernel, or its number where it has no name.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: tuple[str, ...] = ()
    tactic: str = field(default="", kw_only=True)

    @property
    def precision(self) -> str:
        """The narrowest type that it reads; empty for a layer that moves or converts, or whose types are not told.

        A fused layer between two types is the seam that comes with every change of type, and says nothing of either.
        """
        converts = self.kind.lower() in _FUSED and bool(self.inputs and self.outputs)
        converts = converts and not set(self.inputs) & set(self.outputs)
        if self.kind.lower() in _MOVING or converts:
            return ""
        return next((kind for kind in _NARROW_FIRST if kind in (self.inputs or self.outputs)), "")


def layers_path(engine: Path) -> Path:
    """``<name>.layers.json`` beside the engine."""
    return engine.with_name(engine.name + ".layers.json")


def layers_from_inspector(text: str) -> tuple[Layer, ...]:
    """The layers of ``get_engine_information(JSON)``; none where the engine was built without detailed verbosity."""
    try:
        listed = json.loads(text)["Layers"]
    except (ValueError, KeyError, TypeError):
        return ()
    layers = []
    for layer in listed if isinstance(listed, list) else ():
        if not isinstance(layer, Mapping):
            continue
        weights = [part for part in (layer.get("Weights"), layer.get("Bias")) if isinstance(part, Mapping)]
        constants = [*_tensors(layer.get("Constants")), *(str(part.get("Type", "")) for part in weights)]
        layers.append(
            Layer(
                str(layer.get("Name", "")),
                str(layer.get("LayerType", "")),
                typed(_tensors(layer.get("Inputs"))),
                typed(_tensors(layer.get("Outputs"))),
                typed(constants),
                tactic=str(layer.get("TacticName") or layer.get("TacticValue") or ""),
            )
        )
    return tuple(layers)


def layers_from_log(lines: Iterable[str]) -> tuple[Layer, ...]:
    """The layers that the builder lists at the end of a build, when it is told to say everything."""
    found: list[Layer] = []
    for text in lines:
        if "LayerType: " not in text:
            continue
        for match in _LINE.finditer(text):
            told = (typed(_TYPE_IN_LINE.findall(match[part] or "")) for part in ("inputs", "outputs", "constants"))
            ends = text.find("\n", match.end())
            tactic = _TACTIC_IN_LINE.search(text, match.end(), ends if ends >= 0 else len(text))
            found.append(Layer(match["name"], match["kind"], *told, tactic=tactic[1] if tactic else ""))
    return tuple(found)


def typed(words: Iterable[str]) -> tuple[str, ...]:
    """``fp16`` and the like for each description of a tensor that has such a type."""
    matches = (_WORD.search(word) for word in words)
    return tuple(str(match.lastgroup) for match in matches if match is not None)


def counted(layers: Sequence[Layer]) -> dict[str, int]:
    """How many layers compute in which type, the most frequent first."""
    return dict(Counter(layer.precision for layer in layers if layer.precision).most_common())


def described(layers: Sequence[Layer], provider: str = "") -> tuple[EngineLayer, ...]:
    """The same in the words of the core. ``provider``: what computes them."""
    return tuple(EngineLayer(each.name, each.kind, each.precision, provider, each.tactic) for each in layers)


def judge(asked: str, counts: Mapping[str, int], *, has_ranges: bool) -> tuple[str, str]:
    """(why the engine is not what was asked for, what a person should know all the same); both may be empty.

    ``asked``: a precision of ``BuildConfig``. ``has_ranges``: a calibration dataset was given.
    """
    told = ", ".join(f"{kind} {count}" for kind, count in counts.items())
    if not counts:
        return "", f"asked for {asked}; no layer tells what it computes in"
    wanted = {"mixed": ("fp16", "int8") if has_ranges else ("fp16",)}.get(asked, (asked,))
    if not any(kind in counts for kind in wanted):
        return f"asked for {asked}, and every layer computes in {' or '.join(counts)} ({told})", ""
    missing = [kind for kind in wanted if kind not in counts]
    # beside int8 there is always something wider: what cannot be quantised
    extra = [kind for kind in counts if kind not in wanted] if asked in ("fp32", "fp16") else []
    return "", f"asked for {asked}; the layers compute in {told}" if missing or extra else ""


def layers_to_json(source: str, layers: Sequence[Layer], inspector: str = "") -> str:
    """The file beside an engine: one JSON object. ``inspector``: its own JSON, kept as it is."""
    told: dict[str, Any] = {
        "schema": LAYERS_SCHEMA,
        "source": source,
        "precision": counted(layers),
        "layers": [{**vars(layer), "precision": layer.precision} for layer in layers],
    }
    if inspector:
        told["inspector"] = json.loads(inspector)
    return json.dumps(told, indent=1) + "\n"


def _tensors(listed: Any) -> list[str]:
    if not isinstance(listed, list):
        return []
    return [str(item.get("Format/Datatype", item.get("Datatype", ""))) for item in listed if isinstance(item, Mapping)]
