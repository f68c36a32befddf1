"""Every table and figure of MICU's paper is a command whose rows train."""

import runpy
from pathlib import Path

import jax
import numpy as np
import pytest

from unirep_jax.costs import COLUMNS, cost_table
from unirep_jax.ready import set_up
from unirep_jax.sweep import varied
from unirep_jax.workdir import ConfigError

CONFIGS = Path(__file__).parents[1] / "configs"
TABLES = runpy.run_path(str(CONFIGS / "tables/oscmg.py"))
NAMES = (*TABLES["TABLES"], "table6:video,audio,text")
SMALL = {"method.dim": 16, "method.layers": 1, "method.heads": 2}


@pytest.fixture
def config():
    made = runpy.run_path(str(CONFIGS / "oscmg.py"))["get_config"]("digits_avt")
    made.update_from_flattened_dict({"steps": 2, "batch_size": 16})
    return made


def small_rows(name, config):
    """The rows of a table, their networks small, their losses as they are."""
    for title, row in TABLES["get_variants"](name).items():
        single = varied(config, row(config) if callable(row) else row)
        single.update_from_flattened_dict(SMALL)
        yield title, single


@pytest.fixture(scope="module")
def trained():
    """Settings of rows that took their steps: several tables have the same rows."""
    return set()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_row_takes_two_steps(name, config, tmp_path, trained, standard_promotion):
    for title, single in small_rows(name, config):
        if (settings := single.to_json(sort_keys=True)) in trained:
            continue
        trained.add(settings)
        fitting = set_up(single, tmp_path).fitting
        engine, state = fitting.engine, fitting.engine.place_state(fitting.initial())
        for batch in fitting.batches(0, 2):
            state, metrics = jax.block_until_ready(engine.step(state, engine.place_batch(batch)))
            assert np.isfinite(float(metrics["loss"])), title


def test_costs_have_a_row_for_each_variant_with_its_own_numbers(config, standard_promotion):
    variants = {
        "few codes": {
            "method.dim": 16,
            "method.layers": 1,
            "method.pieces": 2,
            "method.permutations": 2,
        },
        "wide": {
            "method.dim": 32,
            "method.layers": 1,
            "method.pieces": 2,
            "method.permutations": 2,
        },
    }
    config.data.modalities = ("audio", "text")
    table = cost_table(config, variants)
    assert "Batches of 16 on 8 ×" in table
    header, _, *lines = [line for line in table.splitlines() if line.startswith("|")]
    assert [cell.strip() for cell in header.strip("|").split("|")] == [*COLUMNS]
    found = {
        cells[0].strip(): [float(c) for c in cells[1:]]
        for cells in (line.strip("|").split("|") for line in lines)
    }
    assert found.keys() == variants.keys()
    for narrow, wide in zip(found["few codes"][:3], found["wide"][:3], strict=True):
        assert 0 < narrow <= wide
    assert found["few codes"][0] < found["wide"][0]


def test_what_is_not_trained_has_no_costs(config):
    with pytest.raises(ConfigError, match="steps=0"):
        cost_table(config, {"row": {"steps": 0}})
