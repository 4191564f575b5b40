"""``trigate judge`` without a configuration: by what the run itself was judged, which is said, or not at all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from harness.cli import main
from harness.limits import LIMITS_FILE, read_limits
from harness.records import run_from_text, to_json
from runtime.protocol import LABELS
from tests.harness.numeric_runs import MODEL
from tests.harness.released_runs import timed_alone

pytestmark = pytest.mark.covers("RE-01", "RE-04")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    timed_alone(tmp_path / "run")
    return tmp_path / "run"


def configured(run: Path, name: str) -> None:
    record = run_from_text((run / "run.json").read_text())
    settings = {**record.settings, "config": name}
    (run / "run.json").write_text(json.dumps(to_json(replace(record, settings=settings))))


def test_a_run_of_an_own_model_is_judged_by_its_own_limits_and_says_so(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = run_from_text((run / "run.json").read_text())
    assert main(["judge", str(run), "--quiet", "--out", str(tmp_path / "again")]) == before.exit_code
    assert f"by the run's own limits, {run / LIMITS_FILE}" in capsys.readouterr().err
    again = run_from_text((tmp_path / "again/run.json").read_text())
    assert [row.outcome for row in again.verdicts] == [row.outcome for row in before.verdicts]
    assert again.configuration_sha256 == before.configuration_sha256
    limits, kept = read_limits(run), read_limits(tmp_path / "again")
    assert limits is not None
    assert kept is not None
    assert kept.require == limits.require != ()


def test_a_run_without_limits_wants_the_configuration_that_it_names(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / LIMITS_FILE).unlink()
    configured(run, "mine.toml")
    out = str(tmp_path / "again")
    assert main(["judge", str(run), "--out", out]) == 2
    told = capsys.readouterr().err
    assert "was judged by the budgets of mine.toml, and has no limits.json" in told
    assert f"trigate judge {run} mine.toml --out {out}" in told
    record = run / "run.json"
    record.write_text(
        record.read_text().replace(f'"model": "{MODEL}"', '"model": "mine"').replace("mine.toml", "flight.toml")
    )
    assert main(["judge", str(run), "--out", out]) == 2
    told = capsys.readouterr().err
    assert "measured 'mine', a model of your own, and has no limits.json" in told
    assert f"trigate judge {run} CONFIG.toml --out {out}" in told
    assert not (tmp_path / "again").exists()


def test_what_a_configuration_requires_is_asked_of_a_run_that_was_not_asked_for_it(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = read_limits(run)
    assert own is not None
    had = {row.case.runtime for row in run_from_text((run / "run.json").read_text()).verdicts}
    other = next(label for label in LABELS if label not in had)
    model = f'[model.{MODEL}]\nonnx = "m.onnx"\nload.rate_hz = 39.0\nbudget.orin = {{{{ p95_ms = 20 }}}}\n'
    text = f"{{top}}\n[board.orin]\n{{board}}\n{model}"
    require = f'require = ["{other}"]'
    for name, top, board, code in (("none", "", "", 0), ("top", require, "", 3), ("board", "", require, 3)):
        config = tmp_path / f"{name}.toml"
        config.write_text(text.format(top=top, board=board))
        assert main(["judge", str(run), str(config), "--board", "orin", "--out", str(tmp_path / name)]) == code
        told = capsys.readouterr().out
        assert (f"Required {other}: it has no row." in told) is bool(code)
        kept = read_limits(tmp_path / name)
        assert kept is not None
        assert kept.require == (*own.require, *([other] if code else []))
