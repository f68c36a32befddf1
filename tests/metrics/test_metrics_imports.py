"""Importing the metrics costs JAX and NumPy, nothing more."""

import subprocess
import sys

from unirep_jax import metrics

HEAVY = ("tensorflow", "flax", "sklearn", "matplotlib", "orbax", "optax", "ott", "chex")


def test_metrics_import_none_of_the_heavy_packages():
    code = f"""
import sys
import unirep_jax.metrics.published
print(*(name for name in {HEAVY} if name in sys.modules))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


def test_every_public_name_exists_and_has_a_docstring():
    assert sorted(metrics.__all__) == metrics.__all__
    for name in metrics.__all__:
        assert getattr(metrics, name).__doc__, name
