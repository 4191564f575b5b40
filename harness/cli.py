"""The command line: the roof of the house. It may import everything, nothing imports it; heavy things only when used."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from harness.commands import compare, history, judge, key, preflight, report, sign, telemetry, verify
from harness.commands.common import check_root, command, default_cache, draw, plain, print_end, stamp, tell, version

if TYPE_CHECKING:
    from harness.assemble import House, Request
    from harness.estimate import Cost
    from harness.measure import Build
    from harness.packs.model import SourceModel
    from harness.records import Case, Run, Verdict
    from harness.run import Job, Progress
    from runtime.config import RuntimeConfig
    from runtime.logs import Record

__all__ = ["main", "make_parser"]

LABELS = ("tensorrt", "onnx_trt_ep", "pytorch_fp16")  # runtime.LABELS, without the price of importing numpy for --help

EPILOG = """\
exit codes: 0 every required row passes; 1 a row fails; 2 the call or the configuration is wrong; 3 nothing fails but
something required is INCONCLUSIVE, MEASURED or NOT RUN, or nothing was judged or measured; 4 internal error; 130 Ctrl-C
required of a runtime that is named: numerics (tier 1), its own clauses (tier 0), and what the board limits of tier 2 under
pr and signoff; a row of tier 2 without a budget here, or under quick, may be MEASURED or NOT RUN beside a 0
"""

RUN_EXAMPLES = """\
examples:
  trigate run                                    the built-in flight models, every tier that this host can run
  trigate run --model matcher.onnx               any ONNX file, with inputs made up from its signature
  trigate run --model light_squeezenet --tier 1  a model of the onnx package, with its expected outputs
  trigate run my.toml --require tensorrt         fails with exit code 3 where TensorRT shows nothing
  trigate run my.toml --publish                  what a CI job uploads: the run, and the engines that it is about
  trigate run my.toml --dry-run                  which rows there would be, why some cannot run, hours and disk
  trigate run --simulated throttles_after_400s   an hour on a simulated Orin that gets too hot, in seconds
  trigate run --like runs/jp62a --out runs/jp72  after a reflash: what that run measured, to be compared with it
  trigate run my.toml --builds 3                 three engines of each kind, since two builds of one version differ
  trigate run --against old/bin/python --out b   this environment against another one, in turn, on this host
  trigate run -- -k disk                         what comes after -- goes to pytest: -k, -m, -p, ...
"""


COMPILE_EXAMPLES = """\
examples:
  trigate compile matcher.onnx                            for this host's GPU, in fp16
  trigate compile matcher.onnx --sm 89                    with TensorRT-RTX, on a machine without a GPU
  trigate compile matcher.onnx --precision int8 --calibration frames/
  trigate compile matcher.onnx --shapes "points:1x64x2..1x512x2..1x2048x2"

