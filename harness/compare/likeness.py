"""What two runs must share to be compared: unlike is refused, with the difference named (RE-02). Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from harness.compare.load import Entry, Loaded
from harness.errors import UsageError
from harness.records import Outcome

__all__ = ["CAPS", "LOOSE", "VERSIONS", "Sides", "UnlikeError", "differences"]

VERSIONS = (
    "jetpack", "l4t", "tensorrt_host", "tensorrt", "tensorrt-rtx", "onnxruntime-gpu", "onnxruntime", "torch", "cuda-bindings",
    "python", "os", "numpy", "onnx", "polygraphy", "trigate",
)  # fmt: skip
"""Facts of an environment that a bump changes: the runs of one side share them."""

LOOSE = ("os", "trigate", "numpy", "onnx", "polygraphy", "python")
"""Of these, those that tell no version of the system under test."""

CAPS = {
    "gpu_mhz": "the GPU's highest clock",
    "emc_mhz": "the memory's highest clock",
    "online_cpus": "online processors",
}
_NEAR = 0.02

_OF_NO_FILE = ("build", "conformance", "faults")

Sides = Sequence[Mapping[str, Sequence[Entry]]]


class UnlikeError(UsageError):
    """The runs are not of the same thing. ``differences``: each in words."""

    def __init__(self, differences: Sequence[str]) -> None:
        self.differences = tuple(differences)
        told = "; ".join(differences[:8]) + (f"; and {len(differences) - 8} more" if len(differences) > 8 else "")
        super().__init__(
            f"the runs are not alike, so nothing is compared: {told}. Measure the new side as the base was measured: the same "
            "pack, profile, board and power caps."
        )


def differences(base: Sequence[Loaded], new: Sequence[Loaded], sides: Sides, shared: Sequence[str]) -> list[str]:
    """In what the runs are not alike, each in words. ``sides``: rows by case id; ``shared``: the ids that both have."""
    found = [
        *_other_schema(base, new),
        *(profiles := _apart(base, new, "profile", lambda one: one.run.settings.get("profile", ""))),
        *_apart(base, new, "pack", lambda one: one.run.pack_sha256[:16] or "none"),
        *_apart(base, new, "size", lambda one: one.run.settings.get("size", "")),
        *_other_machine((*base, *new)),
    ]
    for side, name in ((base, "base"), (new, "new")):
        for fact in VERSIONS:
            values = {one.name: one.run.environment.get(fact, "none") for one in side}
            if len(set(values.values())) > 1 and fact not in LOOSE:
                told = ", ".join(f"{value} in {run}" for run, value in values.items())
                found.append(f"the {name}'s runs are of several versions: {fact} {told}")
    found += _other_batch(sides)
    by_words: dict[str, list[str]] = {}
    for case_id in shared:
        for words in _unlike_rows(sides[0][case_id], sides[1][case_id]):
            if not (profiles and words.startswith("profile: ")):  # said of the runs already
                by_words.setdefault(words, []).append(case_id)
    for words, rows in by_words.items():
        found.append(f"{words} ({rows[0]}{f' and {len(rows) - 1} more rows' if len(rows) > 1 else ''})")
    return found


def _apart(base: Sequence[Loaded], new: Sequence[Loaded], what: str, get: Callable[[Loaded], str]) -> list[str]:
    told = {one.name: get(one) for one in (*base, *new) if get(one)}
    if len(set(told.values())) < 2:
        return []
    return [f"{what}: " + ", ".join(f"{value} in {name}" for name, value in told.items())]


def _other_schema(base: Sequence[Loaded], new: Sequence[Loaded]) -> list[str]:
    apart = _apart(base, new, "schema", lambda one: str(one.run.schema))
    oldest = min((*base, *new), key=lambda one: one.run.schema)
    newest = (
        max(one.run.trigate_version for one in (*base, *new) if one.run.schema != oldest.run.schema) if apart else ""
    )
    return [
        f"{words} (measure {oldest.name} again with trigate {newest}, which wrote the other side)" for words in apart
    ]


def _other_machine(everyone: Sequence[Loaded]) -> list[str]:
    """By the module, else the GPU, else the CPU: the first that all runs know. A run in which nothing ran knows no module."""
    for name, get in (("module", _module), ("gpu", partial(_fact, name="gpu")), ("cpu", partial(_fact, name="cpu"))):
        known = [get(one) for one in everyone]
        if all(known) or (name == "module" and len(set(filter(None, known))) > 1):
            return _apart(everyone, (), name if name == "module" else f"module ({name})", get)
    return []


def _fact(loaded: Loaded, name: str) -> str:
    value = loaded.run.environment.get(name, "none")
    return "" if value == "none" else value


def _module(loaded: Loaded) -> str:
    seen = (verdict.summary.measurement.board_start.module for verdict in loaded.run.verdicts)
    return _fact(loaded, "module") or next((module for module in seen if module), "")


def _other_batch(sides: Sides) -> list[str]:
    """Rows that would be the same one but for the batch: their ids differ, so they would look like two that are missing."""
    batches: list[dict[tuple[str, ...], dict[str, None]]] = [{}, {}]
    for side, found in zip(sides, batches, strict=True):
        for case in (entries[0].case for entries in side.values()):
            key = case.model, case.kind, case.runtime, case.precision, case.against
            found.setdefault(key, {})[str(case.batch)] = None
    told = (
        f"batch of {key[0]}: {' and '.join(old)} in the base, {' and '.join(batches[1][key])} in the new"
        for key, old in batches[0].items()
        if key in batches[1] and not old.keys() & batches[1][key].keys()
    )
    return list(dict.fromkeys(told))


def _unlike_rows(base: Sequence[Entry], new: Sequence[Entry]) -> Iterable[str]:
    """What a row must share on both sides to be one row; what only one side tells is no difference."""
    seen = [[one for one in side if one.verdict and one.verdict.outcome is not Outcome.NOT_RUN] for side in (base, new)]
    if not seen[0] or not seen[1]:
        return
    everyone = [*seen[0], *seen[1]]
    yield from _descent(seen)
    for what, get in _FACTS:
        facts = [dict.fromkeys(fact for one in side if (fact := get(one))) for side in seen]
        if facts[0] and facts[1] and len({**facts[0], **facts[1]}) > 1:
            yield f"{what}: {' and '.join(facts[0])} in the base, {' and '.join(facts[1])} in the new"
    boards = {one.measurement.simulated for one in everyone if one.measurement.simulated or one.measurement.placement}
    if len(boards) > 1:  # a row that broke before it ran anywhere tells no board
        yield "a simulated board on one side, a real one on the other"
    for cap, name in CAPS.items():
        caps = [{known for one in side if (known := one.measurement.board_start.caps.get(cap))} for side in seen]
        if caps[0] and caps[1] and max(caps[0] | caps[1]) - min(caps[0] | caps[1]) > _NEAR * max(caps[0] | caps[1]):
            told = [" and ".join(f"{value:g}" for value in sorted(side)) for side in caps]
            yield f"{name}: {told[0]} in the base, {told[1]} in the new"


def _file(one: Entry) -> str:
    """The digest of the file that ran, which is no engine: each version builds these anew."""
    is_file = one.case.runtime in ("onnx_trt_ep", "pytorch_fp16") and one.case.kind not in _OF_NO_FILE
    return one.measurement.model_sha256[:16] if is_file else ""


def _descent(seen: Sequence[Sequence[Entry]]) -> Iterable[str]:
    """Models, references and golden outputs, by digest; of a row about all models of each that both sides tell: one that broke
    on one side is no other one.
    """
    for name, what in (("model", "model"), ("reference", "reference"), ("golden", "golden outputs")):
        told = [_lineage(side, name) for side in seen]
        for about in [about for about in told[0] if about in told[1] and len(told[0][about] | told[1][about]) > 1]:
            old, now = (" and ".join(f"{about} {digest}".strip() for digest in sorted(side[about])) for side in told)
            yield f"{what}: {old} in the base, {now} in the new"


def _lineage(side: Sequence[Entry], name: str) -> dict[str, set[str]]:
    """What rows descend from, by model (empty: of the row's own)."""
    found: dict[str, set[str]] = {}
    for key, digest in ((key, digest) for one in side for key, digest in one.measurement.lineage.items()):
        if key.partition("[")[0] == name:
            found.setdefault(key.partition("[")[2].removesuffix("]"), set()).add(digest[:16])
    return found


_FACTS: Sequence[tuple[str, Callable[[Entry], str]]] = (
    ("model", _file),
    ("inputs", lambda one: " ".join(digest[:8] for digest in one.measurement.input_sha256)),
    ("timing boundary", lambda one: one.measurement.timing_boundary),
    ("profile", lambda one: one.measurement.profile),
    ("batch", lambda one: str(one.case.batch)),
    ("size", lambda one: one.case.size),
    ("point", lambda one: ", ".join(f"{name} {value}" for name, value in sorted(one.case.point.items()))),
    ("rate", lambda one: f"{one.measurement.rate_hz:g} Hz" if one.measurement.rate_hz else ""),
)
