"""The method, the network and the plan of the how-to pages keep their contracts, tested as the pages say."""

from __future__ import annotations

from support.how_to import python_blocks, run_block


def contracts_of(page: str, name: str) -> dict[str, type]:
    """The test classes of a page whose first block is the file `name`.py, its second one the test file."""
    module, test, *_ = python_blocks(page)
    run_block(name, module)
    found = run_block(f"test_{name}", test)
    return {key: thing for key, thing in vars(found).items() if key.startswith("Test")}


CONTRACTS = {
    **contracts_of("add-a-method.md", "self_training"),
    **contracts_of("add-a-network.md", "dilated"),
    **contracts_of("add-a-plan.md", "block"),
}
globals().update(CONTRACTS)


def test_the_pages_have_a_test_each() -> None:
    assert set(CONTRACTS) == {"TestSelfTraining", "TestDilated", "TestBlock"}
