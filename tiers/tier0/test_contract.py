"""Each runtime keeps the contract: the clauses of ``tiers.contract``, on its real library or, where asked, a simulated one."""

import pytest

from harness.session import Row


@pytest.mark.rows(0, "conformance")
def test_runtime_keeps_the_contract(row: Row) -> None:
    row.settle()
