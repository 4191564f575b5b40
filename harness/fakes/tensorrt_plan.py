"""Plans of the fake TensorRT: the real header, behind it what the fake needs to run.

Bytes 0 to 27 are as in a real plan (``runtime.plan``); TensorRT-RTX repeats its tag at 28, and has the compute
capabilities at 32. A hash over all of the file stands at 64, then a length and as many bytes of JSON, then the ONNX model
as the builder left it: cast, quantised, weights and all.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = [
    "HEADER_BYTES",
    "RTX_CAPABILITIES",
    "Flavour",
    "Plan",
    "PlanRefusedError",
    "flavour_of",
    "read_any_plan",
    "read_plan",
    "write_plan",
]

HEADER_BYTES = 64
RTX_CAPABILITIES = {"75": 1, "80": 2, "86": 4, "89": 8, "120": 16, "121": 32}
"""Bits of the mask at 32, by compute capability; these are all that TensorRT-RTX 1.7 builds for."""

_HASH_AT, _LENGTH_AT, _BODY_AT = 64, 96, 100
_RTX, _TENSORRT = b"vtrt", b"ftrt"
_SERIALIZATION: dict[tuple[int, ...], int] = {(10, 3): 239, (10, 13): 240, (10, 16): 242, (11, 4): 244}
"""As in public logs of these releases or of near ones; what matters is that they differ."""
_JETSON = frozenset({"72", "87"})


@dataclass(frozen=True)
class Flavour:
    """One release. ``version``: the four numbers in its plans. ``manifest``: the name of its API's manifest.

    ``no_kernels_for``: compute capabilities that this release does not build for.
    """

    version: tuple[int, int, int, int]
    manifest: str
    is_rtx: bool = False
    no_kernels_for: frozenset[str] = frozenset()

    @property
    def text(self) -> str:
        return ".".join(map(str, self.version))

    @property
    def serialization(self) -> int:
        return _SERIALIZATION.get(self.version[:2], 0)


def flavour_of(name: str) -> Flavour:
    """``10.3.0``, ``10.13.3.9``, ``10.16.1.11``, ``11.4.0.106`` or ``rtx1.7.1.116``; ``ValueError`` for any other."""
    try:
        return _FLAVOURS[name]
    except KeyError:
        raise ValueError(f"no fake TensorRT {name!r}; there are {', '.join(_FLAVOURS)}") from None


_FLAVOURS = {
    "10.3.0": Flavour((10, 3, 0, 30), "tensorrt-10.3.0", no_kernels_for=frozenset({"100", "110", "120", "121"})),
    "10.13.3.9": Flavour((10, 13, 3, 9), "tensorrt-10.13.3.9", no_kernels_for=frozenset({"72", "87"})),
    "10.16.1.11": Flavour((10, 16, 1, 11), "tensorrt-10.16.1.11", no_kernels_for=frozenset({"72"})),
    "11.4.0.106": Flavour((11, 4, 0, 106), "tensorrt-11.4.0.106", no_kernels_for=frozenset({"72"})),
    "rtx1.7.1.116": Flavour((1, 7, 1, 116), "tensorrt_rtx-1.7.1.116", is_rtx=True),
}


@dataclass(frozen=True)
class Plan:
    """What is in a plan. ``profiles``: for each, the least, the best and the greatest shape of each input;
    ``shape_values``: likewise the values of inputs that are shapes.

    ``scratch_bytes``: of a context, for each profile. ``layers``: as the inspector tells them in detail.
    """

    name: str
    sms: tuple[str, ...]
    model: bytes = field(repr=False)
    profiles: tuple[Mapping[str, tuple[tuple[int, ...], ...]], ...]
    scratch_bytes: tuple[int, ...]
    weights_bytes: int
    layers: tuple[Mapping[str, Any], ...] = field(repr=False)
    verbosity: str = "LAYER_NAMES_ONLY"
    hardware_level: str = "NONE"
    is_version_compatible: bool = False
    has_lean_runtime: bool = False
    is_refittable: bool = False
    is_stripped: bool = False
    shape_values: tuple[Mapping[str, tuple[tuple[int, ...], ...]], ...] = ()


class PlanRefusedError(Exception):
    """TensorRT's answer to a plan that it does not take. ``code``: a name of ``ErrorCodeTRT``."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


def write_plan(plan: Plan, flavour: Flavour) -> bytes:
    """The file."""
    told = json.dumps({key: value for key, value in asdict(plan).items() if key != "model"}).encode()
    length = _BODY_AT + len(told) + len(plan.model)
    head = bytearray(_BODY_AT)
    tag = _RTX if flavour.is_rtx else _TENSORRT
    struct.pack_into("<4sIQQ4B", head, 0, tag, 0, 2 if flavour.is_rtx else 0, length, *flavour.version)
    if flavour.is_rtx:
        struct.pack_into("<4sI", head, 28, tag, sum(RTX_CAPABILITIES[sm] for sm in plan.sms))
    struct.pack_into("<I", head, _LENGTH_AT, len(told))
    whole = head + told + plan.model
    whole[_HASH_AT:_LENGTH_AT] = _hash(whole)
    return bytes(whole)


