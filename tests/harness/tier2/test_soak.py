"""A soak over made-up boards of known physics: when it is over, whether it was steady, and what it says."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from harness.instruments.trace import Frame, Trace
from harness.statistics.steadiness import SoakRule
from harness.tier2.soak import Soak, SoakState, cycle_of, temperatures

RULE = SoakRule()
S = 1_000_000_000


def trace_of(seconds: float, *, every_s: float = 1.0, **values: Callable[[float], float | None]) -> Trace:
    frames = []
    for at in np.arange(0.0, seconds, every_s):
        said = {name: value for name, of in values.items() if (value := of(float(at))) is not None}
        frames.append(Frame(int(at * 1e9), said))
    return Trace(frames)


def rise(tau_s: float, start_c: float = 40.0, by_c: float = 35.0) -> Callable[[float], float]:
    return lambda t: start_c + by_c * (1.0 - math.exp(-t / tau_s))


def ended(whole: Trace, rule: SoakRule = RULE, every: int = 5, **options: bool | float) -> tuple[SoakState, list[str]]:
    """Ask as a launch does, while the trace grows; the last answer, and the words on the way."""
    soak, growing, words = Soak(rule, **options), Trace(), []  # type: ignore[arg-type]
    state = SoakState(False, None, 0.0, None, None, "")
    for at, frame in enumerate(whole):
        growing.add(frame)
        if at % every == 0:
            state = soak.state(growing, 0, frame.at_ns)
            words.append(state.words)
            if state.is_over:
                break
    return state, words


@pytest.mark.covers("T2-01")
@pytest.mark.parametrize("tau_s", [120.0, 200.0, 300.0])
def test_a_rise_of_35_degrees_is_waited_for_until_little_of_it_is_left(tau_s: float) -> None:
    """Methods A4: 500 to 850 s, and 2 to 6 % of the rise."""
    noise = np.random.default_rng(3).normal(0.0, 0.1, 2000)
    state, words = ended(trace_of(1000, gpu_temp_c=lambda t: rise(tau_s)(t) + noise[int(t)]))
    assert (state.is_over, state.is_steady) == (True, True)
    assert 450 <= state.waited_s <= 900
    assert 0.01 <= math.exp(-state.waited_s / tau_s) <= 0.07
    assert state.period_s is None
    assert words[20].startswith("soaking, 100 of at most 1800 s: gpu_temp_c ")
    assert state.words.startswith(f"steady after {state.waited_s:.0f} s: gpu_temp_c 7")


def test_a_board_that_never_settles_is_given_up_and_told_what_to_do() -> None:
    state, _ = ended(trace_of(400, gpu_temp_c=lambda t: 40.0 + t / 30.0), SoakRule(most_s=300.0))
    assert (state.is_over, state.is_steady, state.waited_s) == (True, False, 300.0)
    assert "+2.00 °C/min over 120 s; 0.5 °C/min was asked for. Shield the board" in state.words


@pytest.mark.covers("T2-01")
@pytest.mark.parametrize("has_fan", [True, False])
@pytest.mark.parametrize("period_s", [60.0, 90.0, 150.0, 240.0])
def test_where_the_fan_cycles_whole_cycles_are_compared(period_s: float, has_fan: bool) -> None:
    def swing(t: float) -> float:
        return 3.0 * math.sin(2.0 * math.pi * t / period_s)

    fan: Callable[[float], float | None] = lambda t: 120.0 + 20.0 * swing(t) if has_fan else None  # noqa: E731
    state, _ = ended(trace_of(1500, gpu_temp_c=lambda t: rise(200.0)(t) + swing(t), fan_pwm=fan))
    assert state.is_steady
    assert state.period_s == pytest.approx(period_s, rel=0.05)
    assert math.exp(-state.waited_s / 200.0) <= 0.07
    assert f"over whole cycles of {state.period_s:.0f} s" in state.words


def test_a_crest_of_a_cycle_that_is_not_known_yet_is_no_steady_state() -> None:
    """Its slope over two minutes is zero; the fan, or the two halves of the window, say otherwise."""

    def cycle(t: float) -> float:
        return 60.0 - 3.0 * math.cos(2.0 * math.pi * t / 500.0)

    crest = trace_of(311, gpu_temp_c=cycle)
    state = Soak(RULE).state(crest, 0, 310 * S)
    assert state.slope_c_per_min == pytest.approx(0.0, abs=0.4)
    assert not state.is_steady
    assert "it turns, +0." in state.words
    with_fan = trace_of(311, gpu_temp_c=lambda _: 60.0, fan_rpm=lambda t: 2000.0 + 5.0 * t)
    state = Soak(RULE).state(with_fan, 0, 310 * S)
    assert not state.is_steady
    assert "the fan still moves, rpm 2950 to 3550" in state.words
    state = Soak(RULE, period_s=100.0).state(with_fan, 0, 310 * S)
    assert (state.is_steady, state.period_s) == (True, 100.0)


def test_the_trend_below_a_cycle_is_found_and_refused() -> None:
    """Half a degree a minute is the limit; this board cycles and gains one."""
    still_rising = trace_of(700, gpu_temp_c=lambda t: 50.0 + t / 60.0 + 3.0 * math.sin(2.0 * math.pi * t / 90.0))
    state = Soak(RULE).state(still_rising, 0, 699 * S)
    assert not state.is_over
    assert state.slope_c_per_min == pytest.approx(1.0, abs=0.15)


def test_the_hottest_sensor_decides_and_the_next_one_where_it_goes_away() -> None:
    both = trace_of(900, tj_temp_c=lambda t: rise(100.0)(t) + 2.0 if t < 200 else None, gpu_temp_c=rise(100.0))
    state, words = ended(both)
    assert "tj_temp_c" in words[10]
    assert state.is_steady
    assert state.words.startswith("steady after")
    assert ": gpu_temp_c" in state.words
    assert state.words.endswith("tj_temp_c went away after 199 s")


@pytest.mark.covers("T2-04")
def test_dead_sensors_are_no_sensors() -> None:
    state, _ = ended(trace_of(700, tj_temp_c=lambda _: -256.0, gpu_temp_c=lambda _: 0.0, cpu_temp_c=rise(100.0)))
    assert state.is_steady
    assert "cpu_temp_c" in state.words


def test_without_a_sensor_the_least_time_is_waited_and_that_is_said() -> None:
    state, words = ended(trace_of(300, available_bytes=lambda _: 1e9))
    assert words[0] == "no temperature sensor: waited 0 s of 180"
    assert state == SoakState(True, None, 180.0, None, None, "no temperature sensor: waited 180 s")
    assert Soak(RULE).state(Trace(), 0, 181 * S).is_over


def test_a_temperature_that_falls_silent_leaves_the_state_unknown() -> None:
    gone = trace_of(600, gpu_temp_c=lambda t: rise(100.0)(t) if t < 150 else None)
    state, _ = ended(gone)
    assert (state.is_over, state.is_steady) == (True, False)
    assert state.waited_s == pytest.approx(149 + RULE.window_s, abs=5)
    assert "gpu_temp_c has been silent for 12" in state.words
    assert "trigate doctor" in state.words
    back = trace_of(800, gpu_temp_c=lambda t: rise(100.0)(t) if not 150 < t < 200 else None)
    assert ended(back)[0].is_steady


def test_no_rule_is_no_soak_and_a_later_launch_waits_less() -> None:
    assert Soak(None).state(Trace(), 0, 0).is_over
    warm = trace_of(300, gpu_temp_c=lambda t: 75.0 - 2.0 * math.exp(-t / 20.0))
    first, _ = ended(warm)
    later, _ = ended(warm, is_first=False)
    assert (first.is_steady, later.is_steady) == (True, True)
    assert first.waited_s == 180.0
    assert 60.0 <= later.waited_s <= 90.0


def test_frames_before_the_load_are_not_looked_at() -> None:
    trace = trace_of(400, gpu_temp_c=lambda t: 40.0 if t < 200 else 40.0 + (t - 200) / 20.0)
    state = Soak(RULE).state(trace, 200 * S, 400 * S)
    assert state.waited_s == 200.0
    assert state.slope_c_per_min == pytest.approx(3.0, abs=0.01)


def test_asking_often_is_asking_once() -> None:
    """What is kept between calls changes no answer; another trace begins anew."""
    whole = trace_of(520, gpu_temp_c=rise(120.0), every_s=2.0)
    soak, growing = Soak(RULE), Trace()
    for frame in whole:
        growing.add(frame)
        often = soak.state(growing, 0, frame.at_ns)
    assert often == Soak(RULE).state(whole, 0, whole.frames[-1].at_ns)
    assert soak.state(trace_of(10, gpu_temp_c=rise(120.0)), 0, 9 * S).waited_s == 9.0


@settings(max_examples=25, deadline=None)
@given(period_s=some.floats(20.0, 200.0), swing_c=some.floats(1.0, 5.0), phase=some.floats(0.0, 6.28))
def test_a_period_is_found_wherever_in_its_cycle_it_is_looked_at(period_s: float, swing_c: float, phase: float) -> None:
    times = np.arange(0.0, 600.0, 1.0)
    found = cycle_of(times, 60.0 + times / 600.0 + swing_c * np.sin(2.0 * np.pi * times / period_s + phase))
    assert found == pytest.approx(period_s, rel=0.06)


def test_noise_and_a_warm_up_have_no_period() -> None:
    times = np.arange(0.0, 900.0, 1.0)
    chance = np.random.default_rng(1)
    for _ in range(20):
        assert cycle_of(times, 60.0 + chance.normal(0.0, 0.5, times.size)) is None
    assert cycle_of(times, 40.0 + 35.0 * (1.0 - np.exp(-times / 200.0))) is None
    assert cycle_of(times[:10], times[:10]) is None


def test_the_temperature_of_a_trace_is_that_of_the_first_sensor_that_reads_all_along() -> None:
    trace = trace_of(100, tj_temp_c=lambda t: 70.0 if t < 50 else None, gpu_temp_c=lambda _: 60.0)
    times, values, name = temperatures(trace)
    assert (times.size, float(values[0]), name) == (100, 60.0, "gpu_temp_c")
    assert temperatures(Trace())[2] == ""
