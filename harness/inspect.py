"""``trigate inspect``: what a file says of itself, and whether it would pass the engine check here, with each reason."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.pack import load_pack
from harness.records import RecordError, run_from_text
from runtime import EngineCacheEntry, EngineGate, EngineHashMismatchError, RuntimeCoreError, model_sha256
from runtime.files import sha256_hex
from runtime.model_file import check_external_data, read_model_facts
from runtime.names import parse_engine_name
from runtime.plan import read_plan_header
from runtime.platform import HostTuple, detect_host
from runtime.sidecar import read_manifest, read_sidecar

__all__ = ["Findings", "inspect"]


@dataclass(frozen=True)
class Findings:
    """``says``: the file's own words. ``refusals``: why it would not pass here; empty if it would."""

    kind: str
    path: Path
    says: Mapping[str, Any]
    refusals: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def passes(self) -> bool:
        return not self.refusals

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "path": str(self.path),
            "says": dict(self.says),
            "passes": self.passes,
            "refusals": list(self.refusals),
            "notes": list(self.notes),
        }

    def to_text(self) -> str:
        lines = [f"{self.path}: {self.kind}"]
        lines += [f"  {key:<18} {value}" for key, value in self.says.items()]
        lines += [f"  note: {note}" for note in self.notes]
        lines += [f"  REFUSED: {reason}" for reason in self.refusals] or ["  would pass here"]
        return "\n".join(lines)


def inspect(path: Path, host: HostTuple | None = None) -> Findings:
    """Look at a model, engine, sidecar, manifest, checkpoint, pack or run folder. Raises ``UsageError`` for no such file."""
    if not path.exists():
        raise UsageError(f"{path} does not exist. Give a model, engine, sidecar, checkpoint, pack or run folder.")
    if path.is_dir():
        return _folder(path)
    readers: Mapping[str, Callable[[Path, HostTuple], Findings]] = {
        ".engine": _engine,
        ".plan": _engine,
        ".onnx": _onnx,
        ".pt": _checkpoint,
        ".pth": _checkpoint,
        ".sha256": _beside_engine,
        ".json": _beside_engine,
    }
    reader = readers.get(path.suffix)
    if reader is None:
        raise UsageError(
            f"{path} is none of the files that trigate knows ({', '.join(readers)}, a pack, a run folder)."
        )
    return reader(path, host or detect_host())


def _engine(path: Path, host: HostTuple) -> Findings:
    """Every field on its own first, since one refusal must not hide the others; then the engine check as it will be."""
    data = path.read_bytes()
    says: dict[str, Any] = {"size": f"{len(data)} bytes"}
    refusals: list[str] = []
    try:
        name = parse_engine_name(path.name)
        says["name"] = f"{name.model}, sm{name.sm}, jp{name.jetpack}, trt{name.trt}, {name.precision}"
    except RuntimeCoreError as error:
        refusals.append(str(error))
    try:
        header = read_plan_header(data)
        says["plan header"] = f"{header.kind} {'.'.join(map(str, header.version))}, {header.length} bytes"
    except RuntimeCoreError as error:
        refusals.append(str(error))
    sha256, is_changed = "", False
    try:
        sha256 = read_sidecar(path)
        says["sidecar sha256"] = sha256
        is_changed = sha256_hex(data) != sha256
        manifest = json.loads(read_manifest(path).to_json())
        says.update({f"manifest {key}": value for key, value in manifest.items() if value not in (None, "", [], {})})
    except RuntimeCoreError as error:
        refusals.append(str(error))
    if not refusals:
        try:
            entry = EngineCacheEntry(path, sha256, name.sm, name.jetpack, name.trt, name.precision)
            EngineGate(host).validate(entry)
        except RuntimeCoreError as error:
            refusals.append(str(error))
            is_changed = is_changed and not isinstance(error, EngineHashMismatchError)  # said once is enough
    if is_changed:
        refusals.append(f"its bytes are not those that its sidecar was written for: sha256 {sha256_hex(data)}.")
    return Findings("engine", path, says, tuple(dict.fromkeys(refusals)))


def _onnx(path: Path, host: HostTuple) -> Findings:
    del host
    try:
        external = check_external_data(path)
        facts = read_model_facts(path)
        sha256 = model_sha256(path)
    except RuntimeCoreError as error:
        return Findings("ONNX model", path, {"size": f"{path.stat().st_size} bytes"}, (str(error),))
    says = {
        "sha256": sha256,
        "IR": facts.ir_version,
        "opsets": ", ".join(f"{domain or 'ai.onnx'} {version}" for domain, version in facts.opsets.items()),
        "producer": facts.producer,
        "external data": ", ".join(file.name for file in external) or "none",
        **{f"input {spec.name}": f"{spec.dtype} {list(spec.shape)}" for spec in facts.inputs},
        **{f"output {spec.name}": f"{spec.dtype} {list(spec.shape)}" for spec in facts.outputs},
        "operators": ", ".join(sorted({name for _, name in facts.op_types})),
    }
    return Findings("ONNX model", path, says)


def _checkpoint(path: Path, host: HostTuple) -> Findings:
    del host
    try:
        import torch
    except ImportError:
        return Findings("checkpoint", path, {"size": f"{path.stat().st_size} bytes"}, notes=("torch is not installed",))
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = f"does not load with weights_only=True: {str(error).splitlines()[0]}"
        return Findings("checkpoint", path, {"size": f"{path.stat().st_size} bytes"}, (reason,))
    if not isinstance(state, dict):
        return Findings("checkpoint", path, {}, (f"holds a {type(state).__name__}; expected a state dict.",))
    tensors = {key: value for key, value in state.items() if isinstance(value, torch.Tensor)}
    says: dict[str, Any] = {
        "tensors": len(tensors),
        "parameters": sum(value.numel() for value in tensors.values()),
        "dtypes": ", ".join(sorted({str(value.dtype) for value in tensors.values()})),
    }
    strange = sorted(set(state) - set(tensors))
    return Findings("checkpoint", path, says, notes=(f"other entries: {strange}",) if strange else ())


def _beside_engine(path: Path, host: HostTuple) -> Findings:
    engine = path.with_suffix("")
    if engine.suffix in (".engine", ".plan") and engine.exists():
        return _engine(engine, host)
    raise UsageError(f"{path} stands beside no engine; inspect the engine itself.")


def _folder(path: Path) -> Findings:
    if (path / "pack.json").exists():
        try:
            pack = load_pack(path)
        except UsageError as error:
            return Findings("pack", path, {}, (str(error),))
        says: dict[str, Any] = {"sha256": pack.sha256, "size": pack.size, "seed": pack.seed}
        for name, model in pack.models.items():
            says[name] = f"reference: {model.reference}; inputs: {len(model.feed_sha256)}, {model.inputs_origin}"
        return Findings("pack", path, says)
    if (path / "run.json").exists():
        try:
            run = run_from_text((path / "run.json").read_text(encoding="utf-8"))
        except (OSError, RecordError) as error:
            return Findings("run", path, {}, (str(error),))
        says = {
            "started": run.started_at,
            "complete": run.complete,
            "exit code": run.exit_code,
            "verdict": run.last_line,
        }
        return Findings("run", path, says, () if run.complete else ("the run is not complete: go on with --resume.",))
    raise UsageError(f"{path} is neither a pack nor a run folder: it has no pack.json and no run.json.")
