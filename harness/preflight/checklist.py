"""``trigate preflight``: what a move to another JetPack or TensorRT will break, as a check list, with no device.

What a source uses of TensorRT's Python API is read by its syntax tree (``preflight_source``) and held against the manifests
of the two versions; what is not Python's API (boards, stored engines and caches, libraries, Python itself) comes from a
table with sources (``preflight_table``). What neither says is "not known", and is never guessed.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import runtime
from harness.errors import UsageError
from harness.preflight.source import Call, Guard, Number, Source, Use, read_source
from harness.preflight.table import Manifest, Platform, Table, joined_api, load_table, numbers
from harness.records import Outcome
from runtime.names import same_version
from runtime.platform import HostTuple, detect_host

__all__ = ["ASSUMED", "Checklist", "Finding", "Item", "State", "preflight"]

ASSUMED = "jetpack-6.2"
"""Where a move comes from on a host that is no Jetson and has no TensorRT."""
_PLACES = 6
_STRONG = "NetworkDefinitionCreationFlag.STRONGLY_TYPED"
_CALLED_DEPTH = 3


class State(str, Enum):
    """Of one line of the list. ``TO_DO``: certain work that does not stand in the way. ``READ``: somebody has to look.
    ``NOT_KNOWN``: told, and not judged.
    """

    BREAKS = "BREAKS"
    READ = "READ"
    TO_DO = "TO DO"
    NOT_KNOWN = "NOT KNOWN"
    OK = "OK"


@dataclass(frozen=True)
class Finding:
    """One name or number, and where it stands. ``change``: ``gone``, ``renamed``, ``renumbered``, ``arguments``
    (others than before), ``deprecated`` or ``unknown``.

    ``places``: ``file:line``. ``guard``: what keeps the code from being reached there; empty where nothing is seen to.
    ``was_broken``: the platform that is left lacks it too, so the move is not what breaks it.
    """

    what: str
    change: str
    state: State
    places: tuple[str, ...]
    told: str
    instead: str = ""
    guard: str = ""
    is_certain: bool = True
    source: str = ""
    was_broken: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "what": self.what,
            "change": self.change,
            "state": self.state.value,
            "certain": self.is_certain,
            "places": list(self.places),
            "told": self.told,
            "instead": self.instead or None,
            "guarded_by": self.guard or None,
            "broken_before": self.was_broken,
            "source": self.source or None,
        }


@dataclass(frozen=True)
class Item:
    """One check. ``area``: ``API``, ``precision`` (DLA too), ``stored``, ``boards``, ``libraries`` or ``Python``.

    ``todo``: what to do.
    """

    area: str
    title: str
    state: State
    told: str
    todo: str = ""
    findings: tuple[Finding, ...] = ()
    source: str = ""

    @property
    def was_broken(self) -> bool:
        """Whether the move is not what breaks it: see ``Finding``."""
        return bool(self.findings) and all(finding.was_broken for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        return {
            "area": self.area,
            "title": self.title,
            "state": self.state.value,
            "broken_before": self.was_broken,
            "told": self.told,
            "todo": self.todo or None,
            "findings": [finding.to_json() for finding in self.findings],
            "source": self.source or None,
        }


@dataclass(frozen=True)
class Checklist:
    """``subject``: whose code was read. ``how``: where ``base`` comes from. ``apis``: versions of the manifests, base and
    target; empty where there is none.
    """

    base: Platform
    target: Platform
    how: str
    subject: str
    apis: tuple[str, str]
    items: tuple[Item, ...]

    @property
    def verdict(self) -> Outcome:
        """FAIL where something breaks, INCONCLUSIVE where somebody has to look, else PASS; what is to do bars nothing."""
        states = {item.state for item in self.items}
        if State.BREAKS in states:
            return Outcome.FAIL
        return Outcome.INCONCLUSIVE if State.READ in states else Outcome.PASS

    @property
    def exit_code(self) -> int:
        """As of RE-04: 0, 1 or 3."""
        return {Outcome.PASS: 0, Outcome.FAIL: 1}.get(self.verdict, 3)

    @property
    def words(self) -> str:
        """The verdict in a sentence."""
        count = {state: sum(item.state is state for item in self.items) for state in State}
        move = f"from {self.base.title} to {self.target.title}"
        read = f"{_counted(count[State.READ], 'check')} to be read"
        work = f"{_counted(count[State.TO_DO], 'thing')} to do on the way" if count[State.TO_DO] else "nothing to do"
        if self.verdict is Outcome.FAIL:
            parts = [self._broken(count[State.BREAKS]), *([read] if count[State.READ] else []), work]
            return f"not able to move {move}: {_and(parts)}"
        if self.verdict is Outcome.INCONCLUSIVE:
            return f"not decided whether able to move {move}: {read}, and {work}"
        return f"able to move {move}, with {work}"

    def _broken(self, count: int) -> str:
        """How many checks break, and of how many it is not the move that breaks them."""
        already = sum(item.state is State.BREAKS and item.was_broken for item in self.items)
        told = f"{_counted(count, 'check')} would break there"
        if not already:
            return told
        which = "" if already == count else f"{already} of them "
        return f"{told} ({which}without the move too)"

    def to_json(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict.value,
            "exit_code": self.exit_code,
            "words": self.words,
            "from": {**self.base.to_json(), "how": self.how, "api": self.apis[0] or None},
            "to": {**self.target.to_json(), "api": self.apis[1] or None},
            "source": self.subject,
            "checks": [item.to_json() for item in self.items],
        }

    def to_text(self) -> str:
        lines = [f"{self.verdict.value}: {self.words}.", f"  from {self.base.name}: {self.how}; read: {self.subject}"]
        for item in self.items:
            lines.append(f"{item.state.value:<10} {item.area}: {item.title}")
            lines.append(f"{'':<10}   {item.told}")
            for found in item.findings:
                lines.append(f"{'':<10}   - {found.what}: {found.told}")
                lines.append(f"{'':<10}     at {_places(found.places)}")
                lines += [f"{'':<10}     guarded by {found.guard}"] if found.guard else []
                lines += [f"{'':<10}     instead: {found.instead}"] if found.instead else []
            lines += [f"{'':<10}   > {item.todo}"] if item.todo else []
        return "\n".join(lines)

    def to_markdown(self) -> str:
        lines = [f"# {self.target.title}: {self.verdict.value}", "", f"{_sentence(self.words)}.", ""]
        lines += [f"From `{self.base.name}` ({self.how}); read: {_plain(self.subject)}.", ""]
        lines += ["| | check | what it is | to do |", "|---|---|---|---|"]
        for item in self.items:
            cells = (item.state.value, f"{item.area}: {item.title}", item.told, item.todo)
            lines.append("| " + " | ".join(_plain(cell) for cell in cells) + " |")
        for item in self.items:
            if item.findings:
                lines += ["", f"## {item.state.value}: {item.area}, {item.title}", ""]
                for found in item.findings:
                    lines.append(f"- `{_code(found.what)}`: {_plain(found.told)}, at {_plain(_places(found.places))}")
                    lines += [f"  - guarded by {_plain(found.guard)}"] if found.guard else []
                    lines += [f"  - instead: {_plain(found.instead)}"] if found.instead else []
        sources = dict.fromkeys(
            source for item in self.items for source in (item.source, *(f.source for f in item.findings)) if source
        )
        lines += ["", "## Sources", "", *(f"- {_plain(source)}" for source in sources)] if sources else []
        return "\n".join(lines) + "\n"


def preflight(
    to: str,
    *,
    source: Path | None,
    come_from: str = "",
    manifests: Path,
    platforms: Path,
    host: HostTuple | None = None,
) -> Checklist:
    """What a move to ``to`` (``jetpack-7.2``, ``tensorrt-11.4``) takes.

    ``source``: a folder or file of Python of the user's own; ``None``: this project's runtime. ``come_from``: as ``to``;
    empty: what ``host`` is (by default this one), else ``ASSUMED``. ``manifests``: the folder of ``tensorrt-*.json``;
    ``platforms``: the table. Raises ``UsageError`` for a platform that the table does not have and a source without Python.
    """
    table = load_table(platforms, manifests)
    target = table.platform(to)
    base, how, board = _base(table, come_from, host)
    before, after = table.manifest(base.tensorrt), table.manifest(target.tensorrt)
    path = source if source is not None else Path(runtime.__file__).parent
    subject = f"{source}" if source is not None else "the runtime of trigate itself"
    if not path.exists():
        raise UsageError(f"There is no {source}. Give --source a folder with Python files, or one such file.")
    never = frozenset(name for row in table.rows("never") for name in row["names"])
    others = table.others(manifest.version for manifest in (before, after) if manifest is not None)
    known = [manifest for manifest in (before, after, *others) if manifest is not None]
    try:
        found = read_source(path, joined_api(*known, also=never))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error
    if not (found.files or found.scripts or found.others):
        raise UsageError(f"{path} has no Python file. Give --source a folder with Python files, or one such file.")
    move = _Move(table, base, target, before, after, others, found, board, how == _HOW_ASSUMED, source is None)
    return Checklist(
        base,
        target,
        how,
        f"{subject}, {_counted(found.files, 'Python file')}"
        + (f", {_counted(len(found.scripts), 'script')} by the options alone" if found.scripts else ""),
        (before.version if before else "", after.version if after else ""),
        tuple(sorted(move.items(), key=lambda item: tuple(State).index(item.state))),  # stable: what breaks comes first
    )


_HOW_ASSUMED = "assumed; name another with --from"


def _base(table: Table, come_from: str, host: HostTuple | None) -> tuple[Platform, str, str]:
    """(the platform that is left, how it is known, the SM of this board where it is one)."""
    if come_from:
        return table.platform(come_from), "as it was named", ""
    host = host or detect_host()
    if host.jetpack not in ("none", "unknown") and f"jetpack-{host.jetpack}" in table.platforms:
        return table.platform(f"jetpack-{host.jetpack}"), "what this host is", host.sm
    if host.jetpack == "none" and host.trt != "none" and not host.trt.startswith("rtx"):
        try:
            return table.platform(f"tensorrt-{host.trt}"), "what this host has", ""
        except UsageError:
            pass
    return table.platform(ASSUMED), _HOW_ASSUMED, ""


@dataclass(frozen=True)
class _Move:
    table: Table
    base: Platform
    target: Platform
    before: Manifest | None
    after: Manifest | None
    others: Sequence[Manifest]
    found: Source
    board_sm: str
    is_assumed: bool
    is_ours: bool

    def items(self) -> list[Item]:
        """The list, in the order in which somebody who moves needs it."""
        return [
            *self._boards(),
            *self._unread(),
            *self._api(),
            *self._precisions(),
            *self._typing(),
            *self._deprecated(),
            *self._tools(),
            *self._dla(),
            *self._stored(),
            *self._libraries(),
            *self._python(),
        ]

    # -- the code ------------------------------------------------------------------------------------------------------

    def _unread(self) -> list[Item]:
        items = []
        if self.found.unread:
            findings = tuple(
                Finding(name, "unknown", State.READ, (name,), f"is not read: {why}") for name, why in self.found.unread
            )
            told = f"{_counted(len(findings), 'file')} cannot be read as Python, so nothing is known of what they use."
            items.append(Item("API", "files that are not read", State.READ, told, "Look at them.", findings))
        if self.found.others:
            told = f"{_places(tuple(self.found.others))}: they name TensorRT, and only Python is read."
            items.append(Item("API", "files of other languages", State.READ, told, "Look at them."))
        return items

    def _api(self) -> list[Item]:
        if self.after is None:
            told = f"There is no manifest of the API of TensorRT {self.target.tensorrt}, so what changes is not known."
            return [Item("API", "names that were read", State.READ, told, "Read the release notes.")]
        before, after = self.before or Manifest("", {}), self.after
        uses = [use for use in self.found.uses if not use.path.startswith("*.") or self._is_possible(use)]
        findings = [*self._names(uses, before, after), *self._numbers(before, after)]
        removed = len(before.names - after.names)
        near = ", ".join(
            f"{manifest.version} stands for {platform.tensorrt}, of the same minor version"
            for platform, manifest in self._sides()
            if manifest is not None and not same_version(manifest.version, platform.tensorrt)
        )
        told = f"{_counted(len({use.path for use in uses if use.is_certain}), 'name')} of TensorRT in use; "
        if self.before is None:
            told += f"there is no manifest of {self.base.tensorrt}, so they are held against {after.version} alone."
        else:
            told += f"{removed or 'none'} of {len(before.names)} are gone from {before.version} to {after.version}"
            told += f" ({near})." if near else "."
        state, rest = State.OK, [finding for finding in findings if finding.state in (State.OK, State.NOT_KNOWN)]
        items = [Item("API", "names that were read", state, told)]
        for state in (State.BREAKS, State.READ):
            for was_broken in (False, True):
                these = tuple(one for one in findings if one.state is state and one.was_broken is was_broken)
                items += [self._changed(state, these)] if these else []
        for title, state in (("guarded", State.OK), ("not in the manifests", State.NOT_KNOWN)):
            if these := tuple(finding for finding in rest if finding.state is state):
                words = "not reached there, as far as its guards tell" if state is State.OK else "in neither manifest"
                items.append(Item("API", title, state, f"{_counted(len(these), 'name')} {words}.", "", these))
        return items

    def _changed(self, state: State, these: tuple[Finding, ...]) -> Item:
        """The check of names that break or may, by the move or before it."""
        is_certain = state is State.BREAKS
        what, todo = _counted(len(these), "name or number", "names or numbers"), "Change these places."
        if not is_certain:
            todo = "Look at these places."
        if these[0].was_broken:
            title = "names in use that both sides lack" if is_certain else "names that both sides may lack"
            told = f"{what} that {self.base.title} has not either: it is not the move that breaks them."
            todo += " If this source runs today, it runs on another TensorRT: name that one with --from."
        else:
            title = "names in use that are gone or changed" if is_certain else "names that may be gone or changed"
            told = f"{what} that {'the target has not, or reads otherwise' if is_certain else 'may be affected'}."
        return Item("API", title, state, told, todo, these)

    def _sides(self) -> tuple[tuple[Platform, Manifest | None], ...]:
        return (self.base, self.before), (self.target, self.after)

    def _is_possible(self, use: Use) -> bool:
        """Whether a name of an object of an unknown class is worth telling: no class of the target has it, and the source
        itself does not define it.
        """
        return use.path[2:] not in self.found.defined

    def _names(self, uses: Iterable[Use], before: Manifest, after: Manifest) -> list[Finding]:
        never = {name: row for row in self.table.rows("never") for name in row["names"]}
        return _grouped(filter(None, (self._name(use, before, after, never) for use in uses)))

    def _name(
        self, use: Use, before: Manifest, after: Manifest, never: Mapping[str, Mapping[str, Any]]
    ) -> Finding | None:
        place = (f"{use.file}:{use.line}",)
        top, _, member = use.path.partition(".")
        if use.is_computed:
            old, new = before.enum(top), after.enum(top)
            gone = [name for name in old if name not in new]
            if not gone:
                return None
            told = f"a member of {top} is chosen while it runs; gone are {_and(gone)}"
            return Finding(use.path, "unknown", State.READ, place, told)
        if after.has(use.path):
            return None
        if not before.has(use.path):
            if (row := never.get(member or top) or (never.get(use.path) if member else None)) is not None:
                told = "no TensorRT 10 or 11 has it"
                state, guard = self._judge(use, after)
                state = State.READ if state is State.BREAKS and not use.is_certain else state
                return Finding(
                    use.path, "gone", state, place, told, row["use"], guard, use.is_certain, row["source"],
                    bool(before.version),
                )  # fmt: skip
            if top == "*" or (
                member and not after.has(top) and (before.has(top) or top in never or self._who_has(top))
            ):
                return None  # of an unknown class, it says nothing; of a name that is told itself, nothing more
            if front := next((one for one in self.table.rows("front") if top in one["names"]), None):
                is_there = numbers(self.target.tensorrt)[:2] >= numbers(front.get("since", "0"))
                state, guard = (State.NOT_KNOWN, "") if is_there else self._judge(use, after)
                told = front["told"] if is_there else f"{front['told']}, from TensorRT {front['since']} on"
                return Finding(
                    top, "unknown" if is_there else "gone", state, place, told, "", guard, True, front["source"]
                )
            who = self._who_has(use.path)
            if not who and not after.has(top):
                told = "no name of any version that is known here"
                state, guard = self._judge(use, after)
                return Finding(top, "unknown", State.READ if state is State.BREAKS else state, place, told, "", guard)
            if who.startswith("TensorRT-RTX"):
                state, guard = self._judge(use, after)
                told = f"only {who} has it"
                state = state if state is State.OK else State.NOT_KNOWN
                return Finding(use.path, "unknown", state, place, told, "", guard)
        if member and not use.path.startswith("*") and before.has(top) and not after.has(top):
            return None
        row = self.table.instead(use.path)
        change = "renamed" if "member" in row and self._is_renamed(use.path, row["member"], after) else "gone"
        state, guard = self._judge(use, after)
        if state is State.BREAKS and not use.is_certain:
            state = State.READ
        told = "gone" if change == "gone" else "it has another name there"
        if not before.has(use.path):
            versions = (
                f"in neither {before.version} nor {after.version}" if before.version else f"not in {after.version}"
            )
            told = f"{versions}{f'; {who} has it' if (who := self._who_has(use.path)) else ''}"
        if use.path.startswith("*."):
            classes = [name for name in before.entries if use.path[2:] in before.members(name)]
            told = f"possibly {_classes(classes)}.{member}, which is gone: the object's class is not known"
        return Finding(
            use.path, change, state, place, told, row.get("use", ""), guard, use.is_certain, row.get("source", ""),
            bool(before.version) and not before.has(use.path),
        )  # fmt: skip

    def _who_has(self, path: str) -> str:
        """Another version, or TensorRT-RTX, whose manifest has a name; empty where none has."""
        found = [manifest.title for manifest in self.others if manifest.has(path)]
        return min(found, key=lambda title: (title.startswith("TensorRT-RTX"), title), default="")

    def _is_renamed(self, path: str, member: str, after: Manifest) -> bool:
        return any(after.has(name) for name in (member, f"{path.partition('.')[0]}.{member}"))

    def _judge(self, use: Use, after: Manifest) -> tuple[State, str]:
        guards = self._all_guards(use, after)
        ends = ""
        for guard in guards:
            if not self._is_covered(guard, after, use.raises):
                continue
            if not guard.is_end or self.is_ours:  # our own raises what says what to do instead
                return (State.READ if _swallows(guard) else State.OK), guard.words
            ends = ends or f"{guard.words}, where the program ends or raises"
        if ends:
            return State.READ, ends
        unclear = [guard.words for guard in guards if guard.kind == "version" and self._version(guard, after) is None]
        return (
            (State.READ, f"{unclear[0]}, a test of the version that is not understood")
            if unclear
            else (State.BREAKS, "")
        )

    def _all_guards(self, use: Use, after: Manifest) -> list[Guard]:
        """Its own, and those of all calls of a function that it stands in."""
        callers = (
            self._guard_of_calls(function, after, _CALLED_DEPTH, use.raises) for function in reversed(use.functions)
        )
        return [*use.guards, *(guard for guard in callers if guard is not None)]

    def _guard_of_calls(self, function: str, after: Manifest, depth: int, raises: str) -> Guard | None:
        """What covers every call of a function; ``None`` where it is never called, or once without a guard."""
        if function in self.found.handed_on:
            return None
        calls = [call for call in self.found.calls if call.name == function and function not in call.functions]
        covers = [self._cover_of(call, after, depth, raises) for call in calls]
        if not covers or any(cover is None for cover in covers):
            return None
        first = next(cover for cover in covers if cover is not None)
        return replace(first, words=f"{first.words}, under which alone `{function}` is called ({_where(calls)})")

    def _cover_of(self, call: Call, after: Manifest, depth: int, raises: str) -> Guard | None:
        for guard in call.guards:
            if self._is_covered(guard, after, raises):
                return guard
        if depth <= 1:
            return None
        callers = (self._guard_of_calls(name, after, depth - 1, raises) for name in reversed(call.functions))
        return next((guard for guard in callers if guard is not None), None)

    def _is_covered(self, guard: Guard, after: Manifest, raises: str) -> bool:
        """Whether code under this guard is not reached, or does no harm, with the target's names."""
        if guard.kind == "names":
            return any(after.has(one.path) != one.is_there for one in guard.conditions)
        if guard.kind == "version":
            return self._version(guard, after) is False
        return guard.is_caught(raises) if guard.kind == "caught" else True

    def _version(self, guard: Guard, after: Manifest) -> bool | None:
        """Whether a test of the version holds in the target; ``None`` where it is not understood."""
        is_exact = len(numbers(self.target.tensorrt)) >= 3
        version = self.target.tensorrt if is_exact else after.version
        assert guard.test is not None
        try:
            return bool(_evaluated(guard.test, version)) != guard.is_negated
        except (_NotUnderstoodError, TypeError, ValueError, IndexError, KeyError):
            return None

    def _numbers(self, before: Manifest, after: Manifest) -> list[Finding]:
        found = []
        for number in self.found.numbers:
            old, new = before.enum(number.enum), after.enum(number.enum)
            if number.member:
                was, becomes = old.get(number.member), new.get(number.member)
                if becomes is None or was == becomes or number.value not in (was, becomes):
                    continue
                told = f"{number.member} is {was} in {before.version}, and {becomes} in {after.version}"
            else:
                meant, means = _meaning(number, old), _meaning(number, new)
                if meant == means:
                    continue
                told = f"{number.value} is {meant} in {before.version}, and {means} in {after.version}"
            what = f"{number.enum}{f'.{number.member}' if number.member else ''} = {number.value}"
            use = Use(number.file, number.line, number.enum, True, number.guards, raises="")  # it means something else
            state, guard = self._judge(use, after)
            place = (f"{number.file}:{number.line}",)
            instead = f"the member itself: int(trt.{number.enum}.NAME)"
            found.append(Finding(what, "renumbered", state, place, f"{told}: {number.words}", instead, guard))
        return found

    # -- precisions and what was stored --------------------------------------------------------------------------------

    def _precisions(self) -> list[Item]:
        if self.before is None or self.after is None:
            return []
        return [
            self._precision(row, self.before, self.after)
            for row in self.table.rows("precision")
            if any(map(self.before.has, row["needs"])) and not any(map(self.after.has, row["needs"]))
        ]

    def _precision(self, row: Mapping[str, Any], before: Manifest, after: Manifest) -> Item:
        """Whether the source asks for it, and what stands in its place."""
        instead = self.table.instead(row["needs"][0])
        named = self._trtexec(row.get("words", ()))
        calls = set(row.get("calls", ()))
        from_polygraphy = {one.file for one in self.found.imports if one.module.startswith("polygraphy")}
        named += [
            Use(call.file, call.line, f"Polygraphy's {call.name}", True, call.guards, call.functions)
            for call in self.found.calls
            if call.name in calls and call.file in from_polygraphy
        ]
        named += [
            Use(call.file, call.line, f"Polygraphy's {call.name}({option}=…)", False, call.guards, call.functions)
            for call in self.found.calls
            if call.name == "CreateConfig" and call.file in from_polygraphy
            for option in call.options
            if option in row.get("keywords", ())
        ]
        findings = []
        for use in named:
            state, guard = self._judge(use, after)
            state = State.READ if state is State.BREAKS and not use.is_certain else state
            told = "needs a precision that the target takes from the model alone"
            findings.append(
                Finding(use.path, "gone", state, (f"{use.file}:{use.line}",), told, "", guard, use.is_certain)
            )
        uses = [use for use in self.found.uses if self._asks(use, row["needs"], before, after)]
        told = "an option of ONNX Runtime's TensorRT provider; what it does there is not known"
        findings += [
            Finding(word.text, "unknown", State.NOT_KNOWN, (f"{word.file}:{word.line}",), told)
            for word in self.found.words
            if word.text in row.get("options", ())
        ]
        findings = _grouped(findings)
        of_uses = [(use, self._judge(use, after)[0]) for use in uses]
        judged = [State.READ if state is State.BREAKS and not use.is_certain else state for use, state in of_uses]
        judged += [finding.state for finding in findings]
        judged = [state for state in judged if state is not State.NOT_KNOWN]
        told = f"TensorRT {after.version} has no {row['name']}."
        if not uses and not findings:
            return Item(
                "precision", row["name"], State.OK, f"{told} This source does not use it.", source=instead["source"]
            )
        if not judged:
            told += " Whether ONNX Runtime's option has an effect there is not known."
            return Item("precision", row["name"], State.NOT_KNOWN, told, "", tuple(findings), instead["source"])
        strong = next((use for use in self.found.uses if use.path == _STRONG), None)
        if State.BREAKS in judged:
            state = State.BREAKS
        elif State.READ in judged:
            state = State.READ
        else:
            state = State.TO_DO
            if strong is not None:
                told += f" The source has another way, a strongly typed network ({strong.file}:{strong.line})."
        todo = f"{_sentence(instead['use'])}."
        if self.is_ours and state is State.TO_DO:
            todo = "Nothing in the code: `trigate compile` casts the model, or gives it Q/DQ nodes, itself."
        return Item("precision", row["name"], state, told, todo, tuple(findings), instead["source"])

    def _trtexec(self, options: Sequence[str], *, is_near: bool = False) -> list[Use]:
        """Where one of these options is given, or a text that is called like it, in a source that calls trtexec; ``is_near``: in
        a file that does.
        """
        calling = {word.file for word in self.found.words if "trtexec" in word.text}
        return [
            Use(word.file, word.line, f"trtexec {option}", False, word.guards, word.functions)
            for word in self.found.words
            if (word.file in calling if is_near else calling)
            for option in options
            if _asks_for(word.text, option)
        ]

    def _asks(self, use: Use, needs: Sequence[str], before: Manifest, after: Manifest) -> bool:
        """Whether a use is of one of these names, or of a name at whose place the same thing stands."""
        if use.path in needs:
            return True
        if not use.path.startswith("*.") and not before.has(use.path):
            return False
        of_calibration = "IInt8Calibrator" in needs and (
            use.path.startswith("IInt8") or use.path.endswith((".int8_calibrator", ".set_calibration_profile"))
        )
        same_member = any("." in name and use.path.endswith(f".{name.partition('.')[2]}") for name in needs)
        is_enum = any(name.startswith("BuilderFlag.") for name in needs)
        return (of_calibration or (same_member and not is_enum)) and not after.has(use.path)

    def _typing(self) -> list[Item]:
        row = self.table.values["typing"]
        since = numbers(row["usable_from"])
        if not numbers(self.base.tensorrt)[:2] < since <= numbers(self.target.tensorrt)[:2]:
            return []
        told = f"{_sentence(row['told'])}."
        if self.is_ours:
            told += " trigate builds with flags before, and strongly typed from then on, so numbers may change."
        todo = "Compare outputs of both routes on stored inputs: run the same pack on both (`trigate run --pack`)."
        return [Item("precision", "from weak to strong typing", State.TO_DO, told, todo, source=row["source"])]

    def _deprecated(self) -> list[Item]:
        """What the source uses that works in the target, and is on its way out."""
        if self.after is None or self.is_ours:  # our own asks for them only where there is no other way
            return []
        rows = self.table.rows("deprecated")
        return [
            Item(
                "precision", f"{row['name']}, deprecated", State.TO_DO,
                f"{_sentence(row['told'])}. They work in {self.target.title}, and are gone in 11.",
                "Not for this move: plan the change before TensorRT 11.", findings, row["source"],
            )
            for row in rows
            if numbers(self.target.tensorrt) >= numbers(row["since"])
            if (findings := self._still_used(row, self.after))
        ]  # fmt: skip

    def _tools(self) -> list[Item]:
        """Options of trtexec that no TensorRT 10 has, and packages that bring their own use of TensorRT along."""
        gone = [
            Finding(use.path, "gone", State.READ, (f"{use.file}:{use.line}",), row["told"], row.get("use", ""), "", False,
                    row["source"], numbers(self.base.tensorrt)[:1] >= (10,))
            for row in self.table.rows("trtexec")
            if numbers(self.target.tensorrt)[:1] >= (10,)
            for use in self._trtexec(row["options"], is_near=True)
        ]  # fmt: skip
        items = []
        if gone:
            told = f"{_counted(len(gone), 'place')} with an option that trtexec has not since TensorRT 10: it ends with an error."
            items.append(Item("API", "options of trtexec", State.READ, told, "Change them.", tuple(_grouped(gone))))
        if same_version(self.base.tensorrt, self.target.tensorrt):
            return items
        for row in self.table.rows("wrapper"):
            places = [
                f"{one.file}:{one.line}" for one in self.found.imports if one.module.partition(".")[0] in row["names"]
            ]
            if places:
                told = f"{_sentence(row['told'])}. Imported at {_places(tuple(dict.fromkeys(places)))}."
                items.append(Item("libraries", row["names"][0], State.READ, told, row["todo"], (), row["source"]))
        return items

    def _still_used(self, row: Mapping[str, Any], after: Manifest) -> tuple[Finding, ...]:
        """Names of a row that the target has, in code that is reached there."""
        return tuple(
            _grouped(
                Finding(
                    use.path, "deprecated", State.TO_DO, (f"{use.file}:{use.line}",), f"deprecated since {row['since']}",
                    self.table.instead(use.path).get("use", ""), "", use.is_certain, row["source"],
                )
                for use in self.found.uses
                if after.has(use.path) and any(fnmatchcase(use.path, name) for name in row["names"])
                if self._judge(use, after)[0] is not State.OK
            )
        )  # fmt: skip

    def _dla(self) -> list[Item]:
        """Whether the source asks for the deep learning accelerator, where the target has none or may have none."""
        row = self.table.values["dla"]
        last = numbers(row["last"])
        if not numbers(self.base.tensorrt)[:2] <= last < numbers(self.target.tensorrt)[:2]:
            return []
        places = [f"{use.file}:{use.line}" for use in self.found.uses if use.path.endswith(tuple(row["names"]))]
        places += [
            f"{word.file}:{word.line}"
            for word in self.found.words
            if any(_asks_for(word.text, name) for name in row["words"])
        ]
        if not places:
            return []
        finding = Finding("DLA", "unknown", State.READ, tuple(dict.fromkeys(places)), "the deep learning accelerator")
        told = f"{_sentence(row['told'])}."
        return [Item("precision", "DLA", State.READ, told, f"{row['todo']}", (finding,), row["source"])]

    def _stored(self) -> list[Item]:
        is_same_trt = same_version(self.base.tensorrt, self.target.tensorrt)
        is_same_cuda = self.base.cuda == self.target.cuda or not self.base.cuda or not self.target.cuda
        engines, timing, ort = (self.table.values[key] for key in ("engines", "timing_caches", "onnxruntime_caches"))
        if self.base == self.target or (is_same_trt and self.base.jetpack == self.target.jetpack):
            return [Item("stored", "engines and caches", State.OK, "Nothing changes that they depend on.")]
        if is_same_trt:
            told = "TensorRT stays the same and may load them; trigate's engine check refuses another JetPack's."
            todo = "Build them again with `trigate compile`, or name the two JetPacks as one in the engine check."
            return [Item("stored", "engines", State.TO_DO, told, todo, source=engines["source"])]
        items = [
            Item(
                "stored",
                "engines",
                State.TO_DO,
                f"{_sentence(engines['told'])}; {engines['compatible']}.",
                "Build every engine again on the target (`trigate compile`), and leave models and packs as they are.",
                source=engines["source"],
            ),
            Item(
                "stored",
                "timing caches",
                State.TO_DO,
                f"{_sentence(timing['told'])}."
                + ("" if is_same_cuda else f" CUDA goes from {self.base.cuda} to {self.target.cuda}."),
                "Delete the old ones; the first build makes new ones.",
                source=timing["source"],
            ),
            self._calibration(),
            Item(
                "stored",
                "ONNX Runtime's engine caches and EPContext models",
                State.TO_DO,
                f"{_sentence(ort['told'])}.",
                "Empty the cache folders and let each session build once, before a flight.",
                source=ort["source"],
            ),
        ]
        return [item for item in items if item is not None]

    def _calibration(self) -> Item:
        if self.after is not None and not self.after.has("IInt8Calibrator"):
            row = self.table.instead("IInt8Calibrator")
            told = "There is no way over: the target has no calibrator that would read one."
            if self.is_ours:
                told += " trigate's own ranges, measured for Q/DQ nodes, do not depend on TensorRT and stay."
            todo = f"{_sentence(row['use'])}."
            return Item("stored", "calibration caches", State.TO_DO, told, todo, source=row["source"])
        told = "Whether the target's calibrator takes a cache of another version is not known."
        todo = "Calibrate again from the stored inputs, and compare outputs."
        return Item("stored", "calibration caches", State.TO_DO, told, todo)

    # -- boards, libraries, Python -------------------------------------------------------------------------------------

    def _boards(self) -> list[Item]:
        return [self._boards_of_jetpack() if self.target.jetpack else self._boards_of_tensorrt()]

    def _boards_of_jetpack(self) -> Item:
        target, title = self.target, "what it is for"
        told = f"{target.title} is for {_and(target.boards)}."
        told += f" {_sentence(target.remark)}." if target.remark else ""
        here = [row["name"] for row in self.table.rows("board") if row["sm"] == self.board_sm]
        boards = here or list(self.base.boards)
        if not boards:
            return Item("boards", title, State.OK, told, source=target.source)
        missing = [board for board in boards if board not in target.boards]
        if not missing:
            return Item(
                "boards",
                title,
                State.OK,
                f"{told} {self.base.title} is for {_and(self.base.boards)}.",
                source=target.source,
            )
        state = State.BREAKS if len(missing) == len(boards) else State.READ
        todo = f"{_and(missing)} cannot move there: stay, or choose a JetPack that has it."
        return Item("boards", title, state, told, todo, source=target.source)

    def _boards_of_tensorrt(self) -> Item:
        row = self.table.tensorrt(self.target.tensorrt)
        if not row:
            return Item(
                "boards", "what it is for", State.NOT_KNOWN, f"Which boards {self.target.title} is for is not known."
            )
        parts = []
        if row.get("jetpacks"):
            parts.append(f"it comes with, or is for, JetPack {_and(row['jetpacks'])}")
        if row.get("remark"):
            parts.append(row["remark"])
        if row.get("has_sm"):
            parts.append(f"it has kernels for SM {', '.join(row['has_sm'])}")
        else:
            parts.append("which other GPUs it is for is not known here")
        told = f"{_sentence('; '.join(parts))}."
        if not self.base.jetpack or self.is_assumed:
            return Item("boards", "what it is for", State.OK, told, source=row["source"])
        if self.base.jetpack in row.get("jetpacks", ()):
            lacks = self.board_sm and self.board_sm in row.get("lacks_sm", ())
            return Item("boards", "what it is for", State.BREAKS if lacks else State.OK, told, source=row["source"])
        todo = f"JetPack {self.base.jetpack} does not have {self.target.title}: move to a JetPack that does, or compare the two "
        todo += f"TensorRT alone with --from tensorrt-{'.'.join(self.base.tensorrt.split('.')[:2])}."
        return Item("boards", "what it is for", State.BREAKS, told, todo, source=row["source"])

    def _libraries(self) -> list[Item]:
        items = []
        for row in self.table.rows("library"):
            is_new = any(
                row.get(key)
                and _begins(getattr(self.target, key), row[key])
                and not _begins(getattr(self.base, key), row[key])
                for key in ("tensorrt", "jetpack")
            )
            if is_new:
                items.append(
                    Item(
                        "libraries",
                        row["name"],
                        State.TO_DO,
                        f"{_sentence(row['told'])}.",
                        row["todo"],
                        (),
                        row["source"],
                    )
                )
        if self.base.cuda and self.target.cuda and not _begins(self.target.cuda, self.base.cuda):
            told = f"CUDA {self.base.cuda} becomes {self.target.cuda}."
            todo = "Install libraries that are built for it, and cuda-bindings of its major version."
            items.append(Item("libraries", "CUDA", State.TO_DO, told, todo, (), self.target.source))
        return [*items, *self._cuda_calls()]

    def _cuda_calls(self) -> list[Item]:
        """Calls of the driver API whose arguments are others in the bindings of the target's CUDA."""
        (old, before), (new, after) = (self.table.cuda_calls(side.cuda) for side in (self.base, self.target))
        changed = {name for name, (_, count) in before.items() if name in after and after[name][1] != count}
        findings = [
            Finding(
                call.name,
                "arguments",
                State.BREAKS if call.arguments is not None else State.READ,
                (f"{call.file}:{call.line}",),
                f"was {before[call.name][0]} in {old}, and is {after[call.name][0]} in {new}",
            )
            for call in self.found.calls
            if call.name in changed and call.arguments != after[call.name][1]
        ]
        if not findings:
            return []
        worst = State.BREAKS if any(one.state is State.BREAKS for one in findings) else State.READ
        told = f"{_counted(len(findings), 'call')} with other arguments in cuda.bindings.driver of CUDA {self.target.cuda}."
        return [Item("libraries", "CUDA's driver calls", worst, told, "Change these calls.", tuple(_grouped(findings)))]

    def _python(self) -> list[Item]:
        base, target = self.base, self.target
        least = self.table.tensorrt(target.tensorrt).get("python_min", "") if not target.jetpack else ""
        items = []
        if target.python and base.python != target.python:
            told = f"{target.title} has Python {target.python} ({target.system}), and TensorRT's Python package for no other"
            told += f"; {base.title} had {base.python}." if base.python else "."
            todo = f"Make a new environment: /usr/bin/python{target.python} -m venv --system-site-packages, and install again."
            items.append(Item("Python", "interpreter", State.TO_DO, told, todo, (), target.source))
        elif target.python:
            items.append(
                Item("Python", "interpreter", State.OK, f"Python {target.python} stays.", source=target.source)
            )
        elif least:
            is_enough = not base.python or numbers(base.python) >= numbers(least)
            told = f"{target.title} needs Python {least} or later" + (
                f"; {base.title} has {base.python}." if base.python else "."
            )
            state = State.OK if is_enough else State.TO_DO
            row = self.table.tensorrt(target.tensorrt)
            items.append(Item("Python", "interpreter", state, told, source=row["source"]))
        else:
            items.append(
                Item("Python", "interpreter", State.NOT_KNOWN, f"Which Python {target.title} needs is not known.")
            )
        if findings := self._modules():
            worst = State.BREAKS if any(f.state is State.BREAKS for f in findings) else State.READ
            worst = worst if any(f.state is not State.OK for f in findings) else State.OK
            told = f"{_counted(len(findings), 'import')} of a module that the target does not have."
            items.append(Item("Python", "modules that are gone", worst, told, "Change these imports.", findings))
        return items

    def _modules(self) -> tuple[Finding, ...]:
        findings = []
        for row in self.table.rows("module"):
            key = "python" if "python" in row else "cuda"
            is_there, was_there = getattr(self.target, key), getattr(self.base, key)
            if (
                not is_there
                or numbers(is_there) < numbers(row[key])
                or (was_there and numbers(was_there) >= numbers(row[key]))
            ):
                continue
            for one in self.found.imports:
                if any(one.module == name or one.module.startswith(f"{name}.") for name in row["names"]):
                    caught = next((guard.words for guard in one.guards if guard.is_caught("ModuleNotFoundError")), "")
                    state = State.READ if caught or key == "cuda" else State.BREAKS
                    place = (f"{one.file}:{one.line}",)
                    findings.append(
                        Finding(
                            f"import {one.module}", "gone", state, place, row["told"], "", caught, True, row["source"]
                        )
                    )
        return tuple(findings)


