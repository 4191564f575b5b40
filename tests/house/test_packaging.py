"""What pip would be told: a Jetson's own builds stay (FA-06), what is pinned is what was tested, and the container agrees."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
OF_THE_JETSON = re.compile(r"torch|onnxruntime(-gpu)?|tensorrt.*")
"""Distributions that JetPack, or the Jetson's own index, brings."""


def host(machine: str, python: str) -> dict[str, str]:
    return {
        "platform_machine": machine,
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "os_name": "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }


def asked_of_pip(lines: list[str], environment: dict[str, str]) -> dict[str, Requirement]:
    """What is left of requirement lines on a host; ``trigate[...]`` is followed into its extras."""
    asked: dict[str, Requirement] = {}
    for requirement in map(Requirement, lines):
        if requirement.marker is not None and not requirement.marker.evaluate(environment):
            continue
        if canonicalize_name(requirement.name) == "trigate":
            for extra in requirement.extras:
                asked |= asked_of_pip(EXTRAS[extra], environment)
        else:
            asked[canonicalize_name(requirement.name)] = requirement
    return asked


@pytest.mark.covers("FA-06")
@pytest.mark.parametrize("python", ["3.10", "3.12"])
@pytest.mark.parametrize("extra", ["", *EXTRAS])
def test_on_aarch64_no_extra_names_what_the_jetson_brings(extra: str, python: str) -> None:
    lines = EXTRAS[extra] if extra else PROJECT["project"]["dependencies"]
    asked = asked_of_pip(lines, host("aarch64", python))
    assert [name for name in asked if OF_THE_JETSON.fullmatch(name)] == []


@pytest.mark.covers("FA-06")
@pytest.mark.parametrize(
    ("python", "version"), [("3.10", "1.23"), ("3.11", "1.31"), ("3.12", "1.31"), ("3.13", "1.31")]
)
def test_the_onnxruntime_that_was_tested_is_the_one_that_is_asked_for(python: str, version: str) -> None:
    asked = asked_of_pip(EXTRAS["ort"], host("x86_64", python))
    assert set(asked) == {"onnxruntime-gpu"}
    assert str(asked["onnxruntime-gpu"].specifier) == f"=={version}.*"


@pytest.mark.covers("FA-06")
@pytest.mark.parametrize("extra", [extra for extra in EXTRAS if any("polygraphy" in line for line in EXTRAS[extra])])
def test_polygraphy_fits_tensorrt_10_3_and_11(extra: str) -> None:
    allowed = asked_of_pip(EXTRAS[extra], host("x86_64", "3.11"))["polygraphy"].specifier
    assert allowed.contains("0.50.3")
    assert allowed.contains("0.53.6")
    assert not allowed.contains("0.49.26")  # it asks each layer for what TensorRT 11 has no more


@pytest.mark.covers("FA-06", "TT-02")
@pytest.mark.parametrize("extra", ["trt", "rtx", "jetson", "sim"])
def test_what_builds_can_cast_a_model(extra: str) -> None:
    machine = "aarch64" if extra == "jetson" else "x86_64"
    assert {"onnx", "polygraphy"} <= set(asked_of_pip(EXTRAS[extra], host(machine, "3.12")))


@pytest.mark.covers("FA-06")
def test_the_floors_are_ranges_and_exact_pins_lie_in_the_constraints_alone() -> None:
    floors = asked_of_pip(PROJECT["project"]["dependencies"], host("x86_64", "3.10"))
    assert floors["scipy"].specifier.contains("1.11.0")
    assert "tomli" in floors
    assert "tomli" not in asked_of_pip(PROJECT["project"]["dependencies"], host("x86_64", "3.11"))
    assert not [name for name, requirement in floors.items() if "==" in str(requirement.specifier)]
    pins = [line for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if line]
    assert [line for line in pins if not re.fullmatch(r"[\w.-]+==[\w.+-]+", line)] == []


@pytest.mark.covers("FA-06")
@pytest.mark.parametrize("extra", ["", *EXTRAS])
def test_the_constraints_of_ci_allow_what_the_extras_ask_for(extra: str) -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    pins: dict[str, str] = {
        canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)
    }
    asked = asked_of_pip(EXTRAS[extra] if extra else PROJECT["project"]["dependencies"], host("x86_64", "3.11"))
    wrong = [
        f"{name}{requirement.specifier}, pinned {pins[name]}"
        for name, requirement in asked.items()
        if name in pins and not requirement.specifier.contains(pins[name])
    ]
    assert wrong == []


@pytest.mark.covers("T1-04")
def test_the_containerfile_names_extras_and_folders_that_there_are() -> None:
    container = (ROOT / "Containerfile").read_text(encoding="utf-8")
    default = re.search(r"^ARG EXTRAS=(\S+)$", container, re.MULTILINE)
    assert default is not None
    assert set(default[1].split(",")) == {"ort", "torch", "models", "report"}
    assert set(default[1].split(",")) <= set(EXTRAS)
    assert "trt" in EXTRAS  # TENSORRT=trt
    packages = {pattern.rstrip("*") for pattern in PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]}
    copied = dict(re.findall(r"^COPY (\w+) (\w+)$", container, re.MULTILINE))
    assert copied == {name: name for name in packages}
    files = re.search(r"^COPY (.+) \./$", container, re.MULTILINE)
    assert files is not None
    assert [name for name in files[1].split() if not (ROOT / name).is_file()] == []
    assert "constraints.txt" in files[1].split()


@pytest.mark.covers("T1-04")
def test_the_container_runs_tier_1_by_the_command_that_is_installed() -> None:
    container = (ROOT / "Containerfile").read_text(encoding="utf-8")
    assert 'ENTRYPOINT ["trigate"]' in container
    assert PROJECT["project"]["scripts"] == {"trigate": "harness.cli:main"}
    command = re.search(r"^CMD (\[.+\])$", container, re.MULTILINE)
    assert command is not None
    assert "1" in re.findall(r'"([^"]+)"', command[1])
    assert not re.search(r"^USER root", container, re.MULTILINE)
