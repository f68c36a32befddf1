"""The faults that `plant_faults.py` plants are still faults of this code."""

import ast
from pathlib import Path

import pytest
from plant_faults import planted
from planted import FAULTS, Fault

ROOT = Path(__file__).parents[1]


def text_of(fault: Fault) -> str:
    return (ROOT / "unirep_jax" / fault.file).read_text("utf-8")


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.file)
def test_a_fault_is_planted_in_one_place_and_is_a_program(fault):
    whole = text_of(fault)
    assert ast.dump(ast.parse(planted(whole, fault))) != ast.dump(ast.parse(whole))
    for file, _, name in (place.partition("::") for place in fault.tests):
        path = ROOT / "tests" / file
        assert path.is_dir() or f"def {name}" in path.read_text("utf-8"), name


def test_every_part_of_the_package_that_computes_has_faults():
    folders = {fault.file.partition("/")[0] for fault in FAULTS}
    assert len(FAULTS) >= 30
    assert {"losses", "metrics", "data", "train", "evaluation", "tasks", "methods"} <= folders


def test_what_does_not_stand_in_a_file_exactly_once_is_refused():
    fault = Fault("a.py", "x = 1", "x = 2", ())
    for text in ("", "x = 1\nx = 1\n"):
        with pytest.raises(ValueError, match=r"a\.py has [02] times: x = 1"):
            planted(text, fault)
    assert planted("x = 1\n", fault) == "x = 2\n"
