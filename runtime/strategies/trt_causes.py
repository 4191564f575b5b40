"""TensorRT's own words, and the cause in plain language where it is known: one table, read from the top.

TensorRT reports a failure as ``None`` or ``False`` and some lines of text. The texts are those of public reports and of
TensorRT-RTX itself; where a line matches none, it is passed on as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

__all__ = ["Kind", "cause_of", "explain", "kind_of"]

Kind = Literal["", "memory", "lost"]
"""What a failure is beyond its words: nothing special, no memory left, or the device lost to this process."""

_MAX_QUOTED = 3
_MAX_LENGTH = 400


@dataclass(frozen=True)
class _Cause:
    """``words`` may name groups of the pattern (``{0}``), ``{host}`` and ``{built_with}``."""

    pattern: re.Pattern[str]
    words: str | Callable[[re.Match[str]], str]
    kind: Kind = ""


def _no_kernels(match: re.Match[str]) -> str:
    told = f"no kernels for SM {_dotted(match[1])} in this release"
    if match[1] == "87":
        told += ": TensorRT 10.13 does not run on Orin (JetPack 6 has 10.3, JetPack 7.2 has 10.16)"
    return told


def _dotted(sm: str) -> str:
    return f"{sm[:-1]}.{sm[-1]}"


def _row(pattern: str, words: str | Callable[[re.Match[str]], str], kind: Kind = "") -> _Cause:
    return _Cause(re.compile(pattern, re.IGNORECASE), words, kind)


_CAUSES = (
    _row(
        r"libnvdla_compiler\.so(?:\.\d+)*",
        "the system lacks {match}, which JetPack 6 has in the package nvidia-l4t-dla-compiler; a container made for "
        "JetPack 6 does not find it on a JetPack 7 host. CUDA itself may work all the same",
    ),
    _row(r"expecting compute ([\d.]+) got compute ([\d.]+)", "built for SM {1}, this GPU is SM {0}"),
    _row(r"expecting library version ([\d.]*\d) got ([\d.]*\d)", "built with TensorRT {1}, this host has {0}"),
    _row(
        r"version tag does not match|stdVersionRead|VERSION_MISMATCH",
        "built with TensorRT {built_with}, this host has {host}",
    ),
    _row(r"Target GPU SM (\d+) is not supported by this TensorRT release", _no_kernels),
    _row(
        r"magic ?tag",
        "the bytes are no plan of this library: another product's, a damaged file, or a plan behind something else",
    ),
    _row(
        r"header\.size == blobSize|truncated|MALFORMED_ENGINE|empty memory buffer|minBufferSize",
        "the plan is damaged, or shorter than it says",
    ),
    _row(r"UNSUPPORTED_CC", "built for another compute capability than this GPU's"),
    _row(r"cannot find plugin: ([^,)]+)|could not find plugin (\S+)", "it needs a plugin that is not loaded: {0}"),
    _row(
        r"engine ?host ?code|lean runtime",
        "it is a version-compatible engine, which carries code for the host; such code is not run here",
    ),
    _row(
        r"Tactic Device request: (\d+) ?MB Available: (\d+) ?MB",
        "too little free memory during the build: a kernel asked for {0} MB, and {1} MB were free",
        "memory",
    ),
    _row(
        r"out ?of ?memory|cudaErrorMemoryAllocation|cudaError 2\b|FAILED_ALLOCATION|Requested amount of GPU memory|"
        r"NvMapMemAlloc|INSUFFICIENT_GPU_MEMORY",
        "no memory was left",
        "memory",
    ),
    _row(
        r"could not find any implementation for node ([^\n]+?)(?: due to .*|\.?\)?\s*$)",
        "no kernel was found for {0}; too little free memory during the build is one of the reasons for that",
    ),
    _row(
        r"cudaError (?:214|700|702|709|71[04-9])\b|illegal memory access|unspecified launch failure|illegal instruction|"
        r"misaligned address|device-side assert|uncorrectable (?:ECC|NVLINK)|launch timed out",
        "the device is lost to this process",
        "lost",
    ),
    _row(
        r"cudaError 35\b|driver version is insufficient|OLD_CUDA_DRIVER",
        "there is no CUDA driver here, or it is too old for this library",
    ),
    _row(r"cudaError 100\b|no CUDA-capable device", "no CUDA device is visible here"),
    _row(r"cudaError 209\b|no kernel image", "this library has no kernels for this GPU"),
    _row(r"cudaError 80[34]\b|driver mismatch", "the CUDA driver and the CUDA libraries are of different versions"),
)


def kind_of(lines: Iterable[tuple[str, str]], codes: Iterable[str] = ()) -> Kind:
    """What the words and the error codes together say that went wrong."""
    kinds = {cause.kind for _, text in lines for cause in _CAUSES if cause.pattern.search(text)}
    if "lost" in kinds:
        return "lost"
    return "memory" if "memory" in kinds or "FAILED_ALLOCATION" in codes else ""


def explain(
    lines: Iterable[tuple[str, str]],
    codes: Iterable[str] = (),
    *,
    doing: str,
    host: str = "",
    built_with: str = "",
    hints: Iterable[str] = (),
) -> str:
    """One sentence on what failed: the cause where it is known, then TensorRT's own words.

    ``lines``: (severity, text), the oldest first. ``codes``: names of ``ErrorCodeTRT``. ``doing``: what was tried, as
    in ``deserialising x.engine``. ``host``, ``built_with``: TensorRT's version here and in the plan, for the cause.
    ``hints``: more text to look for a cause in, which is not quoted.
    """
    told = list(lines)
    quoted = "; ".join(_shortened(text) for text in _latest(told))
    words = f"TensorRT says: {quoted}" if quoted else "TensorRT says nothing"
    if codes := sorted(set(codes)):
        words += f" ({', '.join(codes)})"
    cause = cause_of([*(text for _, text in told), *hints], host=host, built_with=built_with)
    return f"{doing} failed: {cause}. {words}." if cause else f"{doing} failed. {words}."


def cause_of(texts: Iterable[str], *, host: str = "", built_with: str = "") -> str:
    """The cause in plain language, without a full stop, or nothing where no line is known."""
    texts, host, built_with = list(texts), host or "another one", built_with or "another version"
    for cause in _CAUSES:
        for text in texts:
            if match := cause.pattern.search(text):
                if callable(cause.words):
                    return cause.words(match)
                groups = [group for group in match.groups() if group]
                return cause.words.format(*groups, match=match[0], host=host, built_with=built_with)
    return ""


def _latest(lines: list[tuple[str, str]]) -> list[str]:
    """The last few texts, errors before warnings, none twice."""
    errors = [text for severity, text in lines if "ERROR" in severity]
    return list(dict.fromkeys(errors or [text for _, text in lines]))[-_MAX_QUOTED:]


def _shortened(text: str) -> str:
    text = " ".join(text.split()).rstrip(".")
    return text if len(text) <= _MAX_LENGTH else text[:_MAX_LENGTH] + "…"
