"""What trust costs: reading an engine while hashing it, against hashing alone over a mapped file."""

from __future__ import annotations

import hashlib
import mmap
import os
from pathlib import Path
from typing import Any

import pytest

from runtime.files import open_regular, read_hashed

SIZE = 500 * 2**20


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "big.engine"
    with path.open("wb") as file:
        for _ in range(SIZE // 2**20):
            file.write(os.urandom(2**20))
    return path


@pytest.mark.benchmark(group="files")
def test_hash_alone(benchmark: Any, engine: Path) -> None:
    def call() -> None:
        with engine.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            hashlib.sha256(data).hexdigest()

    benchmark.pedantic(call, rounds=5, warmup_rounds=1)


@pytest.mark.benchmark(group="files")
def test_hash_and_keep(benchmark: Any, engine: Path) -> None:
    def call() -> None:
        with open_regular(engine) as file:
            read_hashed(file)

    benchmark.pedantic(call, rounds=5, warmup_rounds=1)
