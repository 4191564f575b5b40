"""The clause page: every clause, what it means when it is broken, and who keeps it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from harness.records import Case, Check, Measurement, Outcome, Run, Summary, Verdict
from reports import html, markdown, ranking, tables, words
from reports.run_folder import read_run

pytestmark = pytest.mark.covers("T0-01", "RE-01")

KEPT = Check("C-01 It is a runtime", Outcome.PASS, "holds", "Nobody can hand it on.")
STAYS = Check("C-02 A result stays", Outcome.PASS, "holds", "Last frame's result holds this frame's.")
ORDER = Check("C-03 Any order of calls", Outcome.PASS, "holds", "It does not hold for a flight.")


def row(runtime: str, *checks: Check, simulated: str = "", required: bool = False) -> Verdict:
    name = f"conformance-{runtime}{simulated and f'-simulated-{simulated}'}"
    case = Case(name, 0, "conformance", "conformance", runtime, "fp32", "fp32", "", simulated=simulated)
    case = replace(case, required=required)
    if not checks:
        return Verdict(Summary(Measurement(case)), Outcome.NOT_RUN, f"{runtime}: not installed")
    broken = [check for check in checks if check.outcome is Outcome.FAIL]
    where = f"simulated {simulated}" if simulated else "cpu"
    measurement = Measurement(case, placement=f"{runtime}[{where}]", provider="cpu", simulated=bool(simulated))
    reason = f"{broken[0].name}: {broken[0].reason}" if broken else f"{len(checks)} clauses hold"
    return Verdict(Summary(measurement), Outcome.FAIL if broken else Outcome.PASS, reason, checks)


@pytest.fixture
def run(builder: ModuleType, tmp_path: Path) -> Run:
    """Three models' rows after rows about five runtimes, one of which breaks a clause."""
    whole: Run = builder.full_run(tmp_path / "run")
    changed = replace(STAYS, outcome=Outcome.FAIL, reason="<b>scores</b> were changed")
    left = replace(ORDER, outcome=Outcome.NOT_RUN, reason="hypothesis: not installed")
    about = (
        row("tensorrt"),
        row("tensorrt", KEPT, STAYS, ORDER, simulated="10.3.0"),
        row("onnx_trt_ep", KEPT, STAYS, left),
        row("my.module:Mine", KEPT, changed, ORDER, required=True),
    )
    verdicts = (*about, *whole.verdicts)
    changed_run = replace(whole, verdicts=verdicts, planned=tuple(verdict.case for verdict in verdicts))
    return read_run(builder.write_run(tmp_path / "run", changed_run))


def text_of(source: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", source).split())


def test_the_page_lists_every_clause_with_what_it_means_and_each_runtimes_outcome(run: Run, tmp_path: Path) -> None:
    page = html.render(tmp_path / "run", run, tables.make(run))
    part = page.partition('<h2 id="about-conformance">')[2].partition("</section>")[0]
    assert '<a href="#about-conformance">The contract</a>' in page
    headings = re.findall(r'<th role="columnheader" scope="col"[^>]*>(.*?)</th>', part.rpartition("<table")[2])
    assert headings == ["Clause", "When it is broken", "tensorrt simulated 10.3.0", "ort", "Mine"]
    for check in (KEPT, STAYS, ORDER):
        assert check.name in part
        assert check.means.replace("'", "&#39;") in part
    lines = re.findall(r'<tr role="row"><th role="rowheader".*?</tr>', part.rpartition("<table")[2], re.DOTALL)
    outcomes = [re.findall(r'<span class="sr">(.*?)</span>', line) for line in lines]
    assert outcomes == [["PASS"] * 3, ["PASS", "PASS", "FAIL"], ["PASS", "NOT RUN", "PASS"]]
    assert "&lt;b&gt;scores&lt;/b&gt; were changed" in part
    assert "hypothesis: not installed" in text_of(part)


def test_rows_about_runtimes_are_no_model_and_have_their_anchors(run: Run, tmp_path: Path) -> None:
    page = html.render(tmp_path / "run", run, tables.make(run))
    assert "<bdi>conformance</bdi></h2>" not in page
    assert page.count('id="row-1"') == 1
    assert "SIMULATED" in page.partition('id="row-1"')[2][:400]


def test_a_run_without_such_rows_has_no_such_section(full: Path) -> None:
    assert "about-conformance" not in (full / "report.html").read_text(encoding="utf-8")
    assert "The contract" not in (full / "report.md").read_text(encoding="utf-8")


def test_a_comment_tells_who_breaks_what_and_folds_the_rest(run: Run) -> None:
    text = markdown.render(run)
    assert "<summary>The contract: FAIL 1, PASS 2</summary>" in text
    assert "### The contract: broken\n" in text
    assert "| Mine | C-02 A result stays | &lt;b&gt;scores&lt;/b&gt; were changed | Last frame's result" in text
    folded = text.partition("<details><summary>The contract: every clause</summary>")[2].partition("</details>")[0]
    assert "| C-01 It is a runtime | Nobody can hand it on. | ✓ | ✓ | ✓ |" in folded
    assert "| Clause | When it is broken | Mine | tensorrt simulated 10.3.0 | ort |" in folded
    assert "| C-02 A result stays | Last frame's result holds this frame's. | ✗ | ✓ | ✓ |" in folded
    assert "✓ PASS, SIMULATED | tensorrt · simulated 10.3.0 |" in text


def test_what_passes_on_the_simulated_device_because_it_was_asked_to_is_what_matters_least() -> None:
    simulated, real = row("tensorrt", KEPT, simulated="10.3.0"), row("onnx_trt_ep", KEPT)
    assert [matter.row for matter in ranking.matters([simulated, real])] == [real, simulated]
    broken = row("tensorrt", replace(KEPT, outcome=Outcome.FAIL), simulated="10.3.0")
    assert ranking.matters([real, broken])[0].row is broken


def test_the_table_of_checks_has_what_each_means(run: Run) -> None:
    checks = tables.make(run)["checks"]
    told = checks[checks["case"] == "conformance-my.module:Mine"]
    assert list(told["means"]) == [KEPT.means, STAYS.means, ORDER.means]


def test_a_runtime_has_a_short_name_and_a_lane() -> None:
    assert words.subject(row("my.module:Mine").case) == "Mine"
    assert words.subject(row("pytorch_fp16").case) == "torch"
    assert words.lane(row("tensorrt", KEPT, simulated="10.3.0").case) == "tensorrt · simulated 10.3.0"