def read_plan(data: memoryview, flavour: Flavour, sm: str, *, allows_host_code: bool = False) -> Plan:
    """The plan, for a GPU of ``sm``. Raises ``PlanRefusedError`` in the order in which TensorRT looks at a plan."""
    _check_header(data, flavour)
    version = tuple(data[24:28])
    if bytes(data[_HASH_AT:_LENGTH_AT]) != _hash(data):
        # a damaged body: the archive inside does not begin where it should
        raise _serialization("magicTagRead == kMAGIC_TAG failed.Magic tag does not match")
    length = struct.unpack_from("<I", data, _LENGTH_AT)[0]
    told = json.loads(bytes(data[_BODY_AT : _BODY_AT + length]))
    for key in ("profiles", "shape_values"):
        told[key] = tuple({name: tuple(map(tuple, of)) for name, of in profile.items()} for profile in told[key])
    for key in ("sms", "scratch_bytes", "layers"):
        told[key] = tuple(told[key])
    plan = Plan(model=bytes(data[_BODY_AT + length :]), **told)
    _check_version(plan, version, flavour, allows_host_code=allows_host_code)
    if not _runs_on(plan, sm):
        raise _refused_for_gpu(sm, plan.sms[0])
    return plan


def read_any_plan(data: memoryview, sm: str) -> Plan:
    """The plan of whichever release its header names. Raises ``PlanRefusedError``."""
    version = tuple(data[24:28])
    flavour = next((one for one in _FLAVOURS.values() if one.version == version), _FLAVOURS["10.3.0"])
    return read_plan(data, flavour, sm)


def _check_header(data: memoryview, flavour: Flavour) -> None:
    if not data.nbytes:
        raise PlanRefusedError(
            "INVALID_ARGUMENT",
            "IRuntime::deserializeCudaEngine: Error Code 3: API Usage Error (Cannot deserialize with an empty memory buffer. )",
        )
    if data.nbytes < HEADER_BYTES:
        raise PlanRefusedError(
            "INTERNAL_ERROR",
            "[runtime.cpp::readHeader::765] Error Code 2: Internal Error (Assertion bufferSize >= minBufferSize failed. )",
        )
    expected, found = _RTX if flavour.is_rtx else _TENSORRT, bytes(data[:4])
    if found != expected:
        if flavour.version < (10, 16) and not flavour.is_rtx:
            raise _serialization("magicTagRead == kMAGIC_TAG failed.Magic tag does not match")
        numbers = (int.from_bytes(tag, "little") for tag in (found, expected))
        raise _serialization(
            "header.magicTag == kEXPECTED_MAGIC_TAG failed.Trying to load an engine created with incompatible "
            f"serialization version ({' != '.join(map(str, numbers))}). Check that the engine was not created using safety "
            "runtime, same OS was used and version compatibility parameters were set accordingly and that it is a TRT "
            "engine file."
        )
    if struct.unpack_from("<Q", data, 16)[0] != data.nbytes or data.nbytes < _BODY_AT:
        raise _serialization("plan.header.size == blobSize failed.")


def _check_version(plan: Plan, version: tuple[int, ...], flavour: Flavour, *, allows_host_code: bool) -> None:
    if version == flavour.version:
        return
    is_later = version < flavour.version and version[0] in (flavour.version[0], flavour.version[0] - 1)
    if plan.is_version_compatible and is_later and not flavour.is_rtx:
        if plan.has_lean_runtime and not allows_host_code:
            raise PlanRefusedError(
                "INVALID_ARGUMENT",
                "IRuntime::deserializeCudaEngine: Error Code 3: API Usage Error (Parameter check failed, condition: "
                "mEngineHostCodeAllowed. The plan contains host executable code.)",
            )
        return
    number = _SERIALIZATION.get(version[:2], 0)
    if number != flavour.serialization:
        raise _serialization(
            "stdVersionRead == kSERIALIZATION_VERSION failed.Version tag does not match. Note: Current Version: "
            f"{flavour.serialization}, Serialized Engine Version: {number}"
        )
    raise PlanRefusedError(
        "FAILED_INITIALIZATION",
        "IRuntime::deserializeCudaEngine: Error Code 6: API Usage Error (The engine plan file is not compatible with this "
        f"version of TensorRT, expecting library version {flavour.text} got {'.'.join(map(str, version))}, please rebuild.)",
    )


def _runs_on(plan: Plan, sm: str) -> bool:
    if sm in plan.sms:
        return True
    is_from_ampere_on = int(sm) >= 80 and sm not in _JETSON and all(int(built) >= 80 for built in plan.sms)
    return plan.hardware_level == "AMPERE_PLUS" and is_from_ampere_on


def _refused_for_gpu(sm: str, built_for: str) -> PlanRefusedError:
    here, there = (f"{text[:-1]}.{text[-1]}" for text in (sm, built_for))
    return PlanRefusedError(
        "FAILED_INITIALIZATION",
        "IRuntime::deserializeCudaEngine: Error Code 6: API Usage Error (The engine plan file is generated on an "
        f"incompatible device, expecting compute {here} got compute {there}, please rebuild.)",
    )


def _serialization(text: str) -> PlanRefusedError:
    return PlanRefusedError(
        "UNSPECIFIED_ERROR",
        f"IRuntime::deserializeCudaEngine: Error Code 1: Serialization (Serialization assertion {text})",
    )


def _hash(data: memoryview | bytearray) -> bytes:
    digest = hashlib.sha256(data[:_HASH_AT])
    digest.update(data[_LENGTH_AT:])
    return digest.digest()
