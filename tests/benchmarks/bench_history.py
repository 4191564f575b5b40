"""What a question costs over 10,000 runs of 50 rows: the index, against reading their records, and against DuckDB where it is.

Made once per session, in about a minute. Of records 100 are read: all would take a hundred times as long.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.history import History
from harness.history.index import Index
from harness.records import run_from_text, to_json
from harness.records.history import Query
from tests.harness.compared_runs import a_run
from tests.harness.history_runs import ROW, entries

COUNT = 10_000
READ = 100
FAILED = Query(model="model3", outcome="FAIL", facts={"tensorrt": "10.3*"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A history of ``COUNT`` runs."""
    made = tmp_path_factory.mktemp("history")
    index = Index(made, writable=True)
    with index.writing():
        for number, entry in enumerate(entries(COUNT)):
            index.insert(entry, float(number))
    index.close()
    return made


@pytest.fixture
def history(folder: Path) -> Iterator[History]:
    with History(folder) as opened:
        yield opened


@pytest.mark.benchmark(group="history")
def test_history_list(benchmark: Any, history: History) -> None:
    found = benchmark.pedantic(lambda: history.runs(FAILED), rounds=5, warmup_rounds=1)
    assert found.total > 0


@pytest.mark.benchmark(group="history")
def test_history_series(benchmark: Any, history: History) -> None:
    told, _ = benchmark.pedantic(lambda: history.series(Query(row=ROW), ["p50_ns"]), rounds=5, warmup_rounds=1)
    (step,) = told.series[0].steps
    assert abs(step.at - COUNT // 2) <= 2


@pytest.mark.benchmark(group="history")
def test_history_read_100_records(benchmark: Any, tmp_path: Path) -> None:
    """Without an index: a run.json each, of four rows where the index has fifty."""
    for number in range(READ):
        run = a_run(f"{number}", boot=f"{number}").run
        (tmp_path / f"{number}.json").write_text(json.dumps(to_json(run)), encoding="utf-8")

    def read() -> int:
        return sum(
            any(one.outcome.value == "FAIL" for one in run_from_text(path.read_text("utf-8")).verdicts)
            for path in tmp_path.iterdir()
        )

    benchmark.pedantic(read, rounds=3, warmup_rounds=1)


@pytest.mark.benchmark(group="history")
def test_history_series_duckdb(benchmark: Any, folder: Path) -> None:
    """The same figures of a row, from DuckDB's own file, where it is installed."""
    duckdb = pytest.importorskip("duckdb", reason="DuckDB is not installed: it was weighed, and is no dependency")
    path = folder / "history.duckdb"
    index = Index(folder, writable=False)
    rows = index.ask(
        "SELECT s.row, n.name, r.began, f.value FROM figures f JOIN series s ON s.no = f.series JOIN names n ON n.no = f.name "
        "JOIN runs r ON r.seq = f.run"
    )
    index.close()
    import pyarrow

    table = pyarrow.table(dict(zip(("row", "name", "began", "value"), map(list, zip(*rows, strict=True)), strict=True)))
    with duckdb.connect(str(path)) as db:
        db.register("given", table)
        db.execute("CREATE TABLE figures AS SELECT * FROM given")

    def ask() -> int:
        with duckdb.connect(str(path), read_only=True) as db:
            words = "SELECT value FROM figures WHERE row = ? AND name = 'p50_ns' ORDER BY began"
            return len(db.execute(words, [ROW]).fetchall())

    assert benchmark.pedantic(ask, rounds=5, warmup_rounds=1) == COUNT
