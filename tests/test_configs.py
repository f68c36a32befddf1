"""Every configuration builds, names settings that exist, and refuses what it does not know."""

import dataclasses
import runpy
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from unirep_jax.methods import METHODS
from unirep_jax.workdir import ConfigError, claim, default_workdir, flat

CONFIGS = Path(__file__).parents[1] / "configs"


def load(name: str) -> dict:
    return runpy.run_path(str(CONFIGS / name))


@pytest.mark.parametrize("name", ["oscmg.py", "cmg.py"])
@pytest.mark.parametrize("data", ["digits_avt", "utd_mhad", "features"])
@pytest.mark.parametrize("preset", ["", ",paper", ",official"])
def test_every_configuration_builds_the_method_it_names(name, data, preset):
    config = load(name)["get_config"](data + preset)
    settings = config.method.to_dict()
    method = METHODS[settings.pop("name")](**settings)
    assert set(settings) == {field.name for field in dataclasses.fields(method)}
    assert config.experiment == name.removesuffix(".py") and config.data.name == data


@pytest.mark.parametrize("argument", ["digits", "digits_avt,best", ""])
def test_an_unknown_argument_lists_what_there_is(argument):
    with pytest.raises(ValueError, match=r"digits_avt.*utd_mhad.*paper.*official"):
        load("oscmg.py")["get_config"](argument)


def test_every_ablation_changes_settings_that_exist_and_is_a_valid_method():
    module, known = load("ablations.py"), flat(load("oscmg.py")["get_config"]().to_dict())
    assert len(module["get_variants"]("losses")) == 7
    for name in module["VARIANTS"]:
        for title, settings in module["get_variants"](name).items():
            assert settings.keys() <= known.keys(), title
            config = load("oscmg.py")["get_config"]()
            config.update_from_flattened_dict(settings)
            method = config.method.to_dict()
            METHODS[method.pop("name")](**method)


def test_the_default_workdir_is_a_function_of_every_setting():
    first = ConfigDict({"experiment": "e", "data": {"name": "d"}, "method": {"name": "m"},
                        "seed": 0, "train": {"lr": 0.1}})  # fmt: skip
    second = first.copy_and_resolve_references()
    assert default_workdir(first) == default_workdir(second)
    second.train.lr = 0.2
    assert default_workdir(first) != default_workdir(second)


def test_a_workdir_belongs_to_one_configuration(tmp_path):
    claim(tmp_path, ConfigDict({"a": {"b": 1}, "c": (1, 2)}))
    claim(tmp_path, ConfigDict({"a": {"b": 1}, "c": (1, 2)}))
    with pytest.raises(ConfigError, match=r"a\.b is 1 there and 2 here"):
        claim(tmp_path, ConfigDict({"a": {"b": 2}, "c": (1, 2)}))
