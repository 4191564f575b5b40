"""What a Python source uses of TensorRT, by its syntax tree: nothing of it is imported or run.

A name is followed from its import, through plain assignments and annotations, to the class, enum or member that it stands
for; the class of an object from its constructor, and from the return types that the API's own signatures tell. What an
object of an unknown class is asked for is matched by name, and then is a use that is possible and not certain.
A notebook is read as its code cells, one after another. Of scripts that call tools (a shell's, make's, a container's) no syntax
is known: of them the options are words, line by line.

A use may stand under a guard: a test of ``hasattr``, of ``getattr`` with a default, of a value that such a test was kept
in (a field of a record of capabilities, say), of the version, or an ``except`` of what a missing name raises. A guard tells
under which condition the code is reached; whether that holds for a version is the reader's caller to say.
"""

from __future__ import annotations

import ast
import json
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

__all__ = ["Api", "Call", "Condition", "Guard", "Imported", "Number", "Source", "Use", "Word", "read_source"]

LIBRARIES = ("tensorrt", "tensorrt_rtx", "tensorrt_bindings", "tensorrt_rtx_bindings")
SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages", "build", "dist", "venv", "env"})
OTHER_LANGUAGES = (".c", ".cc", ".cpp", ".cu", ".cuh", ".cxx", ".go", ".h", ".hpp", ".java", ".js", ".rs", ".ts")
NOTEBOOK = ".ipynb"
SCRIPTS = (
    ".bash", ".bat", ".cfg", ".cmake", ".conf", ".env", ".ini", ".json", ".launch", ".mk", ".pbtxt", ".ps1", ".service", ".sh",
    ".toml", ".xml", ".yaml", ".yml",
)  # fmt: skip
_NAMED_SCRIPTS = ("Makefile", "makefile", "Dockerfile", "Containerfile", "Jenkinsfile", "justfile", "CMakeLists.txt")
_MOST_BYTES, _MOST_SCRIPT_BYTES, _MOST_LOOKED_BYTES = 32 << 20, 1 << 20, 4 << 20
_MAGIC = re.compile(r"^(\s*)(?:(?:[!?]|%\w).*|\w+ *= *[!%].*|[\w.()]+\?{1,2}\s*$)")
_OPTION = re.compile(r"(?<![\w-])--[A-Za-z]\w*|\btrt_\w+|\bORT_TENSORRT_\w+")
_MASKS = {
    "create_network": ("NetworkDefinitionCreationFlag", "flags"),
    "set_tactic_sources": ("TacticSource", "tactic_sources"),
}
"""Methods whose argument is a number with a bit for each member of an enum, and the argument's name."""
_BY_NAME = ("has_", "supports_", "can_")
_RAISED = ("AttributeError", "ImportError", "ModuleNotFoundError")
_ANYTHING = frozenset({"Exception", "BaseException"})
_LIBRARY_VERSION = ast.Attribute(ast.Name("trt", ast.Load()), "__version__", ast.Load())
"""What every way to ask for the version is put down to."""


@dataclass(frozen=True)
class Api:
    """The names of a library, of all versions that are looked at together.

    ``members``: of each name at the top, its members; ``enums``: which of those are enums; ``returns``: the class that
    ``Class.method`` gives back, where its signature says so. ``also``: other members that are worth finding.
    """

    members: Mapping[str, frozenset[str]]
    enums: frozenset[str]
    returns: Mapping[str, str]
    also: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Condition:
    """``path``: a name of the library (``BuilderFlag.FP16``; ``*.x``: a member of a class that is not known).
    ``is_there``: the code is reached only where the library has it, or only where it has not.
    """

    path: str
    is_there: bool = True


@dataclass(frozen=True)
class Guard:
    """A test that code stands under. ``words``: as written. ``conditions``: each of them must hold for it to be reached.

    ``kind``: ``names`` (``conditions`` say what it asks), ``caught`` (``catches`` has the exceptions by name), ``default``
    (``getattr`` with a default), ``by name`` (it is called like a capability), ``version`` (``test`` holds it, with the version
    in the place of every name that it was kept under). ``is_end``: where it does not hold the program ends or raises.
    """

    kind: str
    words: str
    conditions: tuple[Condition, ...] = ()
    test: ast.expr | None = None
    is_negated: bool = False
    catches: frozenset[str] = frozenset()
    is_end: bool = False

    def is_caught(self, error: str) -> bool:
        """Whether this error, of a name or module that is not there, goes no further."""
        bases = {error, "ImportError"} if error == "ModuleNotFoundError" else {error}
        return self.kind == "caught" and bool(self.catches & (bases | _ANYTHING))


@dataclass(frozen=True)
class Use:
    """One place. ``path``: ``BuilderFlag.FP16``, or ``*.device_memory_size`` for an object of an unknown class.

    ``functions``: those that it stands in, outermost first. ``is_computed``: a member that is chosen while it runs.
    ``raises``: what happens where the library has it not; empty where nothing does.
    """

    file: str
    line: int
    path: str
    is_certain: bool = True
    guards: tuple[Guard, ...] = ()
    functions: tuple[str, ...] = ()
    is_computed: bool = False
    raises: str = "AttributeError"


@dataclass(frozen=True)
class Number:
    """An enum's member as a literal integer. ``member``: what it is compared with; else ``value`` is read as the enum's:
    as a member's number, or as a ``mask`` with a bit for each.
    """

    file: str
    line: int
    enum: str
    value: int
    member: str = ""
    is_mask: bool = False
    words: str = ""
    guards: tuple[Guard, ...] = ()


@dataclass(frozen=True)
class Call:
    """A call of something by its last name. ``arguments``: how many; ``None`` where a star says it while it runs.
    ``options``: keywords that are given, and not as ``False`` or ``None``.
    """

    file: str
    line: int
    name: str
    guards: tuple[Guard, ...]
    functions: tuple[str, ...]
    arguments: int | None = None
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Imported:
    """A module that is imported, with what is taken from it: ``distutils.version``."""

    file: str
    line: int
    module: str
    guards: tuple[Guard, ...] = ()
    functions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Word:
    """A literal text."""

    file: str
    line: int
    text: str
    guards: tuple[Guard, ...] = ()
    functions: tuple[str, ...] = ()