exit codes: 0 built, or nothing to build; 1 the build failed; 2 the call is wrong (the model is none, int8 without
--calibration, ...) or a library is missing; 4 internal error; 130 Ctrl-C. --json prints an object in every case: the entry, or
error and exit_code
"""


INSPECT_EXAMPLES = """\
examples:
  trigate inspect engines/matcher__sm87_jp6.2_trt10.3_fp16.engine   each reason why it would be refused here, if any
  trigate inspect engines/*.engine                                  a line each
  trigate inspect runs/a                                            its verdict, what it has published, what is missing

exit codes: 0 in order: an engine would pass here, a run or a pack is whole (whatever the run's verdict); 1 refused or damaged:
a run folder lacks a file that its run.json names; 2 the call is wrong
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command ``trigate``: parse, do, and end with the exit code of RE-04."""
    words = list(sys.argv[1:] if argv is None else argv)
    cut = words.index("--") if "--" in words else len(words)
    try:
        parser = make_parser()
        arguments, unknown = parser.parse_known_args(words[:cut])
        if unknown:
            parser.prog += f" {arguments.command}"
            parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    except _WrongCall as wrong:
        if "--json" in words[:cut]:
            print(json.dumps({"error": wrong.sentence, "exit_code": 2}))
        raise
    arguments.command_line, arguments.pytest = ["trigate", *words], words[cut + 1 :]
    from harness.errors import UsageError

    try:
        return int(arguments.do(arguments))
    except UsageError as error:
        return _refuse(str(error), arguments)
    except KeyboardInterrupt:
        return _refuse("Interrupted.", arguments, 130)
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        from runtime.errors import RuntimeCoreError

        if isinstance(error, RuntimeCoreError):
            return _refuse(str(error), arguments)
        if _was_interrupted(error):
            return _refuse("Interrupted.", arguments, 130)
        import traceback

        traceback.print_exc()
        return _refuse(f"internal error: {error!r}. Please report it with the lines above.", arguments, 4)


def _was_interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind it: torch's exporter wraps a KeyboardInterrupt into an error of its own."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _refuse(sentence: str, arguments: argparse.Namespace, code: int = 2) -> int:
    """Tell people, and machines where they asked; the exit code."""
    if getattr(arguments, "json", False):
        print(json.dumps({"error": sentence, "exit_code": code}))
    print(sentence if code == 130 else f"trigate: {plain(sentence)}", file=sys.stderr)
    return code


class _WrongCall(SystemExit):
    """``sentence``: what is wrong; it is on standard error already."""

    def __init__(self, sentence: str) -> None:
        super().__init__(2)
        self.sentence = sentence


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        sentence = f"{message}. Try `{self.prog} --help`."
        print(f"trigate: {sentence}", file=sys.stderr)
        raise _WrongCall(sentence)


def make_parser() -> argparse.ArgumentParser:
    """The whole command line; the documentation prints its help."""
    parser = _Parser(
        prog="trigate",
        description="Three inference runtimes, three test tiers, one gate: may this engine, on this board, fly?",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, dest="command")
    _add_run(commands)
    _add_pack(commands)
    _add_compile(commands)
    _add_doctor(commands)
    _add_init(commands)
    _add_inspect(commands)
    for each in (report, judge, compare, history, preflight, telemetry, key, sign, verify):
        each.add(commands)
    return parser


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(version())
        parser.exit(0)


def _add_what(parser: argparse.ArgumentParser) -> None:
    """What is to be run or packed: the same for `run` and `pack`."""
    parser.add_argument(
        "config", nargs="?", type=Path, metavar="CONFIG.toml", help="default: the built-in flight models"
    )
    parser.add_argument(
        "--model", action="append", default=[], metavar="NAME or FILE",
        help="a model of the configuration, a built-in one, or an .onnx or .pt file; may be given again",
    )  # fmt: skip
    parser.add_argument(
        "--inputs", metavar="'*.npz' or module:function",
        help="inputs for the --model files: .npz files, one sample each, or a function that yields samples",
    )  # fmt: skip
    parser.add_argument(
        "--architecture", action="append", default=[], metavar="NAME=package.module:factory",
        help="how to build a checkpoint's torch module",
    )  # fmt: skip
    parser.add_argument(
        "--size", choices=("small", "flight"), help="of the built-in models; default: small without a GPU"
    )
    parser.add_argument(
        "--seed", type=int, metavar="N", help="of made-up inputs, Monte-Carlo runs and a simulated board (0)"
    )
    parser.add_argument(
        "--cache", type=Path, metavar="DIR",
        help="where packs and models are kept by content; default: $TRIGATE_CACHE, else ~/.cache/trigate",
    )  # fmt: skip


def _add_run(commands: Any) -> None:
    parser = command(commands, "run", _run, "measure and judge; write a run folder with a report", epilog=RUN_EXAMPLES)
    _add_what(parser)
    parser.add_argument(
        "--tier", type=int, nargs="+", action="extend", choices=(0, 1, 2),
        help="default: all three; rows on the simulated device come with the built-in models, or where tier 0 is named",
    )  # fmt: skip
    parser.add_argument(
        "--runtime", action="append", default=[], metavar="LABEL or package.module:Class",
        help=f"only this one (may be given again), and require it; labels: {', '.join(LABELS)}",
    )  # fmt: skip
    parser.add_argument(
        "--require", action="append", default=[], metavar="RUNTIME[PLACEMENT]",
        help="rows of this runtime that are judged must pass, e.g. tensorrt or onnx_trt_ep[tensorrt]; `trigate --help` says "
        "which these are",
    )  # fmt: skip
    parser.add_argument("--device", metavar="auto, cpu, cuda:N", help="where to run (auto)")
    parser.add_argument(
        "--board", default="", metavar="NAME", help="use this board's budgets; default: the one found here"
    )
    parser.add_argument(
        "--profile", choices=("quick", "pr", "signoff", "floor"),
        help="quick: at most a minute a row, indicative (default); pr: decides on a change; signoff: on a release, in five "
        "launches, with floors; floor: learns them overnight. pr and signoff want --require",
    )  # fmt: skip
    parser.add_argument(
        "--simulated", default="", metavar="NAME or FILE.toml",
        help="Tier-2 on a simulated Orin in virtual time, by the name of a scenario (steady, overload, ...; a wrong name lists "
        "all) or your own file",
    )  # fmt: skip
    parser.add_argument(
        "--history",
        type=Path,
        metavar="DIR",
        help="where floors are learned and kept, and the run is remembered; default: floors in the cache",
    )
    parser.add_argument(
        "--assumptions",
        type=Path,
        metavar="FILE",
        help="of `trigate doctor --probe`: rows that lean on a WRONG one stay open",
    )
    parser.add_argument(
        "--pack", type=Path, metavar="DIR", help="run the models of a pack; needs neither torch nor onnx"
    )
    parser.add_argument(
        "--threads", type=int, metavar="N", help="threads of one call on the CPU; default: one per core"
    )
    parser.add_argument(
        "--like", type=Path, metavar="RUN",
        help="the rows of another run once more: its pack, models, profile and options, and the precision routes that its "
        "TensorRT took where this one still has them; what cannot be measured here stays a row",
    )  # fmt: skip
    parser.add_argument(
        "--against", type=Path, metavar="PYTHON",
        help="the python of another environment, with the base's libraries: the two in turn on this host, in fresh processes "
        "and random order, this one being the new side; OUT gets base/, new/, pairs/ and the comparison",
    )  # fmt: skip
    parser.add_argument(
        "--builds", type=_builds, metavar="K",
        help="build each engine K times, each without the timing cache of another, and spread the launches over them: two "
        "builds of one version differ, and a comparison judges a change against that",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="DIR", help="the run folder; default: runs/<time>")
    parser.add_argument(
        "--resume", action="store_true", help="go on with the run in --out; give the call that began it again"
    )
    parser.add_argument(
        "--publish", action="store_const", const="engines", default="",
        help="keep what rows ran from in engines/ of the run folder: engines, sidecars, manifests, layers, calibration caches; "
        "model files are listed there by digest",
    )  # fmt: skip
    parser.add_argument(
        "--publish-models", dest="publish", action="store_const", const="all", help="the same, and the model files too"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the rows that there would be, and stop")
    parser.add_argument("--summary", type=Path, metavar="FILE", help="append report.md to FILE (a CI job's summary)")
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error")


def _builds(word: str) -> int:
    from harness.bump.builds import MOST

    if not word.isdecimal() or not 1 <= int(word) <= MOST:
        raise argparse.ArgumentTypeError(f"{word!r}; expected a number of builds from 1 to {MOST}")
    return int(word)


def _add_pack(commands: Any) -> None:
    parser = command(
        commands, "pack", _pack, "write models, inputs, references and tolerances into one folder, to be run elsewhere"
    )
    _add_what(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder")
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error")


def _add_compile(commands: Any) -> None:
    parser = command(
        commands, "compile", _compile, "an engine with its sidecar and manifest, unless it is there and passes the check",
        epilog=COMPILE_EXAMPLES,
    )  # fmt: skip
    parser.add_argument("model", type=Path, metavar="MODEL", help="an .onnx file; for pytorch_fp16 a checkpoint")
    parser.add_argument("--runtime", choices=LABELS, default="tensorrt", help="default: tensorrt")
    parser.add_argument("--precision", choices=("fp32", "fp16", "int8", "mixed"), default="fp16", help="default: fp16")
    parser.add_argument("--route", choices=("polygraphy", "trtexec"), default="polygraphy", help="default: polygraphy")
    parser.add_argument("--sm", metavar="SM", help="for this GPU, as in 89, where the library needs none to build")
    parser.add_argument("--calibration", type=Path, metavar="DIR", help="inputs to calibrate int8 on: .npz files")
    parser.add_argument(
        "--shapes", action="append", default=[], metavar="INPUT:MIN..OPT..MAX",
        help="of an input with free sizes, as in image:1x3x96x128..1x3x480x640..1x3x480x640; may be given again",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("engines"), metavar="DIR", help="where to (engines)")
    parser.add_argument("--workspace-mb", type=int, default=1024, metavar="N", help="the builder's workspace (1024)")
    parser.add_argument("--timeout", type=float, default=600.0, metavar="S", help="end the build after so long (600)")
    parser.add_argument("--trtexec", type=Path, metavar="FILE", help="the program, where it is not in its usual place")
    parser.add_argument("--force", action="store_true", help="build also what is there")
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error")


def _add_doctor(commands: Any) -> None:
    parser = command(commands, "doctor", _doctor, "what this host is, what can run here, and what stands in the way")
    parser.add_argument("--root", type=Path, default=Path("/"), metavar="DIR", help="read another root file system")
    parser.add_argument(
        "--probe", action="store_true",
        help="test every assumption that trigate makes of a platform, in two minutes at most; exit 1 where one is wrong",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="FILE", help="with --probe: where to write them (assumptions.json)")
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error")


def _add_init(commands: Any) -> None:
    parser = command(commands, "init", _init, "write a commented configuration to start from")
    parser.add_argument("--model", type=Path, metavar="X.onnx", help="fill it from this model")
    parser.add_argument("--out", type=Path, default=Path("trigate.toml"), metavar="FILE", help="default: trigate.toml")


def _add_inspect(commands: Any) -> None:
    parser = command(
        commands, "inspect", _inspect, "what a file says of itself, and whether it would pass the engine check here",
        epilog=INSPECT_EXAMPLES,
    )  # fmt: skip
    parser.add_argument(
        "file", type=Path, nargs="+", metavar="FILE",
        help="a model, engine, cache, sidecar, checkpoint, pack or run folder; several are listed, two caches compared",
    )  # fmt: skip
    parser.add_argument(
        "--elsewhere", action="store_true", help="hold an engine against the host that it says it is for, not this one"
    )


def _run(arguments: argparse.Namespace) -> int:
    from harness.assemble import assemble
    from harness.run import run
    from harness.run_folder import RunFolder

    if arguments.resume and arguments.out is not None:
        _refuse_another_call(arguments)
    if arguments.against is not None:
        return _run_against(arguments)
    if arguments.like is not None:
        arguments = _as_like(arguments)
    house = _house(quiet=arguments.quiet)
    job = assemble(_request(arguments), house, arguments.command_line, dry_run=arguments.dry_run)
    job = replace(job, publish=arguments.publish)
    if arguments.dry_run:
        return _print_plan(job, arguments)
    out: Path = arguments.out or Path("runs") / stamp()
    with RunFolder(out, resume=arguments.resume) as folder:
        finished = run(job, folder, _progress(arguments), arguments.pytest)
        written = draw(folder.path)
    if arguments.history is not None:
        history.remember(arguments.history, folder.path)
    if arguments.summary is not None:
        _append(arguments.summary, folder.path / "report.md")
    try:
        print_end(finished, out, written, arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output went away, and the exit code must stay the run's
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 4 if finished.exit_code is None else finished.exit_code


def _here(base: argparse.Namespace, folder: Path) -> argparse.Namespace:
    """The call of a run that was like another one itself, with where that one lies now. Raises ``UsageError``."""
    from harness.errors import UsageError

    for path in (base.like, folder.parent / base.like.name):
        if (path / "run.json").exists():
            base.like = path
            return base
    raise UsageError(
        f"--like {folder}: it was measured like {base.like}, which is not here. Name that run, or copy it beside {folder}."
    )


def _run_against(arguments: argparse.Namespace) -> int:
    from harness.assemble import assemble
    from harness.bump.against import check_against, check_out, code_alone, compare_sides, examine, rows_of, run_against
    from harness.commands.compare import in_words
    from harness.records import to_json
    from reports import compare_page

    told = ("simulated", "resume", "profile", "builds", "like")
    check_against({f"--{name}": bool(getattr(arguments, name)) for name in told})
    arguments.tier = arguments.tier or [1, 2]
    house = _house(quiet=arguments.quiet)
    out: Path = arguments.out or Path("runs") / stamp()
    check_out(out)
    with code_alone() as code:
        other = examine(arguments.against, code, house.environ)  # before packs are made, which takes minutes
        job = assemble(_request(arguments), house, arguments.command_line, dry_run=arguments.dry_run)
        if arguments.dry_run:
            return _print_pairs(rows_of(job), arguments)
        sides = run_against(
            job, other, out, _progress(arguments), arguments.pytest, seed=arguments.seed or 0, code=code
        )
    for name in ("base", "new"):
        draw(out / name)
    found = compare_sides(out, sides[2])
    written = compare_page.write(out)
    if arguments.summary is not None:
        _append(arguments.summary, out / "new" / "report.md")
    text = "\n".join([f"compared: {written[0]}", *in_words(found)])
    print(json.dumps(to_json(found), indent=1) if arguments.json else text)
    if any(one.interrupted for one in sides[:2]):
        print("Interrupted: what was measured by then is compared. Pairs are not resumed.", file=sys.stderr)
        return 130
    return found.exit_code


def _print_pairs(cases: Sequence[Case], arguments: argparse.Namespace) -> int:
    from harness.bump.against import MOST_S
    from harness.records import to_json
    from harness.statistics.paired import LOOKS

    if arguments.json:
        print(json.dumps({"rows": to_json(list(cases)), "pairs": list(LOOKS), "launch_s": MOST_S}, indent=1))
        return 0
    for case in cases:
        print(f"tier {case.tier}  {case.id}" + (f"  NOT RUN here: {case.not_run}" if case.not_run else ""))
    print(
        f"Rows of tier 2 take {LOOKS[0]} to {LOOKS[-1]} pairs each: two processes, which build or load the engine anew and then "
        f"measure for {MOST_S:.0f} s at most."
    )
    return 0


def _stored(run: Run) -> argparse.Namespace:
    """The call that began a run, parsed as calls are now. Raises ``UsageError`` for one that this trigate cannot read."""
    from harness.bump.like import stored_call
    from harness.errors import UsageError

    words = stored_call(run)
    cut = words.index("--") if "--" in words else len(words)
    try:
        with contextlib.redirect_stderr(io.StringIO()) as said:
            arguments = make_parser().parse_args(["run", *words[:cut]])
    except SystemExit:
        raise UsageError(f"the call that began run {run.id} cannot be read: {said.getvalue().strip()}") from None
    arguments.pytest = words[cut + 1 :]
    return arguments


def _refuse_another_call(arguments: argparse.Namespace) -> None:
    """Before anything is made for a run that will not be gone on with. Raises ``UsageError``."""
    from harness.bump.like import differing
    from harness.errors import UsageError
    from harness.tier2.rejudge import read_run

    if not (arguments.out / "run.json").exists():
        return
    run = read_run(arguments.out)
    try:
        began = _stored(run)
    except UsageError:
        return  # what it measured is compared as ever
    others = differing(vars(began), vars(arguments))
    if others:
        raise UsageError(
            f"the run in {arguments.out} was begun by `{run.command}`; this call differs in {', '.join(others)}. Give that call "
            "again, with --resume, or another --out."
        )


def _as_like(arguments: argparse.Namespace) -> argparse.Namespace:
    """The call with what it leaves out taken from that of the run that is repeated."""
    from harness.bump.like import call_as, model_names, pack_for, read_like

    like = read_like(arguments.like)
    base = _stored(like.run)
    if base.like is not None:
        base = _as_like(_here(base, like.folder))
    taken = argparse.Namespace(**call_as(vars(arguments), vars(base), like))
    taken.repeated, taken.pytest = like, arguments.pytest or base.pytest
    taken.pack = arguments.pack or pack_for(like, base.pack)
    if taken.pack is not None:
        taken.model = list(model_names(like)) if taken.model else []
        if taken.config is not None and arguments.config is None and not taken.config.exists():
            taken.config = None  # the pack keeps what it said
    return taken


def _pack(arguments: argparse.Namespace) -> int:
    from harness.assemble import make_pack
    from harness.packs.folder import write_pack
    from harness.words import counted

    pack, configuration = make_pack(_request(arguments), _house(quiet=arguments.quiet))
    path = write_pack(pack, configuration, arguments.out)
    if arguments.json:
        print(json.dumps({"pack": str(path.parent), "sha256": pack.sha256, "models": sorted(pack.models)}))
    else:
        print(
            f"{path.parent}: {counted(len(pack.models), 'model')}, sha256 {pack.sha256[:16]}. "
            f"Run it with: trigate run --pack {path.parent}"
        )
    return 0


def _compile(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from harness.compile import Order, compile_model
    from harness.progress import BuildProgress
    from runtime.errors import EngineBuildError
    from runtime.logs import EventLog

    names = ("model", "runtime", "precision", "route", "sm", "calibration", "shapes", "out", "workspace_mb", "trtexec")
    order = Order(**{name: getattr(arguments, name) for name in (*names, "force")}, timeout_s=arguments.timeout)
    # events are for machines; people get the result, and errors in words
    log = EventLog() if arguments.json else EventLog(stream=io.StringIO(), on_record=_say_warning)
    try:
        with contextlib.ExitStack() as around:
            bar = None
            if not arguments.quiet and order.runtime == "tensorrt":
                bar = around.enter_context(BuildProgress(Console(file=sys.stderr)))
            done = compile_model(order, os.environ, on_progress=bar, log=log)
    except EngineBuildError as error:
        return _refuse(str(error), arguments, 1)
    print(json.dumps(done.to_json(), indent=1) if arguments.json else done.to_text())
    return 0


def _probe(arguments: argparse.Namespace) -> int:
    from harness.probe import probe
    from harness.probes import State

    say = (lambda words: None) if arguments.quiet else (lambda words: print(words, file=sys.stderr))
    found = probe(arguments.root, environ=os.environ, say=say)
    out = arguments.out or Path("assumptions.json")
    found.write(out)
    print(json.dumps(found.to_json(), indent=1) if arguments.json else f"{found.to_text()}\nwritten: {out}")
    return 1 if found.of_state(State.WRONG) else 0


def _doctor(arguments: argparse.Namespace) -> int:
    check_root(arguments.root)
    if arguments.probe:
        return _probe(arguments)
    from harness.doctor import examine

    examination = examine(arguments.root, os.environ)
    if arguments.json:
        print(json.dumps(examination.to_json(), indent=1))
    else:
        tell(examination.to_text())
    return 0


def _init(arguments: argparse.Namespace) -> int:
    from harness.init import write_configuration

    path = write_configuration(arguments.out, arguments.model)
    print(
        json.dumps({"written": str(path)})
        if arguments.json
        else f"{path} is written. Next: trigate run {path} --dry-run"
    )
    return 0


def _inspect(arguments: argparse.Namespace) -> int:
    from harness.inspect import compare_caches, inspect, listing

    found = [inspect(path, elsewhere=arguments.elsewhere) for path in arguments.file]
    if [each.kind for each in found] == ["calibration cache"] * 2:
        found = [compare_caches(*(each.path for each in found))]
    if arguments.json:
        told = [each.to_json() for each in found]
        print(json.dumps(told[0] if len(told) == 1 else told, indent=1))
    else:
        print(found[0].to_text() if len(found) == 1 else listing(found))
    return 0 if all(each.passes for each in found) else 1


def _request(arguments: argparse.Namespace) -> Request:
    from harness.assemble import Request

    asked = vars(arguments)
    return Request(
        config=arguments.config,
        models=tuple(arguments.model),
        inputs=arguments.inputs or "",
        architectures=tuple(arguments.architecture),
        size=arguments.size or "",
        seed=arguments.seed or 0,
        cache=arguments.cache or default_cache(),
        tiers=tuple(asked.get("tier") or (0, 1, 2)),
        is_tier_named=bool(asked.get("tier")),
        runtimes=tuple(asked.get("runtime", ())),
        require=tuple(asked.get("require", ())),
        device=asked.get("device") or "auto",
        board=asked.get("board", ""),
        profile=asked.get("profile") or "quick",
        pack=asked.get("pack"),
        threads=asked.get("threads"),
        simulated=asked.get("simulated", ""),
        history=asked.get("history"),
        assumptions=asked.get("assumptions"),
        like=asked.get("repeated"),
        builds=asked.get("builds") or 0,
    )


def _house(*, quiet: bool) -> House:
    import fixtures
    import tiers
    from fixtures import conformance, flight
    from harness.assemble import House
    from runtime.architectures import default_registry

    flight.register(default_registry)
    conformance.register(default_registry)
    return House(
        sources={"flight": _flight_source, "light": _light_source},
        source_names=_source_names,
        registry=default_registry,
        default_config=Path(fixtures.__file__).parent / "flight.toml",
        suites=Path(tiers.__file__).parent,
        version=version(),
        environ=os.environ,
        prepare=partial(_prepare, quiet=quiet),
        say=(lambda words: None) if quiet else (lambda words: print(words, file=sys.stderr)),
        runtime_suites={"conformance": _conformance, "faults": _faults},
        hooks=("fixtures.flight:register", "fixtures.conformance:register"),
        scenarios=Path(fixtures.__file__).parent / "scenarios",
        baselines=Path(fixtures.__file__).parent / "baselines" / "latency.json",
    )


def _conformance(case: Case, build: Build, config: RuntimeConfig) -> Verdict:
    from tiers.conformance import settle_conformance

    return settle_conformance(case, build, config)


def _faults(case: Case, build: Build, config: RuntimeConfig) -> Verdict:
    from tiers.faults import settle_faults

    return settle_faults(case, build, config)


def _prepare(request: Request, names: Sequence[str], *, quiet: bool) -> None:
    """Make several model packs at once, a process and one thread each: small operators gain nothing from threads."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    from runtime.threads import usable_cores

    spawn = multiprocessing.get_context("spawn")
    count = min(usable_cores(), len(names))
    with ProcessPoolExecutor(count, mp_context=spawn, initializer=_end_quietly) as pool:
        try:
            list(pool.map(partial(_prepare_one, quiet=quiet), [request] * len(names), names))
        except (
            BrokenProcessPool
        ):  # a child was killed, for memory perhaps: the parent makes what is missing, one by one
            return
        except KeyboardInterrupt:
            for child in multiprocessing.active_children():
                child.terminate()
            raise


def _end_quietly() -> None:
    """In a child: one thread; Ctrl-C is the parent's; when that ends it, half-made folders are removed on the way out."""
    import signal

    from runtime.threads import thread_environment

    os.environ.update(thread_environment(1))  # torch reads it when it is imported, which is later
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def _prepare_one(request: Request, name: str, *, quiet: bool) -> None:
    from dataclasses import replace

    from harness.assemble import make_pack
    from harness.errors import UsageError

    with contextlib.suppress(UsageError):  # it comes again, with its sentence, when the parent asks for this model
        make_pack(replace(request, models=(name,)), _house(quiet=quiet))


def _flight_source(name: str, size: str, seed: int, cache: Path) -> SourceModel:
    from fixtures import flight
    from harness.packs.maker import INT8_SAMPLES, SAMPLES
    from harness.packs.model import SourceModel

    made = flight.make(name, size, cache / "flight")
    feeds = flight.feeds(name, size, SAMPLES, seed=seed)
    other_places = flight.feeds(name, size, INT8_SAMPLES, seed=seed + flight.CALIBRATION_SEED)
    return SourceModel(made.onnx, made.checkpoint, name, feeds, f"seeded terrain, {size}", calibration=other_places)


def _light_source(name: str, size: str, seed: int, cache: Path) -> SourceModel:
    from fixtures import light
    from harness.packs.model import SourceModel

    del size, seed, cache  # the model's authors chose them
    path, feeds, expected = light.light_model(f"light_{name}")
    return SourceModel(path, None, "", feeds, "shipped with the onnx package", expected)


def _source_names() -> dict[str, Sequence[str]]:
    from fixtures import flight, light

    return {"flight": flight.MODELS, "light": [name.removeprefix("light_") for name in light.LIGHT_MODELS]}


def _progress(arguments: argparse.Namespace) -> Progress:
    from harness.run import Progress

    if arguments.quiet:
        return Progress()
    from rich.console import Console

    from harness.progress import ConsoleProgress

    return ConsoleProgress(Console(file=sys.stderr))  # this very stream: while rows run, sys.stderr is the log


def _print_plan(job: Job, arguments: argparse.Namespace) -> int:
    from harness.records import to_json
    from harness.words import counted

    if arguments.json:
        print(json.dumps({"rows": to_json(job.cases), "cost": to_json(_cost(job))}, indent=1))
        return 0
    for case in job.cases:
        told = [f"NOT RUN: {case.not_run}"] if case.not_run else [*job.notes.get(case.id, ())]
        print("  ".join([f"tier {case.tier}  {case.id}", *told]))
    for words in job.said:
        print(words)
    runnable = [case for case in job.cases if not case.not_run]
    print(f"{counted(len(job.cases), 'row')}, {len(runnable)} of them can run here: {_cost(job).to_text()}.")
    return 0


def _cost(job: Job) -> Cost:
    from harness.bump.builds import launches_for
    from harness.estimate import cost_of
    from harness.profiles import PROFILES

    profile = PROFILES[job.settings["profile"]]
    launches = launches_for(profile.launches, int(job.settings.get("builds", 0)))
    return cost_of(job.cases, replace(profile, launches=launches), job.models)


def _say_warning(record: Record) -> None:
    if record.level.value == "WARN":
        told = ", ".join(f"{name} {value}" for name, value in record.fields.items())
        print(f"trigate: {record.kind.value.replace('_', ' ')}: {told}", file=sys.stderr)


def _append(target: Path, source: Path) -> None:
    from harness.errors import UsageError

    try:
        with target.open("a", encoding="utf-8") as file:
            file.write(source.read_text(encoding="utf-8") + "\n")
    except OSError as error:
        raise UsageError(f"--summary: {target} cannot be written: {error.strerror}.") from error


if __name__ == "__main__":
    sys.exit(main())
