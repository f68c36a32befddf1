"""The examples in the docstrings of kernels and metrics give what they say."""

import doctest
import importlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unirep_jax import losses, metrics

PACKAGE = Path(losses.__file__).parents[1]
FILES = [
    path
    for folder in ("losses", "metrics")
    for path in sorted((PACKAGE / folder).glob("*.py"))
    if ">>>" in path.read_text(encoding="utf-8")
]
# What docs/losses.md says an example has at hand.
AT_HAND = {"jax": jax, "jnp": jnp, "np": np}
AT_HAND |= {name: getattr(losses, name) for name in losses.__all__}
AT_HAND |= {name: getattr(metrics, name) for name in metrics.__all__}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_examples_of_a_file_give_what_they_say(path):
    module = importlib.import_module(f"unirep_jax.{path.parent.name}.{path.stem}")
    found = [test for test in doctest.DocTestFinder().find(module) if test.examples]
    shown = path.read_text(encoding="utf-8").count(">>>")
    assert sum(len(test.examples) for test in found) == shown
    runner, report = doctest.DocTestRunner(verbose=False), []
    with np.printoptions(precision=3, suppress=True):
        for test in found:
            test.globs = dict(AT_HAND)
            runner.run(test, out=report.append)
    assert runner.failures == 0, "".join(report)


@pytest.mark.parametrize("name", ["info_nce", "gram_volume", "sinkhorn_plan", "jigsaw_loss"])
def test_kernels_that_people_come_for_have_an_example(name):
    assert ">>>" in getattr(losses, name).__doc__
