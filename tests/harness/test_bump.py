"""A bump on the simulated Orin, TensorRT 10.3 to 10.16: what is planted changes the engine, the board or what is around it.

Nothing is ever planted in a record. Each class of cause is named rightly, and a bump with nothing planted is silent.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("onnx", reason="onnx: not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime: not installed")
pytest.importorskip("polygraphy", reason="polygraphy: not installed")

import fixtures
from harness import cli
from harness.compare import UnlikeError, compare
from harness.fakes.device import SimulatedDevice
from harness.fakes.install import installed
from harness.records.comparison import Cause, Comparison, Decision, RowChange, Standing
from harness.scenario import load_scenario
from tests.harness.simulated_tensorrt import OnTheSimulatedDevice
from tests.harness.tiny import write_onnx

pytestmark = [pytest.mark.long, pytest.mark.covers("RE-02")]

FOLDER = Path(str(fixtures.__file__)).parent / "scenarios"
FILES = sorted(FOLDER.glob("bump_*.toml"))
TIMES, MEMORY = "lightglue and latency", "memory"

Flown = Callable[..., list[Path]]


@pytest.fixture(scope="module")
def flown(tmp_path_factory: pytest.TempPathFactory) -> Flown:
    """(scenario, which rows, boots) -> run folders, each made once."""
    made: dict[tuple[str, str, int], Path] = {}

    def fly(name: str, rows: str, boots: range) -> list[Path]:
        for seed in boots:
            if (name, rows, seed) not in made:
                out = made[name, rows, seed] = tmp_path_factory.mktemp(Path(name).stem) / f"boot{seed}"
                words = ["--simulated", name, "--model", "lightglue", "--seed", str(seed), "--out", str(out), "--quiet"]
                cli.main(["run", *words, "--", "-k", rows])
        return [made[name, rows, seed] for seed in boots]

    return fly


def bumped(flown: Flown, name: str, rows: str = TIMES, base: str = "bump_base") -> Comparison:
    return compare(flown(base, rows, range(1, 4)), flown(name, rows, range(4, 6)))


def the_row(found: Comparison) -> RowChange:
    """The one that the comparison is about."""
    rows = [row for row in found.rows if row.changes]
    assert len(rows) == 1
    return rows[0]


def test_a_bump_with_nothing_planted_is_silent(flown: Flown) -> None:
    for rows in (TIMES, MEMORY):
        found = bumped(flown, "bump_nothing", rows)
        assert found.decision is Decision.ADOPT, found.words
        loud = (Standing.WORSE, Standing.BETTER, Standing.BROKE, Standing.OPEN, Standing.CHANGED)
        assert [(one.name, one.words) for one in the_row(found).changes if one.standing in loud] == []
        versions = {one.name: (one.base, one.new) for one in found.versions}
        assert versions["tensorrt_host"] == ("10.3.0", "10.16.1")
        assert versions["jetpack"] == ("JetPack 6.2", "JetPack 7.2")


@pytest.mark.parametrize(
    ("name", "rows", "cause", "figure", "words"),
    [
        ("bump_more_work", TIMES, Cause.WORK, "p95", r"million cycles, now .* at 1173 MHz"),
        ("bump_precision", TIMES, Cause.PRECISION, "p95", r"40 of 129 layers changed precision: .* fp16 → fp32"),
        ("bump_placement", TIMES, Cause.TOOL, "p95", r"64 of 129 layers changed place: lightglue \d+ gpu → dla"),
        ("bump_default", TIMES, Cause.TOOL, "p95", r"builder_optimization_level 3, now 2; .* million cycles"),
        ("bump_hotter", TIMES, Cause.CLOCK, "p95", r"clock 1173 MHz, now \d+ MHz, throttled 0 %, now \d+ %"),
        ("bump_memory", MEMORY, Cause.MEMORY, "GPU memory of lightglue", r"the same engines hold another amount"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.startswith("bump") else "",
)
def test_what_was_planted_holds_the_release_and_is_called_by_its_name(
    flown: Flown, name: str, rows: str, cause: Cause, figure: str, words: str
) -> None:
    found = bumped(flown, name, rows)
    row = the_row(found)
    assert found.decision is Decision.HOLD, found.words
    assert (row.standing, row.cause) == (Standing.WORSE, cause), row.words
    change = next(one for one in row.changes if one.name == figure)
    assert (change.standing, change.cause) == (Standing.WORSE, cause), change.words
    assert re.search(words, change.why), change.why


def test_another_process_on_the_new_side_is_measured_again_and_speaks_against_no_version(flown: Flown) -> None:
    found = bumped(flown, "bump_other_process")
    row = the_row(found)
    assert found.decision is Decision.MEASURE_MORE, found.words
    assert (row.standing, row.cause) == (Standing.OPEN, Cause.ENVIRONMENT)
    change = next(one for one in row.changes if one.name == "p95")
    assert "gnome-shell" in change.again


def test_boots_that_differ_by_more_than_what_matters_are_noise_and_decide_nothing(flown: Flown) -> None:
    found = bumped(flown, "bump_noisy", base="bump_noisy_base")
    row = the_row(found)
    assert found.decision is Decision.MEASURE_MORE, found.words
    assert (row.standing, row.cause) == (Standing.OPEN, Cause.NOISE), row.words


def test_another_module_is_refused_by_name(flown: Flown, tmp_path: Path) -> None:
    other = tmp_path / "other_module.toml"
    other.write_text('like = "bump_nothing"\n[board]\nmodule = "p3701-0005"\nname = "Jetson AGX Orin 64GB"\n')
    with pytest.raises(UnlikeError, match=r"module: .*p3701-0005"):
        compare(flown("bump_base", TIMES, range(1, 3)), flown(str(other), TIMES, range(1, 2)))


def test_another_cap_under_the_same_name_of_the_mode_is_refused_by_name(flown: Flown, tmp_path: Path) -> None:
    other = tmp_path / "other_cap.toml"
    other.write_text('like = "bump_nothing"\n[board]\nclocks_mhz = [306, 510, 714, 918]\n')
    with pytest.raises(UnlikeError, match=r"the GPU's highest clock: 1173 in the base, 918 in the new"):
        compare(flown("bump_base", TIMES, range(1, 3)), flown(str(other), TIMES, range(1, 2)))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_bump_holds_physics_alone_and_changes_one_thing(path: Path) -> None:
    scenario = load_scenario(path)
    assert scenario.board.tensorrt == ("10.3.0" if path.stem.endswith("base") else "10.16.1")
    text = path.read_text(encoding="utf-8")
    assert re.search(r"^# Twin: bump_\w+", text, re.MULTILINE)
    assert not re.search(r"PASS|FAIL|ADOPT|HOLD|verdict", text)


def numerics(folder: Path, model: Path, version: str, kernel_error: float) -> Path:
    """A parity run of TensorRT on a simulated device whose kernels are so exact."""
    OnTheSimulatedDevice.version = version
    device = SimulatedDevice(sm="87", driver_version=12060 if version == "10.3.0" else 13000, kernel_error=kernel_error)
    out = folder / f"{version}-{kernel_error:g}"
    runtime = "tests.harness.simulated_tensorrt:OnTheSimulatedDevice"
    words = [
        "--model",
        str(model),
        "--runtime",
        runtime,
        "--tier",
        "1",
        "--out",
        str(out),
        "--cache",
        str(folder / "cache"),
    ]
    with installed(device, tensorrt=version):
        cli.main(["run", *words, "--quiet"])
    return out


@pytest.mark.filterwarnings("ignore:.*Timing cache operations are no-ops:DeprecationWarning")  # of Polygraphy's calls
def test_kernels_of_the_new_version_that_are_less_exact_are_numerics_and_equal_ones_are_silent(tmp_path: Path) -> None:
    model = tmp_path / "tiny.onnx"
    write_onnx(model)
    old = numerics(tmp_path, model, "10.3.0", 0.0)
    same = compare([old], [numerics(tmp_path, model, "10.16.1.11", 0.0)])
    assert [row.id for row in same.rows if row.cause is Cause.NUMERICS] == []
    off = compare([old], [numerics(tmp_path, model, "10.16.1.11", 0.05)])
    row = next(row for row in off.rows if row.kind == "parity")
    assert off.decision is Decision.HOLD, off.words
    assert row.cause is Cause.NUMERICS, row.words
