"""TensorRT's words, and what is made of them."""

from __future__ import annotations

import pytest

from runtime.strategies.trt_causes import cause_of, explain, kind_of


def said(*texts: str) -> list[tuple[str, str]]:
    return [("ERROR", text) for text in texts]


@pytest.mark.covers("RT-07", "TT-01")
@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (
            (
                "IRuntime::deserializeCudaEngine: Error Code 6: API Usage Error (The engine plan file is generated on an "
                "incompatible device, expecting compute 8.7 got compute 8.9, please rebuild.)"
            ),
            "built for SM 8.9, this GPU is SM 8.7",
        ),
        (
            (
                "The engine plan file is not compatible with this version of TensorRT, expecting library version 10.16.2.10 "
                "got 10.3.0.30, please rebuild."
            ),
            "built with TensorRT 10.3.0.30, this host has 10.16.2.10",
        ),
        (
            (
                "Error Code 1: Serialization (Serialization assertion stdVersionRead == kSERIALIZATION_VERSION failed.Version "
                "tag does not match. Note: Current Version: 242, Serialized Engine Version: 239)"
            ),
            "built with TensorRT 10.3.0, this host has 10.16.2",
        ),
        (
            "Target GPU SM 87 is not supported by this TensorRT release (checkCurrentSMEnabled)",
            (
                "no kernels for SM 8.7 in this release: TensorRT 10.13 does not run on Orin (JetPack 6 has 10.3, JetPack 7.2 "
                "has 10.16)"
            ),
        ),
        ("Target GPU SM 110 is not supported by this TensorRT release", "no kernels for SM 11.0 in this release"),
        (
            "Serialization assertion magicTagRead == kMAGIC_TAG failed.Magic tag does not match",
            "the bytes are no plan of this library: another product's, a damaged file, or a plan behind something else",
        ),
        ("plan.header.size == blobSize failed.", "the plan is damaged, or shorter than it says"),
        (
            "libnvdla_compiler.so: cannot open shared object file: No such file or directory",
            (
                "the system lacks libnvdla_compiler.so, which JetPack 6 has in the package nvidia-l4t-dla-compiler; a "
                "container made for JetPack 6 does not find it on a JetPack 7 host. CUDA itself may work all the same"
            ),
        ),
        (
            "IPluginRegistry::getCreator: Error Code 4: API Usage Error (Cannot find plugin: Warp, version: 1)",
            "it needs a plugin that is not loaded: Warp",
        ),
        (
            "Parameter check failed, condition: mEngineHostCodeAllowed. The plan contains host executable code.",
            "it is a version-compatible engine, which carries code for the host; such code is not run here",
        ),
        (
            "Tactic Device request: 143MB Available: 112MB. Device memory is insufficient to use tactic.",
            "too little free memory during the build: a kernel asked for 143 MB, and 112 MB were free",
        ),
        (
            "Error Code 10: Internal Error (Could not find any implementation for node {ForeignNode[a...b]}.)",
            (
                "no kernel was found for {ForeignNode[a...b]}; too little free memory during the build is one of the reasons "
                "for that"
            ),
        ),
        ("Error Code 1: Cuda Runtime (In cuda call (cudaError 2: out of memory))", "no memory was left"),
        (
            "Cuda Runtime (cudaError 35: CUDA driver version is insufficient for CUDA runtime version)",
            "there is no CUDA driver here, or it is too old for this library",
        ),
        ("Cuda Runtime (an illegal memory access was encountered)", "the device is lost to this process"),
        ("(cudaError 209: no kernel image is available for execution)", "this library has no kernels for this GPU"),
        ("all is well", ""),
    ],
)
def test_the_cause_is_told_in_plain_language(text: str, cause: str) -> None:
    assert cause_of([text], host="10.16.2", built_with="10.3.0") == cause


@pytest.mark.covers("RT-07")
def test_an_explanation_has_what_was_tried_the_cause_and_tensorrts_own_words() -> None:
    told = explain(
        said("expecting compute 8.7 got compute 8.9, please rebuild."),
        ["INVALID_CONFIG"],
        doing="deserialising x.engine",
    )
    assert told == (
        "deserialising x.engine failed: built for SM 8.9, this GPU is SM 8.7. TensorRT says: expecting compute 8.7 got "
        "compute 8.9, please rebuild (INVALID_CONFIG)."
    )
    assert explain([], doing="running") == "running failed. TensorRT says nothing."
    assert explain([], doing="a", hints=["INVALID: UNSUPPORTED_CC"]).startswith("a failed: built for another compute")


@pytest.mark.covers("RT-07")
def test_the_last_errors_are_quoted_each_once_and_no_longer_than_a_person_reads() -> None:
    lines = [("WARNING", "careful"), *said("first", "second", "third", "third", "fourth", "y" * 1000)]
    told = explain(lines, doing="building")
    assert "careful" not in told
    assert "first" not in told
    assert "third; fourth; yyyy" in told
    assert len(told) < 500
    assert "careful" in explain(lines[:1], doing="building")


@pytest.mark.covers("RT-07")
@pytest.mark.parametrize(
    ("texts", "codes", "kind"),
    [
        (["Error Code 2: OutOfMemory (Requested size was 4096 bytes.)"], [], "memory"),
        (["anything"], ["FAILED_ALLOCATION"], "memory"),
        (["NvMapMemAllocInternalTagged: 1075072515 error 12"], [], "memory"),
        (["Cuda Runtime (cudaError 700: an illegal memory access was encountered)"], [], "lost"),
        (["out of memory", "unspecified launch failure"], [], "lost"),
        (["cudaError 7000: no such thing", "cudaError 20: nor this"], ["INTERNAL_ERROR"], ""),
        ([], [], ""),
    ],
)
def test_a_lack_of_memory_and_a_lost_device_are_told_from_all_else(
    texts: list[str], codes: list[str], kind: str
) -> None:
    assert kind_of(said(*texts), codes) == kind
