"""What people and CI run. `nox -s gate` is the main job, `nox -s tests` the project's own tests; `nox -l` lists all."""

from __future__ import annotations

import json
import platform
import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2024.4.15"
nox.options.sessions = ["gate"]
nox.options.error_on_missing_interpreters = False

HERE = Path(__file__).parent
ON_JETSON = Path("/etc/nv_tegra_release").exists()
WATCHED = ("torch", "onnxruntime", "onnxruntime-gpu", "numpy", "tensorrt")
VERSIONS = (
    "import importlib.metadata as m, json\n"
    f"names = {WATCHED!r}\n"
    "found = {d.metadata['Name'].lower(): d.version for d in m.distributions() if d.metadata['Name']}\n"
    "print(json.dumps({n: found[n] for n in names if n in found}))"
)
AT_ONCE = ("-n", "auto", "--maxprocesses", "4", "--dist", "loadfile")  # a file stays together: its fixtures are dear
STEADY = ("--hypothesis-profile", "ci")  # the same examples on every machine; plain pytest draws new ones
BENCHES = (
    "infer", "trt", "commands", "files", "measure", "judge", "compare", "history", "report", "recompute", "verify",
)  # fmt: skip
EXTRAS = "jetson,report" if ON_JETSON else "ort,torch,models,rtx,report,sim"


def _versions(session: nox.Session) -> dict[str, str]:
    """The versions of the libraries that must not be replaced behind a user's back."""
    told = session.run("python", "-c", VERSIONS, silent=True)
    return dict(json.loads(str(told)))


def _install(session: nox.Session, *what: str) -> None:
    """Install with the constraints, and stop if a library that was there before has another version now."""
    before = _versions(session)
    pinned = not ON_JETSON and str(session.python or platform.python_version()).startswith("3.11")
    session.install(*(["-c", "constraints.txt"] if pinned else []), *what)
    after = _versions(session)
    session.log("versions before: " + (_words(before) or "none of those watched"))
    session.log("versions now:    " + (_words(after) or "none of those watched"))
    changed = [
        f"{name} {version} -> {after.get(name, 'gone')}"
        for name, version in before.items()
        if after.get(name) != version
    ]
    if changed:
        session.error(
            f"installing changed {', '.join(changed)}. On a Jetson these come from JetPack and must stay (README.md); "
            "elsewhere start afresh with: python -m nox --no-reuse-existing-virtualenvs"
        )


