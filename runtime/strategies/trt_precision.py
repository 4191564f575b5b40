"""How a precision is expressed to a TensorRT library, by what the library can do (TT-02).

Where types are the network's own (a strongly typed network: TensorRT from 10.12 on, 11, TensorRT-RTX), the model itself
is cast to fp16 or given Q/DQ nodes. Where they are not (10.3), the builder is given flags, and a calibrator for int8.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from runtime.calibration import CalibrationDataset, format_ranges, parse_ranges
from runtime.errors import EngineBuildError, RuntimeNotAvailableError
from runtime.protocol import Array

__all__ = ["Expression", "Prepared", "choose", "prepare", "typings_of"]


@dataclass(frozen=True)
class Expression:
    """``name``: ``flags`` or ``strongly-typed``, with ``+calibrator`` or ``+qdq`` where int8 ranges come in.

    ``flags``: names of builder flags. ``casts``: the model is cast to fp16. ``quantizes``: it gets Q/DQ nodes.
    """

    is_strongly_typed: bool
    flags: tuple[str, ...] = ()
    casts: bool = False
    quantizes: bool = False
    calibrates: bool = False

    @property
    def name(self) -> str:
        base = "strongly-typed" if self.is_strongly_typed else "flags"
        return base + ("+calibrator" if self.calibrates else "+qdq" if self.quantizes else "")


def typings_of(trt: str) -> tuple[str, ...]:
    """By which ways (``BuildConfig.typing``) a version can be told a precision, its own first; none for ``none``.

    ``trt``: as hosts name it, ``10.3.0`` or ``rtx1.7``. By the version alone, for who may not import the library; what is
    built follows from what the library has (``trt_library.read_capabilities``).
    """
    if trt.startswith("rtx"):
        return ("strongly-typed",)
    parts = trt.split(".")
    if not all(part.isdecimal() for part in parts[:2]) or not parts[0]:
        return ()
    version = tuple(map(int, parts[:2]))
    if version < (10, 12):
        return ("flags",)
    return ("strongly-typed", "flags") if version < (11,) else ("strongly-typed",)


def choose(
    precision: str, *, strong_typing: bool, precision_flags: bool, calibrators: bool, has_ranges: bool, typing: str = ""
) -> Expression:
    """The way for one engine. ``has_ranges``: a calibration dataset is given. ``typing``: as in ``BuildConfig``.

    Raises ``EngineBuildError`` where the library has no way at all, or has lost the one that is asked for.
    """
    if (typing == "flags" and not precision_flags) or (typing == "strongly-typed" and not strong_typing):
        raise EngineBuildError(
            f"this TensorRT does not build by the route {typing!r}.", remedy="Leave the route to the library."
        )
    strong_typing = strong_typing and typing != "flags"
    half, whole = precision in ("fp16", "mixed"), precision in ("int8", "mixed") and has_ranges
    if strong_typing:
        return Expression(is_strongly_typed=True, casts=half, quantizes=whole)
    if not precision_flags and (half or whole):
        raise EngineBuildError(
            f"this TensorRT has neither precision flags nor strongly typed networks; {precision} cannot be expressed."
        )
    flags = ("FP16",) * half + ("INT8",) * whole
    return Expression(
        is_strongly_typed=False, flags=flags, calibrates=whole and calibrators, quantizes=whole and not calibrators
    )


@dataclass(frozen=True)
class Prepared:
    """What the parser gets. ``cache``: ranges that were measured for it, ``None`` where none were."""

    model: Path
    cache: bytes | None = None
    remarks: tuple[str, ...] = ()


def prepare(
    source: Path,
    expression: Expression,
    target: Path,
    *,
    dataset: CalibrationDataset | None = None,
    cache: bytes | None = None,
    on_sample: Callable[[int], None] = lambda done: None,
) -> Prepared:
    """The model as ``expression`` needs it: ``source`` itself, or a new one at ``target``.

    ``dataset``: of int8 ranges; ``cache``: ranges measured before, which are then not measured again. ``on_sample``
    is told how many samples are done. Raises ``EngineBuildError`` for a model that has no such form,
    ``CalibrationCacheError`` for inputs that cannot be used, and ``RuntimeNotAvailableError`` where onnx or onnxruntime
    is missing.
    """
    if not expression.casts and not expression.quantizes:
        return Prepared(source)
    try:
        samples = _counted(dataset, on_sample) if dataset is not None else iter(())
        return _prepare(source, expression, target, samples, cache)
    except ImportError as error:
        raise RuntimeNotAvailableError(
            f"{'quantising' if expression.quantizes else 'casting'} {source.name} needs onnx"
            f"{' and onnxruntime' * expression.quantizes}, which cannot be imported: {error}.",
            remedy="Install them (pip install onnx), or build on a workstation; fp32 needs neither.",
        ) from error


def _prepare(
    source: Path, expression: Expression, target: Path, samples: Iterator[dict[str, Array]], cache: bytes | None
) -> Prepared:
    from runtime.strategies import onnx_fp16, onnx_int8

    made, wide, remarks = None, set[str](), []
    doing = "cast to fp16"
    try:
        if expression.quantizes:
            doing = "quantised to int8"
            model = onnx_int8.plain_model(source)
            if cache is None:
                made = format_ranges(onnx_int8.measure_ranges(model, samples))
            # through the file's form also where they are new, so that a build from the cache gives the same engine
            model = onnx_int8.quantize(model, parse_ranges(made or cache or b""))
        else:
            model = onnx_fp16.load_model(source)
        if expression.casts:
            doing = "cast to fp16"
            if expression.quantizes:
                model, wide = onnx_int8.half_scales(model)
            model = onnx_fp16.cast_model(model, keep_fp32=wide)
        onnx_fp16.save_model(model, target)
    except onnx_fp16.onnx_errors() as error:
        said = (str(error).strip() or repr(error)).splitlines()[0]
        raise EngineBuildError(f"{source.name} cannot be {doing}: {said}.") from error
    if wide:
        remarks.append(f"{len(wide)} Q/DQ nodes stay in fp32: their scales are too small for fp16")
    return Prepared(target, made, tuple(remarks))


def _counted(dataset: CalibrationDataset, on_sample: Callable[[int], None]) -> Iterator[dict[str, Array]]:
    for done, sample in enumerate(dataset.samples(), 1):
        yield sample
        on_sample(done)
