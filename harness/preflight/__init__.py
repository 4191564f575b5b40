"""What a move to another JetPack or TensorRT will break, read from code and manifests, with no device."""

from harness.preflight.checklist import ASSUMED, Checklist, Finding, Item, State, preflight

__all__ = ["ASSUMED", "Checklist", "Finding", "Item", "State", "preflight"]
