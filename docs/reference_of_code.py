"""The reference pages, written from the code itself: what a run folder holds, what a configuration may say, every command."""

from __future__ import annotations

import argparse
import dataclasses
import enum
import inspect
import os
import re
import tempfile
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path

__all__ = ["write_reference"]

_OURS = ("harness.", "runtime.")


def write_reference(folder: Path) -> list[Path]:
    """Write the generated pages (Markdown) into a folder, which is made; returns their paths. A page that is current stays."""
    folder.mkdir(parents=True, exist_ok=True)
    pages = {
        "run.md": _records_page(),
        "compare.md": _compare_page(),
        "samples.md": _samples_page(),
        "kept.md": _kept_page(),
        "bundle.md": _bundle_page(),
        "configuration.md": _configuration_page(),
        "commands.md": _commands_page(),
    }
    written = []
    for name, text in pages.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
        written.append(path)
    return written


def _records_page() -> str:
    from harness import records

    layout = (records.__doc__ or "").partition("Run-folder layout")[2].partition("\n\n")[2].rstrip()
    head = [
        "# The run folder\n",
        f"`run.json` carries the schema number {records.SCHEMA_VERSION}. {_prose(_doc_of_constant(records, 'SCHEMA_VERSION'))}\n",
        "A reader ignores keys that it does not know; a run with a newer number is refused.\n",
        "```text\n" + inspect.cleandoc("\n" + layout) + "\n```\n",
        "`reports.load(FOLDER)` gives the tables to a notebook as DataFrames, and `.samples(ROW)` the raw calls of a row.\n",
    ]
    return "\n".join([*head, *_classes(records.Run)])


def _compare_page() -> str:
    from harness.records import comparison

    head = [
        "# compare.json\n",
        f"What `trigate compare` writes. Schema number {comparison.COMPARE_SCHEMA}.\n",
    ]
    return "\n".join([*head, *_classes(comparison.Comparison)])


def _samples_page() -> str:
    from harness.tier2 import samples

    enums = [line for kind in (samples.Phase, samples.Status) for line in _enum(kind)]
    head = [
        "# Raw samples\n",
        "`samples/ROW.parquet`: one line per request, none left out.\n",
        "Beside these columns: `throttled` (1, 0; -1 where no sensor says), `clock_mhz`, and of several models `model`.\n",
        ", ".join(f"`{name}`" for name in samples.COLUMNS) + "\n",
        _prose(_doc_of_constant(samples, "COLUMNS")) + "\n",
        f"`{samples.UNKNOWN}` stands for what is not known.\n",
    ]
    return "\n".join([*head, *enums])


def _kept_page() -> str:
    from harness import limits, records
    from harness.numerics import raw
    from harness.tier2 import processes

    parts = (
        (limits, "`limits.json`", limits.Limits),
        (raw, "`raw/ROW.npz`, of rows about numerics", raw.Numerics),
        (processes, "`raw/ROW.json`, of rows about memory", processes.MemoryLooks),
        (processes, "`raw/ROW.json`, of rows about take-off", processes.Starts),
    )
    seen = {kind for kind in vars(records).values() if isinstance(kind, type)}
    lines = ["# What rows were judged from and by\n", "Records that are not told here are on [](run.md).\n"]
    for module, title, root in parts:
        lines += [f"## {title}\n", _verbatim(module.__doc__ or ""), *_classes(root, 3, seen)]
    return "\n".join(lines)


def _bundle_page() -> str:
    from harness.signoff import bundle, decision

    head = [
        "# A signed bundle\n",
        f"What `trigate sign` writes. `bundle.json` has the schema number {decision.SCHEMA_VERSION}.\n",
        _verbatim(bundle.__doc__ or ""),
        "## bundle.json\n",
    ]
    return "\n".join([*head, *_classes(decision.SignOff, 3)])


def _verbatim(doc: str) -> str:
    return "```text\n" + inspect.cleandoc(doc) + "\n```\n"


