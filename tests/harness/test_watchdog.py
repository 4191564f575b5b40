import threading

import pytest

from harness.watchdog import Hangs, call_within


def test_what_comes_back_in_time_is_as_it_was_without_a_watch() -> None:
    assert call_within(60, lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        call_within(60, lambda: 1 / 0)


def test_an_exit_of_the_watched_code_comes_out_here_and_not_in_its_thread() -> None:
    def leave() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit) as left:
        call_within(60, leave)
    assert left.value.code == 3


def test_what_does_not_come_back_is_left_to_a_thread_that_keeps_no_process_alive() -> None:
    let_go = threading.Event()
    inside: list[threading.Thread] = []

    def wait() -> None:
        inside.append(threading.current_thread())
        let_go.wait()

    with pytest.raises(Hangs, match=r"did not come back in 0\.05 s"):
        call_within(0.05, wait)
    assert inside[0].daemon
    let_go.set()
    inside[0].join(60)
    assert not inside[0].is_alive()