def _grouped(findings: Iterable[Finding]) -> list[Finding]:
    """One finding for what is the same in several places."""
    grouped: dict[tuple[str, State, str], list[Finding]] = {}
    for finding in findings:
        grouped.setdefault((finding.what, finding.state, finding.guard), []).append(finding)
    return [
        replace(found[0], places=tuple(dict.fromkeys(place for one in found for place in one.places)))
        for found in grouped.values()
    ]


def _asks_for(text: str, option: str) -> bool:
    """Whether a literal text is this argument of trtexec, or a command line with it."""
    parts = text.split() if "trtexec" in text else [text]
    return any(part == option or part.startswith(f"{option}=") for part in parts)


def _swallows(guard: Guard) -> bool:
    """An ``except`` of everything: no crash, and whatever the code was for is not done either."""
    return guard.kind == "caught" and not guard.catches - {"Exception", "BaseException"}


def _meaning(number: Number, enum: Mapping[str, int]) -> str:
    """What an integer says to a version: the members whose bits are set, or the member of this number."""
    of_value = {value: name for name, value in enum.items()}
    if not number.is_mask:
        return of_value.get(number.value, "nothing")
    bits = [bit for bit in range(number.value.bit_length()) if number.value >> bit & 1]
    return " | ".join(of_value.get(bit, f"bit {bit}, which is nothing") for bit in bits)


