"""``tensorrt`` on the simulated device: every flavour keeps the contract, and the device finds who does not work in order."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnxruntime", reason="onnxruntime: not installed")
pytest.importorskip("polygraphy", reason="polygraphy: not installed")

from harness import gates
from harness.plan import SIMULATED
from harness.records import Case, Outcome, Verdict
from runtime import RuntimeConfig
from runtime.cuda import CudaDriver
from runtime.strategies.trt import TensorrtRuntime
from runtime.strategies.trt_launch import in_process
from tiers.conformance import settle_conformance, subject
from tiers.contract import CLAUSES, run_contract
from tiers.simulated import HOSTS, simulated


def settled(version: str, folder: Path) -> Verdict:
    name = f"conformance-tensorrt-simulated-{version}"
    case = Case(name, 0, "conformance", "conformance", "tensorrt", "fp32", "fp32", "", simulated=version)
    return settle_conformance(case, lambda *_: pytest.fail("no real runtime"), RuntimeConfig(engine_cache_dir=folder))


def test_there_is_a_host_for_every_flavour_that_rows_ask_for() -> None:
    assert SIMULATED["conformance"]["tensorrt"] == tuple(HOSTS)


@pytest.mark.covers("T0-01", "T0-02", "T0-03", "RT-01", "RT-05", "RT-09", "RT-10", "TT-05", "TT-07")
@pytest.mark.filterwarnings("ignore:.*Timing cache operations are no-ops:DeprecationWarning")  # of Polygraphy's calls
@pytest.mark.parametrize("version", HOSTS)
def test_tensorrt_keeps_the_contract_on_every_flavour_and_says_that_it_was_simulated(
    version: str, tmp_path: Path
) -> None:
    before = {name for name in sys.modules if name.partition(".")[0] in ("cuda", "tensorrt", "tensorrt_rtx")}
    verdict = settled(version, tmp_path)
    assert [(check.name, check.reason) for check in verdict.checks if check.outcome is not Outcome.PASS] == []
    measurement = verdict.summary.measurement
    assert (measurement.placement, measurement.simulated) == (f"tensorrt[simulated {version}]", True)
    assert verdict.reason == f"{len(CLAUSES)} clauses hold on the simulated device"
    assert not gates.satisfies(verdict, "tensorrt")
    assert {name for name in sys.modules if name.partition(".")[0] in ("cuda", "tensorrt", "tensorrt_rtx")} == before


class Port:
    """The CUDA port, as it is; a subclass leaves something out."""

    def __init__(self) -> None:
        self.inner = CudaDriver()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class NeverWaits(Port):
    def synchronize(self, stream: int) -> None:
        pass

    def synchronize_event(self, event: int) -> None:
        pass


class FreesNothing(Port):
    def free(self, address: int) -> None:
        pass


class NeverMakesCurrent(Port):
    calls = 0

    def make_current(self) -> None:
        self.calls += 1
        if self.calls < 3:
            self.inner.make_current()


class CopiesTooMuch(Port):
    def copy_out(self, host: int, device: int, size_bytes: int, stream: int) -> None:
        self.inner.copy_out(host, device, size_bytes + 1, stream)


@pytest.mark.covers("T0-01", "T0-02")
@pytest.mark.parametrize(
    ("port", "says"),
    [
        (NeverWaits, "is off by"),
        (FreesNothing, "the simulated device still holds: device block"),
        (NeverMakesCurrent, "CUDA_ERROR_INVALID_CONTEXT|primary context, held"),
        (CopiesTooMuch, "cuMemcpyDtoHAsync failed: CUDA_ERROR_INVALID_VALUE"),
    ],
)
def test_a_runtime_that_leaves_out_a_step_breaks_the_contract_on_the_simulated_device(
    port: type[Port], says: str, tmp_path: Path
) -> None:
    (tmp_path / "engines").mkdir()
    config = RuntimeConfig(runtime="tensorrt", engine_cache_dir=tmp_path / "engines")
    held = simulated("10.3.0", subject(tmp_path, lambda: pytest.fail("no real runtime"), label="tensorrt"), config)
    with held.around():
        assert held.entry.sm == "87"  # built with every step
    held = replace(held, make=lambda: TensorrtRuntime(config, host=HOSTS["10.3.0"], launch=in_process, cuda=port()))
    results = run_contract(held, clauses=[clause for clause in CLAUSES if clause.id in ("C-06", "C-09", "C-25")])
    broken = [result.reason for result in results if result.outcome is Outcome.FAIL]
    assert broken
    assert all(re.search(says, reason) for reason in broken), broken