def _configuration_page() -> str:
    from harness import config
    from harness.init import write_configuration

    with tempfile.TemporaryDirectory() as folder:
        text = write_configuration(Path(folder) / "trigate.toml", None).read_text(encoding="utf-8")
    head = [
        "# The configuration\n",
        "What `trigate init` writes. Unknown keys are errors, with a suggestion:\n",
        "```toml\n" + text.rstrip() + "\n```\n",
        "## As it is read\n",
    ]
    return "\n".join([*head, *_classes(config.Configuration, level=3)])


def _commands_page() -> str:
    from harness import cli

    os.environ["COLUMNS"] = "88"  # which argparse asks for: as many as a block of the page holds
    parser = cli.make_parser()
    return "\n".join(["# Commands\n", *_help(parser)])


def _help(parser: argparse.ArgumentParser, level: int = 2) -> Iterator[str]:
    yield f"{'#' * level} `{parser.prog}`\n"
    yield "```text\n" + parser.format_help().rstrip() + "\n```\n"
    for action in parser._actions:  # argparse has no public way to its sub-commands
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from _help(below, 3)


def _classes(root: type, level: int = 2, told: set[type] | None = None) -> Iterator[str]:
    """A section for the record and for every record and enumeration that is reached from it, nearest first; but ``told``."""
    waiting, seen = [root], told if told is not None else set()
    seen.add(root)
    while waiting:
        kind = waiting.pop(0)
        yield from _enum(kind, level) if issubclass(kind, enum.Enum) else _record(kind, level)
        if dataclasses.is_dataclass(kind):
            for hint in typing.get_type_hints(kind).values():
                for below in _reached(hint):
                    if below not in seen:
                        seen.add(below)
                        waiting.append(below)


def _reached(hint: object) -> Iterator[type]:
    if isinstance(hint, type) and hint.__module__.startswith(_OURS) and not typing.get_args(hint):
        yield hint
    for inner in typing.get_args(hint):
        yield from _reached(inner)


def _record(kind: type, level: int = 2) -> Iterator[str]:
    yield f"{'#' * level} {kind.__name__}\n"
    yield _prose(inspect.getdoc(kind) or "") + "\n"
    yield "| field | type | default |\n|---|---|---|"
    hints = typing.get_type_hints(kind)
    for entry in dataclasses.fields(kind):
        yield f"| `{entry.name}` | {_cell(_type(hints[entry.name]))} | {_default(entry)} |"
    yield ""


def _enum(kind: type[enum.Enum], level: int = 2) -> Iterator[str]:
    yield f"{'#' * level} {kind.__name__}\n"
    yield _prose(inspect.getdoc(kind) or "") + "\n"
    yield (
        ", ".join(f"`{member.value}`" + (f" {member.name}" if isinstance(member.value, int) else "") for member in kind)
        + "\n"
    )


def _type(hint: object) -> str:
    if hint is type(None):
        return "null"
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is None:
        return getattr(hint, "__name__", str(hint))
    if origin is tuple:
        return f"list of {_type(inner[0])}"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"object: {_type(inner[0])} to {_type(inner[1])}"
    return " or ".join(_type(each) for each in inner)


def _default(entry: dataclasses.Field[object]) -> str:
    if entry.default is not dataclasses.MISSING:
        value = entry.default.value if isinstance(entry.default, enum.Enum) else entry.default
        return "`null`" if value is None else f"`{value!r}`"
    return "" if entry.default_factory is dataclasses.MISSING else "empty"


def _doc_of_constant(module: object, name: str) -> str:
    source = inspect.getsource(typing.cast("typing.Any", module))
    found = re.search(rf'^{name} = .*?\n"""(.*?)"""', source, re.MULTILINE | re.DOTALL)
    return found[1] if found else ""


def _prose(text: str) -> str:
    """A docstring as Markdown: double backticks are single ones, and what looks like HTML stays text."""
    return re.sub(r"``([^`]*)``", r"`\1`", text).replace("<", "\\<")


def _cell(text: str) -> str:
    return " ".join(_prose(text).split()).replace("|", "\\|")