@dataclass
class Source:
    """All that was found. ``unread``: (file, why). ``others``: files of other languages that name TensorRT, which no
    syntax tree of Python tells of; ``scripts``: those of which the options were read. ``defined``: the functions and methods
    of the source itself; ``handed_on``: those of them that are named without being called, so that nobody can see from where
    they are.
    """

    root: str
    files: int = 0
    uses: list[Use] = field(default_factory=list)
    numbers: list[Number] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    imports: list[Imported] = field(default_factory=list)
    words: list[Word] = field(default_factory=list)
    unread: list[tuple[str, str]] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    scripts: list[str] = field(default_factory=list)
    defined: set[str] = field(default_factory=set)
    handed_on: set[str] = field(default_factory=set)


def read_source(path: Path, api: Api) -> Source:
    """Every Python file, notebook and script of a folder, or one file. A file that is no Python of this interpreter is in
    ``unread``.

    Raises ``OSError`` where ``path`` itself cannot be read.
    """
    if path.is_dir():
        os.scandir(path).close()
        files, base = sorted(_files(path)), path
    else:
        files, base = [path], path.parent
    found = Source(str(path))
    trees: list[tuple[str, ast.Module]] = []
    for file in files:
        name = file.relative_to(base).as_posix()
        if file.suffix in OTHER_LANGUAGES or _is_script(file.name):
            _look_into(file, name, found)
            continue
        try:
            data = _bytes(file)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of theirs, about escapes and comparisons
                is_notebook = file.suffix == NOTEBOOK
                tree = _read_notebook(name, data, found) if is_notebook else ast.parse(data, filename=name)
                trees.append((name, tree))
        except (SyntaxError, ValueError) as error:
            found.unread.append((name, f"line {getattr(error, 'lineno', None) or '?'}: {getattr(error, 'msg', error)}"))
        except (OSError, RecursionError, MemoryError) as error:
            found.unread.append((name, getattr(error, "strerror", None) or type(error).__name__))
    found.files = len(trees) + len(found.unread)
    kept = _Kept()
    for _, tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                kept.functions.setdefault(node.name, []).append(node)
            elif isinstance(node, ast.ClassDef):
                fields = [
                    one for one in node.body if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)
                ]
                kept.fields[node.name] = {getattr(one.target, "id", ""): one.value for one in fields}
    found.defined |= set(kept.functions)
    for into in (
        Source(""),
        Source(""),
        found,
    ):  # fields that tests are kept in, then what follows from those, then all
        if into is not found:
            kept.given.clear()
        for name, tree in trees:
            try:
                _Reader(name, api, kept, into).read(tree)
            except RecursionError:
                if into is found:
                    found.unread.append((name, "an expression is nested too deeply"))
    return found


def _files(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in SKIPPED]
        known = (".py", NOTEBOOK, *OTHER_LANGUAGES)
        yield from (Path(folder, name) for name in names if name.endswith(known) or _is_script(name))


def _is_script(name: str) -> bool:
    return name.endswith(SCRIPTS) or name.startswith(_NAMED_SCRIPTS)


def _bytes(file: Path) -> bytes:
    if not file.is_file():  # a pipe would never end
        raise OSError(0, "it is no file that can be read")
    if file.stat().st_size > _MOST_BYTES:
        raise OSError(0, f"it has more than {_MOST_BYTES >> 20} MiB")
    return file.read_bytes()


def _look_into(file: Path, name: str, found: Source) -> None:
    """A file of another language by its name alone, where it names TensorRT; of a script the options too, as words of their
    lines, but for what a line only remarks. What is larger than any script is data.
    """
    is_script = file.suffix not in OTHER_LANGUAGES
    try:
        if not file.is_file() or (is_script and file.stat().st_size > _MOST_SCRIPT_BYTES):
            return
        with file.open("rb") as opened:
            data = opened.read(_MOST_LOOKED_BYTES)
    except OSError:
        return
    lower = data.lower()
    if not any(word in lower for word in (b"nvinfer", b"tensorrt", b"trtexec")):
        return
    if not is_script:
        found.others.append(name)
        return
    found.scripts.append(name)
    for number, line in enumerate(data.decode("utf-8", errors="replace").splitlines(), 1):
        if line.lstrip().startswith(("#", "//", "<!--", "REM ")):
            continue
        found.words += [Word(name, number, text) for text in ("trtexec", *_OPTION.findall(line)) if text in line]


def _read_notebook(name: str, data: bytes, found: Source) -> ast.Module:
    """The code cells of a notebook as one module, whose lines are those of the notebook's own file; a cell that is no Python is
    in ``unread``, and lines for the shell are read as a script's. Raises ``ValueError`` for what is no notebook.
    """
    lines = data.decode("utf-8").splitlines()
    try:
        cells = [cell for cell in json.loads(data)["cells"] if cell["cell_type"] == "code"]
        sources = ["".join(cell["source"]).splitlines() for cell in cells]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("it is no notebook with cells") from error
    module, at = ast.Module([], []), -1
    for number, source in enumerate(sources, 1):
        places = []
        for line in source:
            at = _place(lines, line, at)
            places.append(at + 1)
        is_python = not (source and source[0].startswith("%%"))
        for line, place in zip(source, places, strict=True):
            if not is_python or line.lstrip().startswith(("!", "%")):
                found.words += [Word(name, place, text) for text in ("trtexec", *_OPTION.findall(line)) if text in line]
        if not is_python:
            continue
        try:
            tree = _parsed_cell(source)
        except SyntaxError as error:
            found.unread.append((name, f"code cell {number}, line {error.lineno or '?'}: {error.msg}"))
            continue
        for node in ast.walk(tree):
            if isinstance(getattr(node, "lineno", None), int):
                node.lineno = places[min(node.lineno, len(places)) - 1]  # type: ignore[attr-defined]
        module.body += tree.body
    return module


def _parsed_cell(source: Sequence[str]) -> ast.Module:
    """Python as it stands, else without what only a notebook understands; a line keeps its number."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse("\n".join(source))
        except SyntaxError:
            return ast.parse("\n".join(_MAGIC.sub(r"\1pass", line) for line in source))


def _place(lines: Sequence[str], line: str, before: int) -> int:
    """Where a line of a cell stands in the notebook's file, after the line before it; there, if the file is one long line."""
    words = {json.dumps(line, ensure_ascii=is_ascii)[1:-1] for is_ascii in (True, False)}
    after = range(before + 1, len(lines))
    begins = (at for at in after if any(lines[at].lstrip().startswith(f'"{text}') for text in words))
    inside = (at for at in after if any(text in lines[at] for text in words))
    return next(begins, next(inside, max(before, 0))) if line else max(before, 0)


