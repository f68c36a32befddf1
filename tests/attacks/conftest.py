"""A trace that must never appear: every test of this folder fails if something was executed."""

import pytest


@pytest.fixture(autouse=True)
def trace(tmp_path_factory):
    path = tmp_path_factory.mktemp("trace") / "executed"
    yield path
    assert not path.exists(), "a file that was read has run something"
