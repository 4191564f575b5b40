"""Properties of faces that keep what they are set to."""

from __future__ import annotations

from typing import Any

__all__ = ["enum_setting", "expect", "object_setting", "recorder_setting", "setting"]


def setting(name: str, default: Any) -> property:
    """One that keeps any value, in the state's ``settings``."""
    return property(
        lambda self: self._state.settings.get(name, default),
        lambda self, value: self._state.settings.__setitem__(name, value),
    )


def enum_setting(name: str, kind: str, default: str) -> property:
    """One that keeps a member of an enum."""

    def put(self: Any, value: Any) -> None:
        if value is None:
            raise _wrong(kind, value)
        expect(self, value, kind)
        self._state.settings[name] = value

    return property(lambda self: self._state.settings.get(name, self._library.enum(kind, default)), put)


def object_setting(name: str, kind: str) -> property:
    """One that keeps an object of the user's, or None, in the state's ``objects``."""

    def put(self: Any, value: Any) -> None:
        expect(self, value, kind)
        self._state.objects[name] = value

    return property(lambda self: self._state.objects.get(name), put)


def recorder_setting() -> property:
    """The ``error_recorder`` of an object that has a voice."""

    def put(self: Any, value: Any) -> None:
        expect(self, value, "IErrorRecorder")
        self._state.voice.recorder = value

    return property(lambda self: self._state.voice.recorder, put)


def expect(face: Any, value: Any, kind: str) -> None:
    """``TypeError`` for what is neither of this class nor None."""
    if value is not None and not isinstance(value, getattr(face._library.module, kind)):
        raise _wrong(kind, value)


def _wrong(kind: str, value: Any) -> TypeError:
    return TypeError(f"(): incompatible function arguments. Expected {kind}, invoked with: {value!r}")