@dataclass(frozen=True)
class _Thing:
    """What an expression stands for: a ``path`` in the library (empty: the module), an object of class ``of``, or
    something ``other`` that is known not to be TensorRT's.
    """

    path: str | None = None
    of: str = ""
    other: bool = False


_OTHER = _Thing(other=True)


class _Scope:
    """Names of one function, class or module."""

    def __init__(self, parent: _Scope | None, is_class: bool = False) -> None:
        self.parent, self.is_class = parent, is_class
        self.things: dict[str, _Thing] = {}
        self.numbers: dict[str, int | None] = {}
        self.guards: dict[str, tuple[list[Guard], list[Guard]]] = {}
        self.made_under: dict[str, list[Guard] | None] = {}
        self.versions: dict[str, ast.expr | None] = {}

    def find(self, table: str, name: str) -> object:
        scope: _Scope | None = self
        while scope is not None:
            if name in getattr(scope, table) and (scope is self or not scope.is_class):
                return getattr(scope, table)[name]
            scope = scope.parent
        return None


@dataclass(frozen=True)
class _Result:
    """What a call of one of the source's own functions gave: the tests that went into its parameters."""

    function: ast.FunctionDef | ast.AsyncFunctionDef
    tests: Mapping[str, tuple[list[Guard], list[Guard]]]


@dataclass
class _Kept:
    """What is known over all files. ``tests``: what tests of the library were kept in, by the name of a field or constant,
    less those of ``other`` values. ``versions``: by a field or constant what it holds of the library's version, ``None`` where
    it holds something else too; ``told_by``: the names by which a file may ask for it. ``results``: by file and name.
    ``given``: by function and parameter, the guards under which callers give it, ``None`` where one gives it without.
    ``fields``: of classes, with their defaults.
    """

    tests: dict[str, tuple[list[Guard], list[Guard]]] = field(default_factory=dict)
    others: set[str] = field(default_factory=set)
    versions: dict[str, ast.expr | None] = field(default_factory=dict)
    told_by: set[str] = field(default_factory=set)
    results: dict[str, dict[str, _Result | None]] = field(default_factory=dict)
    given: dict[tuple[str, str], list[Guard] | None] = field(default_factory=dict)
    functions: dict[str, list[ast.FunctionDef | ast.AsyncFunctionDef]] = field(default_factory=dict)
    fields: dict[str, dict[str, ast.expr | None]] = field(default_factory=dict)

    def test(self, name: str) -> tuple[list[Guard], list[Guard]] | None:
        return None if name in self.others else self.tests.get(name)

    def keep(self, name: str, value: ast.expr, tests: tuple[list[Guard], list[Guard]] | None) -> None:
        if tests and all(guard.kind == "names" for guard in tests[0]):
            self.tests[name] = tests
        elif not _is_false(value):
            self.others.add(name)

    def function(self, name: str) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
        """The only one of this name."""
        found = self.functions.get(name, [])
        return found[0] if len(found) == 1 else None


