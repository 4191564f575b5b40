"""``trigate init``: a commented configuration to start from, filled from a model where one is named."""

from __future__ import annotations

import json
from pathlib import Path

from harness.config import name_of_file, parse_configuration
from harness.errors import UsageError
from runtime.data import TensorSpec
from runtime.errors import RuntimeCoreError
from runtime.files import write_atomic
from runtime.model_file import read_model_facts

__all__ = ["write_configuration"]

_BOARD = """\
# trigate run {file}            measures and judges
# trigate run {file} --dry-run  shows the rows first

# A board that budgets belong to. It is recognised by its module; --board NAME overrides.
# On any other host latency is MEASURED, never PASS or FAIL.
[board.orin-nx]
module = "p3767-0000"
power_mode = "MAXN_SUPER"        # expected, never set by trigate
require = ["tensorrt"]           # rows of these runtimes must pass on this board
memory = {{ gpu = "4 GiB", host = "1.5 GiB" }}
"""

_MODEL = """\

[model.{name}]
{source}
# torch = {{ checkpoint = "{name}.pt", architecture = "{name}" }}  # with both, fp32 ONNX against fp32 torch comes first
{inputs}
precision = ["fp16"]             # what flies; fp32 is always checked beside it, for meaning
{dims}tolerance = {{ default = "derived" }}  # or: scores = {{ rel_l2 = 2e-3, why = "ADR 7" }}, debug = "ignore"
# task = {{ metric = "my_cases:recall", direction = "higher", may_lose = 0.005 }}
# load = {{ rate_hz = 39, deadline_ms = 25, late = "drop" }}
budget.orin-nx = {{ p95_ms = 60, load_s = 5 }}
"""


def write_configuration(target: Path, model: Path | None) -> Path:
    """Write ``target``, which must not exist. Raises ``UsageError`` for a file that is there, or a model that is none."""
    if target.exists():
        raise UsageError(f"{target} exists. Give another --out.")
    text = _BOARD.format(file=_comment(target.name)) + (_of(model, target) if model is not None else _example())
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{target}, {model}: a file's name is not UTF-8 ({error.reason}). Rename it.") from error
    parse_configuration(data, target)  # what we hand out must be what we read
    try:
        write_atomic(target, data)
    except OSError as error:
        raise UsageError(f"{target} cannot be written: {error.strerror}. Give another --out.") from error
    return target


def _example() -> str:
    return _MODEL.format(
        name="matcher",
        source='onnx = "matcher.onnx"            # relative to this file',
        inputs='inputs = "frames/*.npz"          # a sample per file, an array per input; or "module:function"; or leave it out',
        dims="",
    )


def _of(model: Path, target: Path) -> str:
    try:
        facts = read_model_facts(model)
    except FileNotFoundError:
        raise UsageError(f"{model} does not exist. Give the path of an .onnx file.") from None
    except RuntimeCoreError as error:
        raise UsageError(f"{model}: {error}") from error
    name = name_of_file(model)
    near = model.resolve()
    folder = target.resolve().parent
    path = near.relative_to(folder) if near.is_relative_to(folder) else near
    inputs = [f"# input {_words(spec)}" for spec in facts.inputs] + [
        f"# output {_words(spec)}" for spec in facts.outputs
    ]
    inputs.append('# inputs = "frames/*.npz"        # left out: made up from the signature, and said so')
    free = sorted({size for spec in facts.inputs for size in spec.shape if isinstance(size, str)})
    sizes = ", ".join(f"{_key(size)} = 1" for size in free)
    dims = f"dims = {{ {sizes} }}  # how large each free dimension is: a size, or [min, opt, max]\n" if free else ""
    return _MODEL.format(
        name=_key(name), source=f"onnx = {_text(path.as_posix())}", inputs="\n".join(inputs), dims=dims
    )


def _words(spec: TensorSpec) -> str:
    return _comment(f"{spec.name}: {spec.dtype} {list(spec.shape)}")


def _key(name: str) -> str:
    """A TOML key: bare where it may be."""
    return name if name.replace("_", "").replace("-", "").isalnum() and name.isascii() else _text(name)


def _text(value: str) -> str:
    """A TOML string: as JSON has it, but for DEL, and with no surrogate pairs."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _comment(text: str) -> str:
    """On one line, with no control characters, which a TOML comment may not have."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
