"""What a configuration leaves open follows the data."""

import numpy as np
import pytest
from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from unirep_jax import defaults
from unirep_jax.data import FeatureSet


def feature_set(count=800, shapes=((20,), (30,))):
    """As many examples to train on, and four to test."""
    return FeatureSet.from_arrays(
        "toy",
        {f"m{i}": np.zeros((count + 4, *shape), np.float32) for i, shape in enumerate(shapes)},
        np.arange(count + 4) % 4,
        np.arange(count + 4) < count,
    )


def chosen(*names, **data):
    settings = {name: placeholder(int) for name in names}
    return defaults.settled(ConfigDict(settings), feature_set(**data))[1]


@pytest.mark.parametrize(
    ("count", "batch", "steps"),
    [(20, 8, 300), (619, 128, 300), (2000, 128, 940), (10**5, 128, 3000)],
)
def test_more_pairs_have_larger_batches_and_more_steps(count, batch, steps):
    assert chosen("batch_size", "steps", count=count) == {"batch_size": batch, "steps": steps}


def test_codes_of_sequences_have_more_epochs():
    settings = {"steps": placeholder(int), "batch_size": 64, "method": {"codes": 400}}
    choose = lambda settings, shapes: defaults.settled(
        ConfigDict(settings), feature_set(431, shapes)
    )[1]["steps"]
    sequences, vectors = ((16, 128), (64, 6)), ((128,), (6,))
    assert choose(settings, sequences) == 1350
    assert choose(settings, vectors) == choose(settings | {"method": {}}, sequences) == 400


def test_only_training_pairs_count():
    alone = feature_set(count=200)
    alone.present["m0"][:100] = False
    assert defaults.facts(alone).pairs == 100
    assert defaults.facts(feature_set(count=200)).pairs == 200


@pytest.mark.parametrize(
    ("shapes", "start"),
    [
        (((20,), (30,)), True),
        (((20,), (1, 30)), True),  # one step is no time
        (((20,), (8, 30)), False),
        (((20,), (100_000,)), False),  # most of the network would be the linear path
    ],
)
def test_vectors_begin_at_a_linear_solution(shapes, start):
    assert defaults.linear_start(defaults.facts(feature_set(8, shapes))) is start


@pytest.mark.parametrize(
    ("shapes", "codes", "noise"),
    [
        (((20,), (30,)), False, 1.0),  # towers that begin at a linear solution
        (((20,), (8, 30)), False, 0.4),
        (((20,), (30,)), True, 0.1),
        (((20,), (2401,)), True, 0.5),  # more numbers than three times the pairs
        (((20,), (80, 31)), True, 0.1),
    ],
)
def test_noise_follows_how_the_towers_begin_and_how_wide_the_data_are(shapes, codes, noise):
    assert defaults.noise(defaults.facts(feature_set(shapes=shapes), codes)) == noise


def test_volumes_are_of_three_modalities_at_most():
    rules = [defaults.RULES[f"method.{name}"] for name in ("measure", "temperature")]
    chosen = lambda count: [rule(defaults.facts(feature_set(8, ((2,),) * count))) for rule in rules]
    assert chosen(3) == ["volume", 0.05]
    assert chosen(4) == ["cosine", 0.1]


def test_more_than_three_modalities_are_grouped_by_their_plans():
    rule = defaults.RULES["method.groups"]
    assert rule(defaults.facts(feature_set(8, ((2,),) * 3))) == "all"
    assert rule(defaults.facts(feature_set(8, ((2,),) * 4))) == "top"


def test_what_is_set_stays_and_the_configuration_given_is_not_changed():
    given = ConfigDict({"steps": 7, "batch_size": placeholder(int)})
    closed, found = defaults.settled(given, feature_set())
    assert closed.to_dict() == {"steps": 7, "batch_size": 128} and found == {"batch_size": 128}
    assert given.batch_size is None


def test_a_setting_that_no_rule_chooses_is_named():
    with pytest.raises(ValueError, match="seed is not set"):
        defaults.settled(ConfigDict({"seed": placeholder(int)}), feature_set())