class _Reader:
    def __init__(self, file: str, api: Api, kept: _Kept, found: Source) -> None:
        self.file, self.api, self.kept, self.found = file, api, kept, found
        self.scope = _Scope(None)
        self.guards: list[Guard] = []
        self.functions: list[str] = []
        self.attributes: dict[str, _Thing] = {}
        self.results = kept.results.setdefault(file, {})
        self.member_names = api.also.union(*api.members.values())
        self.touches = self.asks_version = False
        self.unfolding: set[str] = set()
        self.own_options: set[int] = set()
        self.called: set[int] = set()
        self.told: set[tuple[int, str]] = set()

    def read(self, tree: ast.Module) -> None:
        asking = {"__version__", "metadata", *self.kept.told_by}
        for node in ast.walk(tree):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = _imported(node)
                self.touches |= any(_is_library(name) for name in names)
                self.asks_version |= any(not asking.isdisjoint(name.split(".")) for name in names)
            elif isinstance(node, ast.Name):
                self.touches |= node.id == "trt"
                self.asks_version |= node.id in asking
            elif isinstance(node, ast.Attribute):
                self.asks_version |= node.attr in asking
        self._bind(tree.body)
        self._block(tree.body)

    # -- what names stand for ------------------------------------------------------------------------------------------

    def _bind(self, body: Sequence[ast.stmt]) -> None:
        """Names of one scope before it is walked: twice, for what is used above the line that makes it."""
        statements = list(_own_statements(body))
        for _ in range(2):
            for statement in statements:
                self._bind_one(statement)

    def _bind_one(self, node: ast.stmt) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                inside = _inside(alias.name) if alias.asname else ""
                self.scope.things[alias.asname or top] = _Thing(inside) if _is_library(alias.name) else _OTHER
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                is_module = alias.name in LIBRARIES
                if node.module and _is_library(node.module) and not node.level:
                    if alias.name == "*":
                        self.scope.things |= {name: _Thing(name) for name in self.api.members}
                    else:
                        self.scope.things[alias.asname or alias.name] = _Thing("" if is_module else alias.name)
                elif node.level or node.module == "__future__":
                    continue  # a sibling may hand the library on under its own name
                else:
                    self.scope.things[alias.asname or alias.name] = _OTHER
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                self._bind_target(target, node.value)
        elif isinstance(node, ast.AnnAssign):
            if (of := self._of_annotation(node.annotation)) is not None:
                self._store(node.target, of)
            elif node.value is not None:
                self._bind_target(node.target, node.value)
        elif isinstance(node, (ast.With, ast.AsyncWith)):
            for item in node.items:
                if item.optional_vars is not None:
                    self._bind_target(item.optional_vars, item.context_expr)
        elif isinstance(node, (ast.For, ast.AsyncFor)):
            self._store(node.target, self._of_elements(node.iter))

    def _bind_target(self, target: ast.expr, value: ast.expr) -> None:
        version = self._version(value)
        if isinstance(target, (ast.Tuple, ast.List)):
            if isinstance(value, (ast.Tuple, ast.List)) and len(target.elts) == len(value.elts):
                for left, right in zip(target.elts, value.elts, strict=True):
                    self._bind_target(left, right)
            elif version is not None:  # major, minor = …
                for at, left in enumerate(takewhile(lambda one: not isinstance(one, ast.Starred), target.elts)):
                    part = ast.Subscript(version, ast.Constant(at), ast.Load())
                    _keep_version(self.scope.versions, _last_name(left), part)
            return
        if isinstance(target, ast.Name) and not _is_false(value):
            _keep_version(self.scope.versions, target.id, version)
            if self.scope.parent is None and _is_called_so(target.id):
                self._keep_for_all(target.id, version)
        elif isinstance(target, ast.Attribute) and not _is_false(value) and (kept := self._field(target)):
            self._keep_for_all(kept, version)
        self._store(target, self._thing(value))
        if isinstance(target, ast.Name):
            folded = self._number(value)
            seen = self.scope.numbers.get(target.id, folded)
            self.scope.numbers[target.id] = folded if seen == folded else None
            guards = self._tests(value)
            if guards:
                self.scope.guards[target.id] = guards
            if self.scope.parent is None and (guards or target.id in self.kept.tests):
                self.kept.keep(target.id, value, guards)
            result = self._result(value)
            known_result = self.results.get(target.id, result)
            self.results[target.id] = result if known_result is None or result == known_result else None
        elif isinstance(target, ast.Attribute):
            self.kept.keep(target.attr, value, self._tests(value))

    def _result(self, value: ast.expr) -> _Result | None:
        if not isinstance(value, ast.Call) or (function := self.kept.function(_last_name(value.func))) is None:
            return None
        names = [one.arg for one in (*function.args.posonlyargs, *function.args.args)]
        given = {
            **dict(zip(names, value.args, strict=False)),
            **{one.arg: one.value for one in value.keywords if one.arg},
        }
        tests = {name: tests for name, argument in given.items() if (tests := self._tests(argument))}
        return _Result(function, tests) if tests else None

    def _implied(self, result: _Result, attribute: str) -> list[Guard]:
        """What must hold where a field of a function's result is true: in each of its returns that can make it so."""
        scope, self.scope = self.scope, _Scope(None)
        self.scope.guards |= result.tests
        try:
            ways: list[list[Guard]] = []
            for statement in _own_statements(result.function.body):
                if not isinstance(statement, ast.Return):
                    continue
                made = statement.value
                if not isinstance(made, ast.Call) or made.args:
                    return []
                defaults = self.kept.fields.get(_last_name(made.func), {})
                value = next((one.value for one in made.keywords if one.arg == attribute), defaults.get(attribute))
                if value is None:
                    return []
                if not _is_false(value):
                    ways.append(self._test(value, True))
        finally:
            self.scope = scope
        return [guard for guard in _common(ways) if guard.kind == "names"]

    def _store(self, target: ast.expr, thing: _Thing | None) -> None:
        if thing is None:
            return
        if isinstance(target, ast.Name):
            known = self.scope.things.get(target.id)
            if known is None or known.other or known == thing or not thing.other:
                self.scope.things[target.id] = thing
        elif isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and not thing.other:
            self.attributes[f"{target.value.id}.{target.attr}"] = thing

    def _of_annotation(self, node: ast.expr | None) -> _Thing | None:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            try:
                node = ast.parse(node.value, mode="eval").body
            except SyntaxError:
                return None
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            sides = [
                side for side in (node.left, node.right) if not (isinstance(side, ast.Constant) and side.value is None)
            ]
            return self._of_annotation(sides[0]) if len(sides) == 1 else None
        if isinstance(node, ast.Subscript):
            return self._of_annotation(node.slice) if _last_name(node.value) == "Optional" else None
        thing = self._thing(node) if node is not None else None
        return _Thing(of=thing.path) if thing is not None and thing.path and thing.path in self.api.members else None

    def _of_elements(self, node: ast.expr) -> _Thing | None:
        """What ``for x in …`` gives: of a network, its layers."""
        thing = self._thing(node)
        gives = self.api.returns.get(f"{thing.of}.__getitem__", "") if thing is not None and thing.of else ""
        return _Thing(of=gives) if gives in self.api.members else None

    def _thing(self, node: ast.expr) -> _Thing | None:  # one kind of node after another
        if isinstance(node, ast.Name):
            found = self.scope.find("things", node.id)
            if isinstance(found, _Thing):
                return found
            return _Thing("") if node.id == "trt" else None
        if isinstance(node, ast.Attribute):
            base = self._thing(node.value)
            if base is not None and base.path is not None:
                if not base.path and node.attr in LIBRARIES:
                    return base  # tensorrt.tensorrt
                if not base.path and base == self._convention(node.value) and node.attr not in self.api.members:
                    return None  # called trt, and perhaps a text that is
                return _Thing(f"{base.path}.{node.attr}".lstrip("."))
            if base is not None and base.of:
                gives = self.api.returns.get(f"{base.of}.{node.attr}")
                return _Thing(path=None, of=gives) if gives else None
            if isinstance(node.value, ast.Name) and (kept := self.attributes.get(f"{node.value.id}.{node.attr}")):
                return kept
            if node.attr == "trt":
                return _Thing("")
            if base is not None and base.other:
                return _OTHER
            return _Thing(node.attr) if node.attr in self.api.members and self._hands_on(node.value) else None
        if isinstance(node, ast.Call):
            return self._made(node)
        if isinstance(node, ast.Subscript):
            base = self._thing(node.value)
            gives = self.api.returns.get(f"{base.of}.__getitem__", "") if base is not None and base.of else ""
            return _Thing(of=gives) if gives in self.api.members else None
        if isinstance(node, ast.IfExp):
            return self._thing(node.body) or self._thing(node.orelse)
        if isinstance(node, ast.BoolOp):
            return next((thing for value in node.values if (thing := self._thing(value)) is not None), None)
        if isinstance(node, ast.NamedExpr):
            return self._thing(node.value)
        if isinstance(node, (ast.Constant, ast.JoinedStr, ast.List, ast.Dict, ast.Set, ast.Tuple)):
            return _OTHER if not (isinstance(node, ast.Constant) and node.value is None) else None
        return None

    def _convention(self, node: ast.expr) -> _Thing | None:
        """The module where a name only says so by being ``trt``."""
        is_called = (isinstance(node, ast.Name) and node.id == "trt" and self.scope.find("things", "trt") is None) or (
            isinstance(node, ast.Attribute) and node.attr == "trt"
        )
        return _Thing("") if is_called else None

    def _hands_on(self, node: ast.expr) -> bool:
        """Whether an expression may well be the library: ``library.module``, ``trt_utils`` of a sibling."""
        name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
        return name in {"module", "tensorrt", *LIBRARIES} or name.startswith("trt")

    def _made(self, call: ast.Call) -> _Thing | None:
        name = _last_name(call.func)
        first = call.args[0] if call.args else None
        if name in ("import_module", "__import__") and isinstance(first, ast.Constant) and isinstance(first.value, str):
            return _Thing("") if _is_library(first.value) else _OTHER
        if name == "getattr" and len(call.args) == 2 and (path := self._asked(call)):
            return None if path.startswith("*") else _Thing(path)
        if name == "enter_context" and first is not None:
            return self._thing(first)
        if isinstance(call.func, ast.Attribute):
            base = self._thing(call.func.value)
            if base is not None and base.of:
                gives = self.api.returns.get(f"{base.of}.{call.func.attr}", "")
                return _Thing(of=gives) if gives in self.api.members else None
        made = self._thing(call.func)
        if made is not None and made.path and made.path in self.api.members and made.path not in self.api.enums:
            gives = self.api.returns.get(made.path, made.path)
            return _Thing(of=gives) if gives else None
        return None

    def _asked(self, call: ast.Call) -> str:
        """The name that ``hasattr(x, "…")`` or ``getattr(x, "…")`` asks for; empty where ``x`` is not TensorRT's."""
        if len(call.args) < 2 or not isinstance(call.args[1], ast.Constant) or not isinstance(call.args[1].value, str):
            return ""
        thing = self._thing(call.args[0])
        if thing is None:
            return f"*.{call.args[1].value}" if self.touches else ""
        if thing.other:
            return ""
        return f"{thing.of or thing.path}.{call.args[1].value}".lstrip(".")

    def _number(self, node: ast.expr) -> int | None:
        """An integer that is written out: ``1``, ``1 << 0``, ``0x2 | 1``, ``int(1)``, or a name of such a one."""
        if isinstance(node, ast.Constant):
            return node.value if type(node.value) is int else None
        if isinstance(node, ast.Name):
            known = self.scope.find("numbers", node.id)
            return known if isinstance(known, int) else None
        if isinstance(node, ast.BinOp):
            left, right = self._number(node.left), self._number(node.right)
            if left is None or right is None or not 0 <= right < 64:
                return None
            if isinstance(node.op, ast.LShift):
                return left << right
            return left | right if isinstance(node.op, ast.BitOr) else None
        if isinstance(node, ast.Call) and _last_name(node.func) == "int" and len(node.args) == 1:
            return self._number(node.args[0])
        return None

    # -- tests ---------------------------------------------------------------------------------------------------------

    def _tests(self, node: ast.expr) -> tuple[list[Guard], list[Guard]] | None:
        """(guards where it holds, guards where it does not) of an expression that asks what the library can do."""
        yes, no = self._test(node, True), self._test(node, False)
        return (yes, no) if yes or no else None

    def _test(self, node: ast.expr, holds: bool) -> list[Guard]:
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return self._test(node.operand, not holds)
        if isinstance(node, ast.BoolOp):
            if isinstance(node.op, ast.And) == holds:
                return [guard for value in node.values for guard in self._test(value, holds)]
            return []
        if isinstance(node, ast.NamedExpr):
            return self._test(node.value, holds)
        if isinstance(node, ast.Call) and _last_name(node.func) in ("bool", "callable") and node.args:
            return self._test(node.args[0], holds)
        if (
            isinstance(node, ast.Call)
            and _last_name(node.func) in ("hasattr", "getattr")
            and (path := self._asked(node))
        ):
            return [Guard("names", _words(node), (Condition(path, holds),))]
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            operator, right = node.ops[0], node.comparators[0]
            if isinstance(right, ast.Constant) and right.value is None and isinstance(operator, (ast.Is, ast.IsNot)):
                return self._test(node.left, holds == isinstance(operator, ast.IsNot))
            if isinstance(operator, (ast.In, ast.NotIn)) and (path := self._listed(node.left, right)):
                return [Guard("names", _words(node), (Condition(path, holds == isinstance(operator, ast.In)),))]
        known = self._known_test(node, holds) if isinstance(node, (ast.Name, ast.Attribute)) else []
        if not known and (version := self._version(node)) is not None:
            return [Guard("version", _words(node), (), version, not holds)]
        return known

    def _known_test(self, node: ast.Name | ast.Attribute, holds: bool) -> list[Guard]:
        """What a name or field holds of a test that was made elsewhere."""
        if isinstance(node, ast.Name):
            known = self.scope.find("guards", node.id)
            if known is None and self.scope.find("things", node.id) is None:
                known = self.kept.test(node.id)
            if isinstance(known, tuple):
                return [
                    replace(guard, words=f"`{node.id}`, which is {guard.words}") for guard in known[0 if holds else 1]
                ]
            made = self.scope.find("made_under", node.id)
            if isinstance(made, list) and holds:
                return [replace(guard, words=f"`{node.id}`, made only under {guard.words}") for guard in made]
            for function in reversed(self.functions):
                given = self.kept.given.get((function, node.id))
                if given and holds:
                    return [replace(guard, words=f"`{node.id}`, given only under {guard.words}") for guard in given]
            return []
        where = _words(node)
        if (kept := self.kept.test(node.attr)) is not None:
            return [replace(guard, words=f"{where}, which is {guard.words}") for guard in kept[0 if holds else 1]]
        result = self.results.get(node.value.id) if isinstance(node.value, ast.Name) else None
        if result is not None and holds and (implied := self._implied(result, node.attr)):
            by = f"`{result.function.name}`"
            return [replace(guard, words=f"{where}, which {by} sets only under {guard.words}") for guard in implied]
        if node.attr.startswith(_BY_NAME) and "cap" in _last_name(node.value).lower() and holds:
            return [Guard("by name", where)]
        return []

    def _version(self, node: ast.expr) -> ast.expr | None:
        """An expression of the library's version, with the version in the place of all that it was kept under; ``None`` where
        it asks nothing of it, or asks another library's too.
        """
        if not self.asks_version:
            return None
        parts = [part for part in ast.walk(node) if isinstance(part, (ast.Name, ast.Attribute, ast.Call))]
        known = {id(part): version for part in parts if (version := self._version_of(part)) is not None}
        is_foreign = any(getattr(part, "attr", "") == "__version__" and id(part) not in known for part in parts)
        return _put_in(node, known) if known and not is_foreign else None

    def _field(self, node: ast.Attribute) -> str:
        """By what the version is kept that a field holds: one called like the library is the same everywhere, another of ``self``
        in its own file; of any other nobody knows whose it is.
        """
        if _is_called_so(node.attr):
            return node.attr
        return f"{self.file}: {node.attr}" if getattr(node.value, "id", "") in ("self", "cls") else ""

    def _keep_for_all(self, name: str, version: ast.expr | None) -> None:
        _keep_version(self.kept.versions, name, version)
        if version is not None:
            self.kept.told_by.add(name.rpartition(" ")[2])

    def _version_of(self, node: ast.Name | ast.Attribute | ast.Call) -> ast.expr | None:
        """Of one name, field or call: the version, or what was made of it elsewhere."""
        if isinstance(node, ast.Attribute):
            thing = self._thing(node.value) if node.attr == "__version__" else None
            is_it = thing is not None and thing.path == ""
            return _LIBRARY_VERSION if is_it else self.kept.versions.get(self._field(node))
        if isinstance(node, ast.Name):
            found = self.scope.find("versions", node.id)
            if found is None and _is_called_so(node.id):
                found = self.kept.versions.get(node.id)  # of a sibling
            is_it = self.scope.find("things", node.id) == _Thing("__version__")
            return _LIBRARY_VERSION if is_it else found if isinstance(found, ast.expr) else None
        name, first = _last_name(node.func), node.args[0] if node.args else None
        if name == "version" and isinstance(first, ast.Constant) and first.value == "tensorrt":
            return _LIBRARY_VERSION  # of importlib.metadata
        function = self.kept.function(name)
        if function is None or node.args or node.keywords or name in self.unfolding:
            return None
        body = [one for one in function.body if not (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant))]
        if len(body) != 1 or not isinstance(body[0], ast.Return) or body[0].value is None:
            return None
        self.unfolding.add(name)
        try:
            return self._version(body[0].value)
        finally:
            self.unfolding.discard(name)

    def _listed(self, left: ast.expr, right: ast.expr) -> str:
        """``"FP16" in trt.BuilderFlag.__members__`` or in ``dir(trt.BuilderFlag)``."""
        if not isinstance(left, ast.Constant) or not isinstance(left.value, str):
            return ""
        if isinstance(right, ast.Call) and _last_name(right.func) == "dir" and right.args:
            right = right.args[0]
        elif isinstance(right, ast.Attribute) and right.attr in ("__members__", "__dict__"):
            right = right.value
        else:
            return ""
        thing = self._thing(right)
        return f"{thing.path}.{left.value}".lstrip(".") if thing is not None and thing.path is not None else ""

    # -- the walk ------------------------------------------------------------------------------------------------------

    def _block(self, body: Sequence[ast.stmt]) -> None:
        depth = len(self.guards)
        for statement in body:
            self._statement(statement)
            if isinstance(statement, ast.If) and not statement.orelse and _leaves(statement.body):
                is_end = _ends(statement.body)
                self.guards += [replace(one, is_end=is_end) for one in self._test(statement.test, False)]
            elif isinstance(statement, ast.Assert):
                self.guards += [replace(one, is_end=True) for one in self._test(statement.test, True)]
        del self.guards[depth:]

    def _under(self, guards: list[Guard], body: Sequence[ast.stmt]) -> None:
        depth = len(self.guards)
        self.guards += guards
        self._block(body)
        del self.guards[depth:]

    def _statement(self, node: ast.stmt) -> None:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            self._function(node)
        elif isinstance(node, ast.ClassDef):
            self._class(node)
        elif isinstance(node, (ast.If, ast.While)):
            self._expression(node.test)
            self._under(self._test(node.test, True), node.body)
            self._under(self._test(node.test, False), node.orelse)
        elif isinstance(node, ast.Try) or type(node).__name__ == "TryStar":
            self._try(node)  # type: ignore[arg-type]
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            self._import(node)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            pass  # a docstring
        else:
            if isinstance(node, ast.Return) and node.value is not None and self._version(node.value) is not None:
                self.kept.told_by.update(self.functions[-1:])
            if isinstance(node, (ast.Assign, ast.AnnAssign)):
                self._note_made(node)
            if isinstance(node, (ast.Assign, ast.AugAssign)):
                self._flags(node)
            for _, value in ast.iter_fields(node):
                for child in value if isinstance(value, list) else [value]:
                    if isinstance(child, ast.expr):
                        self._expression(child)
                    elif isinstance(child, (ast.withitem, ast.match_case)):
                        self._parts(child)
            for name in ("body", "orelse"):
                if isinstance(inner := getattr(node, name, None), list):
                    self._under(_suppressed(node) if name == "body" else [], inner)

    def _parts(self, node: ast.withitem | ast.match_case) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self._expression(child)
        if isinstance(node, ast.match_case):
            for pattern in ast.walk(node.pattern):
                if isinstance(pattern, ast.MatchValue):
                    self._expression(pattern.value)
            self._block(node.body)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        outside = [*node.decorator_list, *node.args.defaults, *[d for d in node.args.kw_defaults if d is not None]]
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        for expression in [*outside, *[one.annotation for one in arguments if one.annotation is not None]]:
            self._expression(expression)
        if node.returns is not None:
            self._expression(node.returns)
        bound = {one.arg: thing for one in arguments if (thing := self._of_annotation(one.annotation)) is not None}
        self.scope = _Scope(self.scope)
        self.scope.things |= bound
        self.scope.numbers |= dict.fromkeys((one.arg for one in arguments), None)
        self.functions.append(node.name)
        kept, self.guards = self.guards, list(self.guards)
        self._bind(node.body)
        self._block(node.body)
        self.guards = kept
        self.functions.pop()
        assert self.scope.parent is not None
        self.scope = self.scope.parent

    def _class(self, node: ast.ClassDef) -> None:
        for expression in [*node.decorator_list, *node.bases, *[keyword.value for keyword in node.keywords]]:
            self._expression(expression)
        self.scope = _Scope(self.scope, is_class=True)
        self._bind(node.body)
        self._block(node.body)
        assert self.scope.parent is not None
        self.scope = self.scope.parent

    def _try(self, node: ast.Try) -> None:
        caught = [
            Guard(
                "caught",
                f"except {_words(one.type) if one.type is not None else 'everything'}",
                catches=names,
                is_end=_ends(one.body),
            )
            for one in node.handlers
            if (names := _caught(one.type)) and not any(isinstance(inner, ast.Raise) for inner in ast.walk(one))
        ]
        self._under(caught, node.body)
        for handler in node.handlers:
            self._block(handler.body)
        self._block(node.orelse)
        self._block(node.finalbody)

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        for name in _imported(node):
            self.found.imports.append(Imported(self.file, node.lineno, name, tuple(self.guards), tuple(self.functions)))
            if isinstance(node, ast.Import) and _is_library(name) and (inside := _inside(name)):
                self._use(node, inside, raises="ModuleNotFoundError")
        if isinstance(node, ast.ImportFrom) and node.module and _is_library(node.module) and not node.level:
            for alias in node.names:
                if alias.name != "*" and alias.name not in LIBRARIES:
                    self._use(node, alias.name, raises="ImportError")

    def _note_made(self, node: ast.Assign | ast.AnnAssign) -> None:
        """Under which guards a name is given a value; one that is given it without is under none."""
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        is_nothing = isinstance(node.value, ast.Constant) and node.value.value is None
        for target in targets:
            if isinstance(target, ast.Name) and node.value is not None and not is_nothing:
                asked = [guard for guard in self.guards if guard.kind != "caught"]
                known = self.scope.made_under.get(target.id, asked)
                self.scope.made_under[target.id] = None if known is None or not asked else _common([known, asked])

    def _flags(self, node: ast.Assign | ast.AugAssign) -> None:
        """``config.flags = 1 << 3``."""
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            if isinstance(target, ast.Attribute) and target.attr == "flags" and (value := self._number(node.value)):
                thing = self._thing(target.value)
                if (thing is None and self.touches) or (thing is not None and thing.of == "IBuilderConfig"):
                    self._counted(node, "BuilderFlag", value, is_mask=True)

    def _expression(self, node: ast.expr) -> None:
        if isinstance(node, ast.BoolOp):
            depth = len(self.guards)
            for value in node.values:
                self._expression(value)
                self.guards += self._test(value, isinstance(node.op, ast.And))
            del self.guards[depth:]
            return
        if isinstance(node, ast.IfExp):
            self._expression(node.test)
            for part, holds in ((node.body, True), (node.orelse, False)):
                depth = len(self.guards)
                self.guards += self._test(node.test, holds)
                self._expression(part)
                del self.guards[depth:]
            return
        if isinstance(node, ast.Call):
            self._call(node)
        elif isinstance(node, ast.Compare):
            self._compare(node)
        elif isinstance(node, (ast.Name, ast.Attribute)):
            self._name(node)
        elif isinstance(node, ast.Subscript):
            self._subscript(node)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in self.own_options:
            self._word(node, node.value)
        elif isinstance(node, ast.Dict):
            off = (False, None, 0, "0", "false", "False")
            pairs = zip(node.keys, node.values, strict=True)
            self.own_options |= {
                id(key) for key, value in pairs if isinstance(value, ast.Constant) and value.value in off
            }
        elif isinstance(node, ast.JoinedStr):
            texts = [str(one.value) if isinstance(one, ast.Constant) else "{}" for one in node.values]
            self._word(node, "".join(texts))
        for child in ast.iter_child_nodes(node):
            if isinstance(node, ast.JoinedStr) and isinstance(child, ast.Constant):
                continue
            if isinstance(child, ast.expr):
                self._expression(child)
            elif isinstance(child, (ast.keyword, ast.comprehension, ast.arguments)):
                for inner in ast.iter_child_nodes(child):
                    if isinstance(inner, ast.expr):
                        self._expression(inner)

    def _word(self, node: ast.expr, text: str) -> None:
        self.found.words.append(Word(self.file, node.lineno, text, tuple(self.guards), tuple(self.functions)))

    def _call(self, node: ast.Call) -> None:
        name = _last_name(node.func)
        self.called.add(id(node.func))
        if name in ("add_argument", "add_option", "option"):
            self.own_options |= {id(argument) for argument in node.args}
        has_star = any(isinstance(one, ast.Starred) for one in node.args) or any(
            one.arg is None for one in node.keywords
        )
        count = None if has_star else len(node.args) + len(node.keywords)
        guards, functions = tuple(self.guards), tuple(self.functions)
        options = tuple(one.arg for one in node.keywords if one.arg and not _is_false(one.value))
        self.found.calls.append(Call(self.file, node.lineno, name, guards, functions, count, options))
        for keyword in node.keywords:
            if keyword.arg and keyword.arg.startswith(_BY_NAME):
                self.kept.keep(keyword.arg, keyword.value, self._tests(keyword.value))
            if keyword.arg:
                self._note_given(name, keyword.arg, keyword.value)
        if (function := self.kept.function(name)) is not None:
            arguments = [*function.args.posonlyargs, *function.args.args]
            is_method = isinstance(node.func, ast.Attribute) and bool(arguments) and arguments[0].arg in ("self", "cls")
            for parameter, passed in zip(arguments[1:] if is_method else arguments, node.args, strict=False):
                self._note_given(name, parameter.arg, passed)
        if name in ("getattr", "setattr", "delattr") and len(node.args) >= 2:
            if path := self._asked(node):
                extra = [Guard("default", _words(node))] if name == "getattr" and len(node.args) > 2 else []
                is_certain = not path.startswith("*")
                if is_certain or not extra:
                    self._use(node, path, is_certain=is_certain, extra=extra)
            elif (thing := self._thing(node.args[0])) is not None and thing.path in self.api.enums:
                self._use(node, f"{thing.path}.*", is_computed=True)
        if name in _MASKS and isinstance(node.func, ast.Attribute):
            enum, argument = _MASKS[name]
            given = next((keyword.value for keyword in node.keywords if keyword.arg == argument), None)
            given = given if given is not None else node.args[0] if node.args else None
            if given is not None and (value := self._number(given)):
                self._counted(node, enum, value, is_mask=True)
        made = self._thing(node.func)
        if made is not None and made.path in self.api.enums and len(node.args) == 1:
            value = self._number(node.args[0])
            if value is not None:
                self._counted(node, made.path or "", value)

    def _note_given(self, function: str, parameter: str, value: ast.expr) -> None:
        if isinstance(value, ast.Constant) and value.value is None:
            return
        is_choice = (
            isinstance(value, ast.IfExp) and isinstance(value.orelse, ast.Constant) and value.orelse.value is None
        )
        asked = [*self.guards, *(self._test(value.test, True) if isinstance(value, ast.IfExp) and is_choice else [])]
        asked = [guard for guard in asked if guard.kind in ("names", "by name")]
        key = (function, parameter)
        known = self.kept.given.get(key, asked)
        self.kept.given[key] = None if known is None or not asked else _common([known, asked])

    def _compare(self, node: ast.Compare) -> None:
        sides = [node.left, *node.comparators]
        members = [member for side in sides if (member := self._member(side))]
        values = [value for side in sides if (value := self._number(side)) is not None]
        for member in members:
            for value in values:
                enum, _, name = member.partition(".")
                self._counted(node, enum, value, member=name)

    def _member(self, node: ast.expr) -> str:
        """``Enum.MEMBER`` of an expression that is it, or its number."""
        if isinstance(node, ast.Call) and _last_name(node.func) == "int" and len(node.args) == 1:
            return self._member(node.args[0])
        if isinstance(node, ast.Attribute) and node.attr == "value":
            return self._member(node.value)
        thing = self._thing(node)
        enum, _, name = ((thing.path if thing is not None else None) or "").partition(".")
        return f"{enum}.{name}" if enum in self.api.enums and name and "." not in name else ""

    def _counted(self, node: ast.AST, enum: str, value: int, *, member: str = "", is_mask: bool = False) -> None:
        self.found.numbers.append(
            Number(
                self.file, getattr(node, "lineno", 0), enum, value, member, is_mask, _words(node), tuple(self.guards)
            )
        )

    def _subscript(self, node: ast.Subscript) -> None:
        """``trt.BuilderFlag.__members__["FP16"]``."""
        if isinstance(node.value, ast.Attribute) and node.value.attr == "__members__":
            thing = self._thing(node.value.value)
            if thing is not None and thing.path in self.api.enums:
                if isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
                    self._use(node, f"{thing.path}.{node.slice.value}")
                else:
                    self._use(node, f"{thing.path}.*", is_computed=True)

    def _name(self, node: ast.Name | ast.Attribute) -> None:
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            return
        if id(node) not in self.called and (name := _last_name(node)) in self.kept.functions:
            self.found.handed_on.add(name)
        thing = self._thing(node)
        if thing is not None and thing.path:
            self._use(node, ".".join(thing.path.split(".")[:2]))
            return
        if not isinstance(node, ast.Attribute):
            return
        base = self._thing(node.value)
        if base is not None and base.of:
            self._use(node, f"{base.of}.{node.attr}")
        elif base is None and not node.attr.startswith("_"):
            is_set = isinstance(node.ctx, ast.Store)
            if node.attr in self.member_names and ("_" in node.attr or (is_set and self.touches)):
                self._use(node, f"*.{node.attr}", is_certain=False)

    def _use(
        self,
        node: ast.AST,
        path: str,
        *,
        is_certain: bool = True,
        is_computed: bool = False,
        extra: Sequence[Guard] = (),
        raises: str = "AttributeError",
    ) -> None:
        line = int(getattr(node, "lineno", 0))
        if path.startswith("__") or path.rpartition(".")[2].startswith("__") or (line, path) in self.told:
            return
        self.told.add((line, path))
        guards = (*self.guards, *extra)
        self.found.uses.append(
            Use(self.file, line, path, is_certain, guards, tuple(self.functions), is_computed, raises)
        )


