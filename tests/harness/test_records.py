import dataclasses
import json
import math
import typing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.records import (
    SCHEMA_VERSION,
    Case,
    Measurement,
    Outcome,
    ParityFigures,
    RecordError,
    Run,
    Summary,
    Verdict,
    from_json,
    run_from_text,
    to_json,
)

TEXT = st.text(max_size=8)
CASE = st.builds(
    Case,
    id=TEXT,
    tier=st.integers(0, 2),
    kind=TEXT,
    model=TEXT,
    runtime=TEXT,
    precision=TEXT,
    lane=TEXT,
    size=TEXT,
    point=st.dictionaries(TEXT, st.integers(1, 9), max_size=2),
    covers=st.lists(TEXT, max_size=2).map(tuple),
    required=st.booleans(),
)
FIGURES = st.builds(
    ParityFigures,
    output=TEXT,
    shape=st.lists(st.integers(0, 9), max_size=3).map(tuple),
    dtype=TEXT,
    samples=st.integers(0, 9),
    rel_l2_max=st.none() | st.floats(allow_nan=False),
    rel_l2_median=st.none() | st.floats(allow_nan=False),
    max_abs=st.none() | st.floats(allow_nan=False),
    max_abs_at=TEXT,
    max_rel=st.none(),
    cosine_min=st.none() | st.floats(allow_nan=False),
    sqnr_db=st.none() | st.just(math.inf),
    nan=st.integers(0, 9),
    inf=st.integers(0, 9),
)
VERDICT = st.builds(
    Verdict,
    summary=st.builds(
        Summary,
        measurement=st.builds(Measurement, case=CASE, notes=st.lists(TEXT, max_size=2).map(tuple)),
        parity=st.lists(FIGURES, max_size=2).map(tuple),
        latency=st.none(),
        task=st.just({}),
    ),
    outcome=st.sampled_from(Outcome),
    reason=TEXT,
    checks=st.just(()),
    divergence=st.none(),
)


@given(VERDICT)
def test_a_verdict_survives_json(verdict: Any) -> None:
    text = json.dumps(to_json(verdict), allow_nan=False)
    assert from_json(Verdict, json.loads(text)) == verdict


def run_record() -> Run:
    return Run(
        id="r",
        started_at="",
        finished_at="",
        complete=True,
        exit_code=0,
        last_line="",
        command="",
        seed=0,
        settings={},
        environment={},
        configuration_sha256="",
        pack_sha256="",
        planned=(),
        verdicts=(),
        trigate_version="",
    )


def test_a_newer_schema_is_refused_with_the_way_out() -> None:
    value = {**to_json(run_record()), "schema": SCHEMA_VERSION + 1}
    with pytest.raises(RecordError, match="upgrade trigate"):
        run_from_text(json.dumps(value))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not JSON"),
        ("[]", "no schema number"),
        ('{"schema": 1}', "lacks a field"),
        (json.dumps({**to_json(run_record()), "seed": "x"}), "Run.seed is 'x'; expected int"),
        (json.dumps({**to_json(run_record()), "verdicts": {}}), "expected a list"),
    ],
)
def test_a_malformed_run_is_refused_by_name(text: Any, says: Any) -> None:
    with pytest.raises(RecordError, match=says):
        run_from_text(text)


def test_unknown_keys_of_a_newer_minor_form_are_ignored() -> None:
    value = {**to_json(run_record()), "colour": "blue"}
    assert run_from_text(json.dumps(value)) == run_record()


def test_every_record_is_frozen_and_every_field_can_be_read_back() -> None:
    for kind in (Case, Measurement, Summary, Verdict, Run):
        assert getattr(kind, "__dataclass_params__").frozen  # noqa: B009 (typeshed does not know it)
        assert {entry.name for entry in dataclasses.fields(kind)} == set(typing.get_type_hints(kind))
