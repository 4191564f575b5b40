from __future__ import annotations

import ast
import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.errors import ConfigError
from runtime.logs import SCHEMA_VERSION, EventLog, Kind, Level, Record

SOURCES = sorted((Path(__file__).parents[2] / "runtime").rglob("*.py"))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


class Closed(io.StringIO):
    def write(self, _text: str) -> int:
        raise OSError("no space left on device")


@pytest.mark.covers("LO-02")
@settings(deadline=None)
@given(
    st.builds(
        Record,
        kind=st.sampled_from(Kind),
        level=st.sampled_from(Level),
        time_ns=st.integers(0, 2**62),
        fields=st.dictionaries(st.text(max_size=10), values, max_size=4),
    )
)
def test_a_record_round_trips_with_its_schema(record: Record) -> None:
    assert Record.from_json(record.to_json()) == record
    assert json.loads(record.to_json())["schema"] == SCHEMA_VERSION


@pytest.mark.covers("LO-02")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": 2}, "schema 2; this core reads 1"),
        ({"kind": "c7.party"}, "c7.party"),
        ({"fields": None}, "not a flight"),
    ],
)
def test_a_record_of_another_form_is_refused(change: dict[str, object], words: str) -> None:
    good = json.loads(Record(Kind.READY, Level.INFO, 1).to_json())
    with pytest.raises(ConfigError, match=words):
        Record.from_json(json.dumps({**good, **change}))
    with pytest.raises(ConfigError):
        Record.from_json("{}")


@pytest.mark.covers("LO-01")
def test_an_event_is_one_json_line_with_kind_level_time_and_fields() -> None:
    stream = io.StringIO()
    log = EventLog(stream=stream, wall_clock_ns=lambda: 42)
    log.info(Kind.ENGINE_LOADED, backbone="disk", took_ms=1.5)
    log.debug(Kind.FRAME, frame=1)
    assert [json.loads(line) for line in stream.getvalue().splitlines()] == [
        {"kind": "c7.engine_loaded", "level": "INFO", "time_ns": 42, "backbone": "disk", "took_ms": 1.5},
        {"kind": "c7.frame", "level": "DEBUG", "time_ns": 42, "frame": 1},
    ]


@pytest.mark.covers("LO-01")
def test_events_go_to_standard_error_and_never_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    EventLog().info(Kind.READY)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert json.loads(captured.err)["kind"] == "c7.ready"


@pytest.mark.covers("LO-02")
def test_the_recorder_gets_errors_warnings_and_thermal_transitions_and_the_operator_gets_alerts() -> None:
    records: list[Record] = []
    alerts: list[Record] = []
    log = EventLog(stream=io.StringIO(), on_record=records.append, on_alert=alerts.append)
    log.debug(Kind.FRAME)
    log.info(Kind.READY)
    log.info(Kind.TELEMETRY_BACK)
    log.warn(Kind.THROTTLE_ENTERED)
    log.error(Kind.BUILD_FAILED)
    log.alert(Level.WARN, Kind.CPU_FALLBACK)
    assert [record.kind for record in records] == [
        Kind.TELEMETRY_BACK,
        Kind.THROTTLE_ENTERED,
        Kind.BUILD_FAILED,
        Kind.CPU_FALLBACK,
    ]
    assert [record.kind for record in alerts] == [Kind.CPU_FALLBACK]


@pytest.mark.covers("LO-02")
def test_a_callback_that_raises_is_said_once_and_stops_nobody() -> None:
    def broken(record: Record) -> None:
        raise RuntimeError("recorder on fire")

    stream = io.StringIO()
    log = EventLog(stream=stream, on_record=broken)
    log.error(Kind.BUILD_FAILED)
    log.error(Kind.BUILD_FAILED)
    kinds = [json.loads(line)["kind"] for line in stream.getvalue().splitlines()]
    assert kinds == ["c7.build_failed", "c7.callback_failed", "c7.build_failed"]


@pytest.mark.covers("LO-01")
def test_a_log_that_cannot_be_written_stops_nobody() -> None:
    records: list[Record] = []
    EventLog(stream=Closed(), on_record=records.append).error(Kind.BUILD_FAILED)
    assert [record.kind for record in records] == [Kind.BUILD_FAILED]


@pytest.mark.covers("LO-01")
@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_every_event_of_the_core_has_a_kind_of_the_enumeration_and_nothing_prints(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        called, where = node.func, f"{path.name}:{node.lineno}"
        assert not (isinstance(called, ast.Name) and called.id == "print"), f"{where} prints"
        if isinstance(called, ast.Attribute) and ast.unparse(called.value).endswith("log"):
            kind = ast.unparse(node.args[0]) if node.args else ""
            assert kind.startswith(("Kind.", "Level.", "kind", "level")), f"{where}: {kind}"
