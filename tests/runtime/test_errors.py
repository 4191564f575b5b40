from __future__ import annotations

import re

import pytest

from runtime import errors
from runtime.errors import RuntimeCoreError


def drawn_tree() -> dict[str, str]:
    """The docstring's drawing as child to parent."""
    parents: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^    ([│ ]*)((?:[├└]── )?)(\w+Error)\b", line)
        if match:
            depth = (len(match[1]) + len(match[2])) // 4
            path[depth:] = [match[3]]
            parents[match[3]] = path[depth - 1] if depth else "Exception"
    return parents


@pytest.mark.covers("RT-07")
def test_the_family_is_the_one_that_the_docstring_draws() -> None:
    real = {name: getattr(errors, name).__bases__[0].__name__ for name in errors.__all__}
    assert drawn_tree() == real


@pytest.mark.covers("RT-07")
def test_every_error_of_the_contract_is_there_and_documented() -> None:
    assert set(errors.__all__) == {
        "BackPressureError", "BootstrapError", "CalibrationCacheError", "ConfigError", "DeviceLostError",
        "EngineBuildError", "EngineDeserializeError", "EngineHashMismatchError", "EngineSchemaMismatchError",
        "EngineSidecarMissingError", "EngineSignatureError", "InferenceError", "OutOfMemoryError", "RuntimeCoreError",
        "RuntimeNotAvailableError", "TelemetryUnavailableError",
    }  # fmt: skip
    for name in errors.__all__:
        kind = getattr(errors, name)
        assert issubclass(kind, RuntimeCoreError)
        assert kind.__doc__ != RuntimeCoreError.__doc__ or kind is RuntimeCoreError


@pytest.mark.covers("RT-07")
def test_an_error_says_what_and_what_next() -> None:
    error = RuntimeCoreError("It broke.", remedy="Mend it.")
    assert (str(error), error.message, error.remedy) == ("It broke. Mend it.", "It broke.", "Mend it.")
    assert (str(RuntimeCoreError("It broke.")), RuntimeCoreError("It broke.").remedy) == ("It broke.", "")
