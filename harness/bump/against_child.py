"""``python -m harness.bump.against_child`` in another installation: what it is and which runtimes it has, as JSON on one line."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict

from harness.host import availability, environment
from runtime.platform import detect_host

__all__ = ["main"]


def main() -> int:
    """Imports none of the runtimes' libraries."""
    host = detect_host()
    told = {
        "environment": environment(host),
        "runtimes": [asdict(state) for state in availability(os.environ, host).values()],
    }
    sys.stdout.write(json.dumps(told) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
