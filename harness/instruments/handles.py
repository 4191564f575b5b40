"""Kernel files that are read again and again: opened once, read from the start each time."""

from __future__ import annotations

import errno
import os
import re
from contextlib import suppress
from pathlib import Path

__all__ = ["Handle", "first_text"]

_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
_WHOLE = re.compile(r"-?[0-9]{1,19}")
_SENSOR_OFF = "the sensor is off (its power is gated)"


class Handle:
    """One file of sysfs, procfs or debugfs. ``pread`` at offset 0 makes the kernel say it afresh.

    An open and a close each time would cost more than twice as much. A file that went away is opened anew.
    """

    __slots__ = ("_descriptor", "path")

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1

    def data(self) -> bytes:
        """What the file says now, up to 8 KiB. Raises ``OSError``; EAGAIN is a sensor whose power is gated."""
        if self._descriptor >= 0 and not os.fstat(self._descriptor).st_nlink:  # removed, and maybe there again
            self.close()
        if self._descriptor < 0:
            self._descriptor = os.open(self.path, _FLAGS)
        try:
            return os.pread(self._descriptor, 8192, 0)
        except OSError as error:
            if error.errno == errno.ESPIPE:  # a pipe has no offset; one in place of a file stands for a gated sensor
                return os.read(self._descriptor, 8192)
            if error.errno != errno.EAGAIN:
                self.close()
            raise

    def text(self) -> str:
        """Raises ``OSError``."""
        return self.data().decode("utf-8", "replace").strip("\0 \t\r\n")

    def number(self) -> int:
        """Raises ``OSError``, and ``ValueError`` for what is no whole number; ``why`` puts both into words."""
        text = self.text()
        if not _WHOLE.fullmatch(text):
            raise ValueError(f"{text[:40]!r} is not a whole number")
        return int(text)

    def why(self, error: Exception) -> str:
        """The reason in words, with the file."""
        number = error.errno if isinstance(error, OSError) else None
        said = _SENSOR_OFF if number == errno.EAGAIN else os.strerror(number) if number else str(error)
        return f"{self.path.parent.name}/{self.path.name}: {said}"

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with suppress(OSError):
                os.close(descriptor)


def first_text(path: Path) -> str:
    """The text of a file that is read once; empty where it cannot be read."""
    handle = Handle(path)
    try:
        return handle.text()
    except OSError:
        return ""
    finally:
        handle.close()
