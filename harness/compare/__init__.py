"""Two versions, one page (RE-02): from run folders to a decision, never with a device."""

from harness.compare.runs import (
    MARGINS,
    Comparison,
    UnlikeError,
    compare,
    compare_runs,
    read_comparison,
    write_comparison,
)

__all__ = ["MARGINS", "Comparison", "UnlikeError", "compare", "compare_runs", "read_comparison", "write_comparison"]