class _NotUnderstoodError(Exception):
    """A test of the version in a form that is not known here."""


_COMPARE: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.In: lambda left, right: left in right,
    ast.NotIn: lambda left, right: left not in right,
}


_RECKON: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
}


def _evaluated(node: ast.expr, version: str) -> Any:
    """What a test of ``__version__`` gives for a version, by the few forms in which such tests are written."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Attribute):
        if node.attr == "__version__":
            return version
        parts = _evaluated(node.value, version)
        if isinstance(parts, tuple) and node.attr in ("release", "version"):
            return parts
        if isinstance(parts, tuple) and node.attr in (names := ("major", "minor", "micro")):
            return (*parts, 0, 0, 0)[names.index(node.attr)]
    if isinstance(node, ast.NamedExpr):
        return _evaluated(node.value, version)
    if isinstance(node, ast.BinOp) and type(node.op) in _RECKON:
        return _RECKON[type(node.op)](_evaluated(node.left, version), _evaluated(node.right, version))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return not _evaluated(node.operand, version)
    if isinstance(node, ast.BoolOp):
        values = [bool(_evaluated(value, version)) for value in node.values]
        return all(values) if isinstance(node.op, ast.And) else any(values)
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _COMPARE:
        left, right = _evaluated(node.left, version), _evaluated(node.comparators[0], version)
        return _COMPARE[type(node.ops[0])](left, right)
    if isinstance(node, (ast.Tuple, ast.List)):
        values = [_evaluated(value, version) for value in node.elts]
        return tuple(values) if isinstance(node, ast.Tuple) else values
    if isinstance(node, ast.Subscript):
        inside = node.slice
        at = (
            slice(
                *(
                    None if part is None else _evaluated(part, version)
                    for part in (inside.lower, inside.upper, inside.step)
                )
            )
            if isinstance(inside, ast.Slice)
            else _evaluated(inside, version)
        )
        return _evaluated(node.value, version)[at]
    if isinstance(node, (ast.GeneratorExp, ast.ListComp)):
        return _mapped(node, version)
    if isinstance(node, ast.Call) and not node.keywords:
        return _called(node, version)
    raise _NotUnderstoodError(ast.unparse(node))


def _mapped(node: ast.GeneratorExp | ast.ListComp, version: str) -> list[int]:
    """``int(x) for x in trt.__version__.split(".")``."""
    source, made = node.generators[0], node.elt
    is_int = isinstance(made, ast.Call) and getattr(made.func, "id", "") == "int"
    if len(node.generators) != 1 or source.ifs or not is_int:
        raise _NotUnderstoodError(ast.unparse(node))
    return [int(part) for part in _evaluated(source.iter, version)]


def _called(node: ast.Call, version: str) -> Any:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if name == "map" and len(node.args) == 2 and getattr(node.args[0], "id", "") == "int":
        return [int(part) for part in _evaluated(node.args[1], version)]
    arguments = [_evaluated(argument, version) for argument in node.args]
    if isinstance(node.func, ast.Attribute) and name in ("split", "rsplit", "partition", "startswith", "join"):
        text = _evaluated(node.func.value, version)
        if isinstance(text, str):
            return getattr(text, name)(*arguments)
    if (
        name in ("Version", "version", "parse", "parse_version", "LooseVersion", "StrictVersion")
        and len(arguments) == 1
    ):
        parts = list(numbers(str(arguments[0])))
        while parts and not parts[-1]:
            parts.pop()
        return tuple(parts)
    plain: Mapping[str, Callable[..., Any]] = {"int": int, "float": float, "str": str, "tuple": tuple, "list": list}
    if name in plain and isinstance(node.func, ast.Name):
        return plain[name](*arguments)
    raise _NotUnderstoodError(ast.unparse(node))


def _begins(version: str, with_version: str) -> bool:
    return bool(version) and numbers(version)[: len(numbers(with_version))] == numbers(with_version)


def _classes(names: Sequence[str]) -> str:
    return (
        names[0] if len(names) == 1 else "ILayer" if "ILayer" in names else f"{names[0]} (or {len(names) - 1} others)"
    )


def _where(calls: Sequence[Call]) -> str:
    return _places(tuple(f"{call.file}:{call.line}" for call in calls))


def _places(places: Sequence[str]) -> str:
    shown = ", ".join(places[:_PLACES])
    return shown if len(places) <= _PLACES else f"{shown} and {len(places) - _PLACES} more"


def _counted(count: int, what: str, several: str = "") -> str:
    return f"{count} {what if count == 1 else several or what + 's'}"


def _and(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]])) if words else "nothing"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _plain(text: str) -> str:
    """Text in a Markdown table or list: one line, and no mark-up of its own but code."""
    parts = " ".join(text.split()).replace("|", "\\|").split("`")
    if len(parts) % 2 == 0:
        parts = ["'".join(parts)]
    outside = [part.replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_") for part in parts[::2]]
    parts[::2] = outside
    return "`".join(parts)


def _code(text: str) -> str:
    return " ".join(text.replace("`", "'").split())
