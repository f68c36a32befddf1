"""The configuration of out-of-modal generalisation: arguments, variants."""

import dataclasses
import itertools
import runpy
from pathlib import Path

import numpy as np
import pytest

from unirep_jax.data.catalog import DATA_SETS, load_data
from unirep_jax.data.resident import Pool
from unirep_jax.defaults import settled
from unirep_jax.identity import flat
from unirep_jax.methods import METHODS
from unirep_jax.sweep import varied
from unirep_jax.tasks import TASKS

MODULE = runpy.run_path(str(Path(__file__).parents[1] / "configs" / "oom.py"))
get_config, get_variants = MODULE["get_config"], MODULE["get_variants"]
SHAPES = {"audio": (4, 3), "text": (7,), "video": (4, 5)}


def built(config):
    settings = config.method.to_dict()
    return METHODS[settings.pop("name")](**settings)


@pytest.mark.parametrize("method", MODULE["NAMES"])
def test_a_method_named_alone_or_with_a_data_set_is_built(method):
    assert {*MODULE["DATASETS"]} <= DATA_SETS.keys()
    for data in MODULE["DATASETS"]:
        config = get_config(f"{data},{method}")
        assert (config.data.name, config.method.name) == (data, method)
        assert config.method.to_dict() == {"name": method, **dataclasses.asdict(built(config))}
        assert get_config(f"{method},{data}").to_dict() == config.to_dict()
        protocol = TASKS[config.experiment](**config.task.to_dict())
        assert protocol.modality == DATA_SETS[data].out_of_modal
        assert protocol.labelled == (1.0 if method == "supervised" else 0.1)
    assert get_config(method).data.name == get_config().data.name == "digits_avt"


def test_all_methods_differ_and_the_paper_has_a_vision_transformer():
    methods = [built(get_config(name)) for name in MODULE["NAMES"]]
    assert all(a != b for a, b in itertools.combinations(methods, 2))
    for argument in ("paper", "utd_mhad,paper", "features,erm,paper"):
        config = get_config(argument)
        learner = built(config).learner()
        assert (learner.network, learner.width, learner.layers) == ("vision_transformer", 192, 12)
        assert (config.train.lr, config.train.weight_decay) == (1e-3, 1e-5)
        assert config.epochs == 50 and config.steps is None


@pytest.mark.parametrize(("data", "steps"), [("digits_avt", 940), ("known_information_low", 800)])
def test_the_paper_trains_fifty_epochs_of_the_training_part(data, steps):
    """1,197 and 1,000 examples in batches of 64, twenty steps at a time."""
    config = get_config("cox,paper")
    found, _ = settled(config, load_data(data, ""))
    assert found.steps == steps and found.steps * 64 >= 50 * load_data(data, "").train.sum()
    assert get_config().steps == 300, "the default is as it was"
    config.steps = 40
    assert settled(config, load_data(data, ""))[0].steps == 40


def test_the_ablations_are_those_of_table_4():
    rows = get_variants("ablation")
    kept = built(varied(get_config(), rows["w/o exploration"]))
    assert (kept.weight_explore, kept.weight_agreed) == (0.0, 1.0), "what agrees is kept"
    cold = varied(get_config(), rows["unsupervised w/o warm-up"])
    assert cold.task.setting == "unsupervised"
    assert (built(cold).anchors, built(cold).connect) == (0.0, 0.0)
    assert "w/o warm-up" not in rows, "of the unsupervised setting alone"


def test_unsupervised_training_reaches_exploration_by_default():
    config = varied(get_config(), get_variants("unsupervised")["COX"])
    pools = {"unlabelled": Pool(np.arange(1197), 64, ("audio",), numbered=True)}
    method = built(config).for_pools(pools, config.steps)
    assert 0 < method.explores_from() < config.steps


def test_a_variant_leaves_the_configuration_it_comes_from_as_it_is():
    config = get_config()
    copy = varied(config, {"task.labelled": 0.5})
    copy.task.setting = "unsupervised"
    assert copy.task.labelled == 0.5
    assert (config.task.labelled, config.task.setting) == (0.1, "semi")


def test_the_former_name_of_the_retrieval_configuration_works(capsys):
    former = runpy.run_path(str(Path(__file__).parents[1] / "configs" / "mover.py"))
    assert "configs/retrieval.py" in capsys.readouterr().err
    assert former["get_config"]("gram").method.name == "gram"


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "best",
        "digits_avt,best",
        "erm,cox",
        "utd_mhad,digits_avt",
        "paper,paper",
        "digits_avt cox",
    ],
)
def test_any_other_argument_lists_data_sets_and_methods(wrong):
    with pytest.raises(ValueError) as caught:
        get_config(wrong)
    listed = ", ".join(MODULE["DATASETS"]), ", ".join(MODULE["NAMES"])
    assert "data sets: {}; methods: {}".format(*listed) in str(caught.value)


def test_every_variant_is_an_experiment_of_its_own_in_settings_that_exist():
    known = flat(get_config().to_dict()).keys() | {*get_config()}
    for table in MODULE["VARIANTS"]:
        seen = []
        for title, settings in get_variants(table).items():
            assert settings.keys() <= known, title
            config = varied(get_config(), settings)
            built(config).for_data(SHAPES | {"text": (64,), "video": (64,)}, classes=6)
            TASKS[config.experiment](**config.task.to_dict())
            assert config.to_dict() not in seen, f"{table}: {title} is there already"
            seen.append(config.to_dict())
    with pytest.raises(ValueError, match="'best' is none of table2"):
        get_variants("best")


def test_a_section_given_whole_replaces_the_one_of_its_name():
    config = varied(get_config(), {"method": {"name": "x", "a": 1}, "steps": 7})
    assert config.method.to_dict() == {"name": "x", "a": 1} and config.steps == 7
    assert "a" not in get_config().method