def _words(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _trigate(session: nox.Session, *arguments: str) -> None:
    """`trigate run`, with its exit code passed on unchanged (nox ends with 1 for any that is not 0)."""
    session.run("trigate", "run", *arguments, *session.posargs)


def _out(name: str) -> tuple[str, str]:
    import datetime

    stamp = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%d-%H%M%S")
    return "--out", str(Path("runs") / f"{name}-{stamp}")


@nox.session(venv_params=["--system-site-packages"] if ON_JETSON else [], reuse_venv=True)
def gate(session: nox.Session) -> None:
    """The main job: every tier that this host can run, on the flight models, with a report at the end."""
    _install(session, f".[{EXTRAS}]")
    _trigate(session, *_out("gate"))


@nox.session(venv_params=["--system-site-packages"] if ON_JETSON else [], reuse_venv=True)
@nox.parametrize("tier", [0, 1, 2], ids=["0", "1", "2"])
def tier(session: nox.Session, tier: int) -> None:
    """One tier, with the engines, sidecars and manifests that its rows are about in the run folder: `nox -s "tier(1)"`."""
    _install(session, f".[{EXTRAS}]")
    _trigate(session, "--tier", str(tier), "--publish", *_out(f"tier{tier}"))


@nox.session(reuse_venv=True)
def tests(session: nox.Session) -> None:
    """The project's own tests on this host, with all libraries that it can have."""
    _install(session, "-e", ".[dev]")
    session.run("python", "-m", "pytest", *AT_ONCE, *STEADY, *session.posargs)


@nox.session(python=["3.10", "3.12", "3.13"], reuse_venv=True)
def light(session: nox.Session) -> None:
    """Everything that needs no heavy library, on the other Pythons; what is marked as long is for `tests` alone."""
    _install(session, "-e", ".[report,test]")
    session.run("python", "-m", "pytest", *AT_ONCE, *STEADY, "-m", "not long", *session.posargs)


@nox.session(reuse_venv=True)
def lint(session: nox.Session) -> None:
    """Ruff: rules and format."""
    _install(session, "ruff")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session(reuse_venv=True)
def types(session: nox.Session) -> None:
    """Mypy, strict, on all code."""
    _install(session, "-e", ".[dev]")
    session.run("mypy", "runtime", "harness", "reports", "fixtures", "tiers", "tests", "docs", "noxfile.py")


@nox.session(reuse_venv=True)
def docs(session: nox.Session) -> None:
    """The documentation as a website in docs/_build, its reference written from the code; a warning is an error."""
    _install(session, "-e", ".[docs]")
    session.run("python", "-m", "sphinx", "-W", "--keep-going", "-q", "docs", "docs/_build", env={"COLUMNS": "100"})
    session.log("open docs/_build/index.html")


@nox.session(reuse_venv=True)
def selftest(session: nox.Session) -> None:
    """Plants each break of the mutation list in a copy of the tree: each must turn its named test red."""
    _install(session, "-e", ".[dev]")
    session.run("python", "-m", "tests.selftest.run", *session.posargs)


@nox.session(reuse_venv=True)
def bench(session: nox.Session) -> None:
    """What speed costs, as ratios against a peer in the same run."""
    _install(session, "-e", ".[dev]")
    files = [f"tests/benchmarks/bench_{name}.py" for name in BENCHES]
    session.run("python", "-m", "pytest", "-q", *files, *session.posargs)


@nox.session(reuse_venv=True)
def truth(session: nox.Session) -> None:
    """How often do the latency gates lie? Series of known truth; `-- --generator module:function` judges yours too."""
    _install(session, ".")
    session.run("python", "-m", "harness.statistics.truth", *session.posargs)


@nox.session(python="3.11", reuse_venv=True)
def api(session: nox.Session) -> None:
    """Reads the API manifests off the real bindings again: red where one differs from what the fakes are held against."""
    _install(session, "-e", ".[test]")
    not_run = []
    for manifest in sorted((HERE / "fixtures" / "api").glob("*.json")):
        package, version = manifest.stem.rsplit("-", 1)
        folder = Path(session.create_tmp()) / manifest.stem
        if why := _bindings(session, package, version, folder):
            not_run.append(f"{manifest.stem}: {why}")
            continue
        extension = folder / "tensorrt_bindings" / "tensorrt.so"
        reader = {"cuda-bindings": ["fixtures.api_cuda"], "tensorrt_rtx": ["fixtures.api_read", "tensorrt_rtx"]}.get(
            package, ["fixtures.api_read", "--extension", str(extension)]
        )
        session.run("python", "-m", *reader, "--compare", str(manifest), env={"PYTHONPATH": str(folder)})
    for line in not_run:
        session.warn(f"NOT RUN  {line}")


def _bindings(session: nox.Session, package: str, version: str, folder: Path) -> str:
    """Put the bindings of one release into a folder of their own; why not, if they cannot be had here."""
    wheel = {"tensorrt": "tensorrt_cu12_bindings", "tensorrt_rtx": "tensorrt-rtx"}.get(package, package)
    if package == "tensorrt" and shutil.which("cc") is None:
        return "no C compiler, which makes the empty libraries that the extension is loaded over"
    alone = ["--no-deps"] if package == "tensorrt" else []
    target = ["--quiet", "--target", str(folder), "--upgrade"]
    command = ["python", "-m", "pip", "install", *target, *alone, f"{wheel}=={version}"]
    session.run(*command, success_codes=[0, 1])
    return "" if folder.is_dir() and any(folder.iterdir()) else f"{wheel} {version} cannot be installed here"


@nox.session(venv_params=["--system-site-packages"] if ON_JETSON else [], reuse_venv=True)
def operators(session: nox.Session) -> None:
    """onnx's node tests through every library here, held against the ledgers; `-- --write` renews them."""
    _install(session, "-e", ".[ort,rtx]", "onnx")
    session.run("python", "-m", "fixtures.operators", *session.posargs)


@nox.session(reuse_venv=True)
def engines(session: nox.Session) -> None:
    """Real TensorRT-RTX engines of all flight and light models for SM 8.6, 8.9 and 12.0, with no GPU; none is built twice."""
    _install(session, ".[ort,models,rtx]")
    session.run("python", "-m", "fixtures.engines", "runs/engines", *session.posargs)
