"""The configuration of out-of-modal generalisation: arguments, its two names, variants."""

import dataclasses
import itertools
import runpy
from pathlib import Path

import pytest

from unirep_jax.data.catalog import DATA_SETS
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
    for data, modality in MODULE["DATASETS"].items():
        config = get_config(f"{data},{method}")
        assert (config.data.name, config.method.name) == (data, method)
        assert config.method.to_dict() == {"name": method, **dataclasses.asdict(built(config))}
        assert get_config(f"{method},{data}").to_dict() == config.to_dict()
        protocol = TASKS[config.experiment](**config.task.to_dict())
        assert protocol.modality == modality
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


def test_oom_is_another_name_of_the_protocol_also_in_copies():
    config = get_config()
    config.task.modality = "video"
    assert config.task.modality == "video"
    copy = varied(config, {"task.labelled": 0.5})
    copy.protocol.setting = "unsupervised"
    assert (copy.protocol.labelled, copy.oom.setting) == (0.5, "unsupervised")
    assert (config.task.labelled, config.task.setting) == (0.1, "semi")


@pytest.mark.parametrize("wrong", ["", "best", "digits_avt,best", "erm,cox", "utd_mhad,digits_avt",
                                   "paper,cox", "digits_avt cox"])  # fmt: skip
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
