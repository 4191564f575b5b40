"""Waivers: an owner, a reason and an end date, or they are none."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.records import Case, Outcome
from harness.signoff.waivers import Waiver, parse_waivers, read_waivers

CASE = Case("m-tensorrt-fp16-b1-latency", 2, "latency", "m", "tensorrt", "fp16", "fp16", "full")
GOOD = """
[[waiver]]
row = "m-tensorrt-fp16-b1-latency"
owner = "Ada"
reason = "over by 0.4 ms"
until = 2026-12-31
"""


def waiver(**changes: str) -> Waiver:
    return Waiver(**{"owner": "Ada", "reason": "so", "until": "2026-12-31", **changes})


@pytest.mark.covers("RE-03")
def test_a_waiver_is_read_with_its_owner_reason_and_end(tmp_path: Path) -> None:
    (one,) = parse_waivers(GOOD.encode(), "waivers.toml")
    assert one == waiver(row=CASE.id, reason="over by 0.4 ms")
    assert parse_waivers(GOOD.replace("2026-12-31", '"2026-12-31"').encode(), "") == (one,)
    assert parse_waivers(GOOD.encode("utf-8-sig"), "") == (one,)
    assert parse_waivers(b"", "waivers.toml") == ()
    (tmp_path / "w.toml").write_text(GOOD)
    assert read_waivers(tmp_path / "w.toml") == GOOD.encode()
    with pytest.raises(UsageError, match=r"--waivers: .*none does not exist"):
        read_waivers(tmp_path / "none")


def test_it_covers_the_row_it_names_or_all_that_its_selectors_choose() -> None:
    assert waiver(row=CASE.id).covers(CASE, Outcome.FAIL)
    assert not waiver(row="m").covers(CASE, Outcome.FAIL)
    assert waiver(model="m", kind="latency").covers(CASE, Outcome.INCONCLUSIVE)
    assert not waiver(model="m", kind="parity").covers(CASE, Outcome.FAIL)
    assert waiver(runtime="tensorrt").about == "runtime tensorrt"


@pytest.mark.covers("RE-03")
def test_it_never_covers_a_row_that_passes() -> None:
    assert not waiver(row=CASE.id).covers(CASE, Outcome.PASS)


@pytest.mark.covers("RE-03")
def test_it_holds_through_its_last_day() -> None:
    assert not waiver().has_expired(datetime.date(2026, 12, 31))
    assert waiver().has_expired(datetime.date(2027, 1, 1))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            GOOD.replace('owner = "Ada"\n', ""),
            "waiver 1: has no owner. A waiver has an owner, a reason and an end date",
        ),
        (GOOD.replace("until = 2026-12-31\n", ""), "has no until"),
        (GOOD.replace('"Ada"', '"  "'), "owner is '  '; expected text"),
        (GOOD.replace('"Ada"', "3"), "owner is 3; expected text"),
        (GOOD.replace("2026-12-31", '"soon"'), "until is 'soon'; expected a date such as 2026-12-31"),
        (GOOD.replace("2026-12-31", "2026-12-31T10:00:00"), "expected a date such as 2026-12-31, without a time"),
        (GOOD.replace("2026-12-31", "20261231"), "until is 20261231; expected a date"),
        (GOOD.replace("row =", "rows ="), "unknown key 'rows'. Did you mean 'row'?"),
        (GOOD.replace("row = ", "# "), "names no row. Give row = 'ID', or model, runtime or kind"),
        (GOOD + 'model = "m"\n', "names a row, so model, runtime and kind have no place beside it"),
        ("waiver = 3", "waiver is 3; expected \\[\\[waiver\\]\\] tables"),
        ("[waivers]", "unknown key 'waivers'"),
        (GOOD.replace('"Ada"', '"\u200b"'), "owner is '.*'; expected text"),
        (GOOD.replace("2026-12-31", '"2026-W53-4"'), "until is '2026-W53-4'; expected a date such as"),
        ("[[waiver", "is not TOML"),
        ("a = " + "[" * 100_000, "is not TOML"),
        ("a = " + "9" * 10_000, "is not TOML"),
    ],
)
def test_what_is_no_waiver_is_refused_by_name(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_waivers(text.encode(), "waivers.toml")


def test_text_that_is_no_text_is_refused() -> None:
    with pytest.raises(UsageError, match=r"is not UTF-8 text \(byte 0\)"):
        parse_waivers(b"\xff", "waivers.toml")