def _common(ways: Sequence[Sequence[Guard]]) -> list[Guard]:
    """The guards that stand on each of several ways to the same place."""
    first, rest = (ways[0], [{_asked_by(guard) for guard in way} for way in ways[1:]]) if ways else ((), [])
    return [guard for guard in first if all(_asked_by(guard) in way for way in rest)]


def _asked_by(guard: Guard) -> tuple[object, ...]:
    """What a guard asks, however it came to be asked."""
    test = ast.unparse(guard.test) if guard.test is not None else guard.words if not guard.conditions else ""
    return guard.kind, guard.conditions, test, guard.is_negated


def _own_statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements of a scope, those in its blocks too, without those of the functions and classes in it."""
    for statement in body:
        yield statement
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        for name in ("body", "orelse", "finalbody"):
            yield from _own_statements(getattr(statement, name, []))
        for inner in [*getattr(statement, "handlers", []), *getattr(statement, "cases", [])]:
            yield from _own_statements(inner.body)


def _is_library(module: str) -> bool:
    return module.partition(".")[0] in LIBRARIES


def _inside(module: str) -> str:
    """``plugin`` of ``tensorrt.plugin``; empty for the compiled module, which is ``tensorrt.tensorrt``."""
    inside = module.partition(".")[2]
    return "" if inside in LIBRARIES else inside


def _imported(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if node.level or not node.module:
        return []
    return [f"{node.module}.{alias.name}" for alias in node.names]


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _words(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return f"`{text if len(text) <= 80 else text[:79] + '…'}`"


def _is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value in (None, False)


def _is_called_so(name: str) -> bool:
    """Whether a name says that it is of the library."""
    return "trt" in name.lower() or "tensorrt" in name.lower()


def _keep_version(kept: dict[str, ast.expr | None], name: str, version: ast.expr | None) -> None:
    """Keep it under a name, unless that holds something else too."""
    if name in kept:
        earlier = kept[name]
        is_same = version is not None and earlier is not None and ast.dump(earlier) == ast.dump(version)
        kept[name] = version if is_same else None
    elif version is not None:
        kept[name] = version


def _put_in(node: Any, parts: Mapping[int, ast.expr]) -> Any:
    """An expression with parts of it, by their ``id``, replaced; it stays as it is."""
    if isinstance(node, list):
        return [_put_in(one, parts) for one in node]
    if not isinstance(node, ast.AST) or id(node) in parts:
        return parts.get(id(node), node)
    return type(node)(**{name: _put_in(value, parts) for name, value in ast.iter_fields(node)})


def _leaves(body: Sequence[ast.stmt]) -> bool:
    return isinstance(body[-1], (ast.Return, ast.Continue, ast.Break)) or _ends(body)


def _ends(body: Sequence[ast.stmt]) -> bool:
    """Whether the program ends there, or raises."""
    last = body[-1]
    if isinstance(last, ast.Expr) and isinstance(last.value, ast.Call):
        return _last_name(last.value.func) in ("exit", "_exit", "quit")
    return isinstance(last, ast.Raise)


def _suppressed(node: ast.stmt) -> list[Guard]:
    """What ``with contextlib.suppress(…)`` catches."""
    items = node.items if isinstance(node, (ast.With, ast.AsyncWith)) else []
    calls = [one.context_expr for one in items if isinstance(one.context_expr, ast.Call)]
    return [
        Guard("caught", _words(call), catches=names)
        for call in calls
        if _last_name(call.func) == "suppress" and (names := _caught(ast.Tuple(call.args, ast.Load())))
    ]


def _caught(kind: ast.expr | None) -> frozenset[str]:
    """Of what an ``except`` names, that which says that a name or module is not there."""
    if kind is None:
        return frozenset({"BaseException"})
    kinds = kind.elts if isinstance(kind, ast.Tuple) else [kind]
    return frozenset(map(_last_name, kinds)) & {*_RAISED, *_ANYTHING}
