"""Every configuration builds, names settings that exist, and refuses what it does not know."""

import dataclasses
import itertools
import runpy
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from unirep_jax import defaults
from unirep_jax.data.catalog import DATA_SETS
from unirep_jax.identity import flat
from unirep_jax.methods import METHODS, RECOGNIZERS
from unirep_jax.methods.unified import CodebookMethod
from unirep_jax.sweep import sweep, varied
from unirep_jax.tasks import TASKS
from unirep_jax.workdir import ConfigError, default_workdir, write_config

CONFIGS = Path(__file__).parents[1] / "configs"
# Configurations whose argument is DATASET, METHOD or both, and the methods that they offer.
BY_METHOD = {"retrieval.py": ("mover", "gram", "pairwise"), "mmosr.py": tuple(RECOGNIZERS)}
CODEBOOK_METHODS = ("micu", "dcid", "cmcm", "codis", "turn", "mmjp")


def load(name: str) -> dict:
    return runpy.run_path(str(CONFIGS / name))


@pytest.mark.parametrize("name", ["oscmg.py", "cmg.py"])
@pytest.mark.parametrize("data", ["digits_avt", "utd_mhad", "features"])
@pytest.mark.parametrize("preset", ["", ",paper", ",official"])
def test_every_configuration_builds_the_method_it_names(name, data, preset):
    config = load(name)["get_config"](data + preset)
    fields = {field.name for field in dataclasses.fields(built(config))}
    assert {*config.method} - {"name"} == fields
    assert config.experiment == name.removesuffix(".py") and config.data.name == data


@pytest.mark.parametrize("name", ["oscmg.py", "cmg.py"])
def test_micu_and_its_baselines_differ_in_their_losses_alone(name):
    get_config = load(name)["get_config"]
    rows = {m: get_config(f"utd_mhad,{m}") for m in CODEBOOK_METHODS}
    shared = [field.name for field in dataclasses.fields(CodebookMethod) if field.name != "time"]
    for method, config in rows.items():
        assert config.method.to_dict() == {"name": method, **dataclasses.asdict(built(config))}
        assert isinstance(built(config), CodebookMethod)
        for part in ("train", "task", "steps", "batch_size", "data"):
            assert config[part] == rows["micu"][part], f"{method}: {part}"
        for field in shared:
            assert config.method[field] == rows["micu"].method[field], f"{method}: {field}"
        assert get_config(f"{method},utd_mhad").to_dict() == config.to_dict()
        assert built(get_config(method)) == built(config), "whatever the data set"
        paper = built(get_config(f"{method},paper"))
        assert paper.dim == 256 and paper.temporal == "transformer"
    assert all(built(a) != built(b) for a, b in itertools.combinations(rows.values(), 2))


def rows_of(table: dict, name: str, config: ConfigDict) -> dict[str, ConfigDict]:
    """The configurations of a table's rows."""
    rows = table["get_variants"](name)
    settings = {t: row(config) if callable(row) else row for t, row in rows.items()}
    return {title: varied(config, row) for title, row in settings.items()}


@pytest.mark.parametrize("name", ["table2", "table3", "table4", "table5"])
def test_a_table_of_methods_has_a_row_of_each_as_its_configuration_builds_it(name):
    table, get_config = load("tables/oscmg.py"), load("oscmg.py")["get_config"]
    rows = rows_of(table, name, get_config())
    assert next(iter(rows.values())).method.name == "micu"
    assert {row.method.name for row in rows.values()} == {*CODEBOOK_METHODS}
    official = rows.pop("MICU, the authors' code")
    assert built(official) == METHODS["micu"].official()
    assert official.train.lr == 4e-4, "its own optimiser, too"
    for row in rows.values():
        expected = get_config(row.method.name).to_dict()
        assert row.to_dict() == expected, "also what a search may vary"
    with pytest.raises(ValueError, match="'best' is none of table2"):
        table["get_variants"]("best")


def test_the_benchmark_tells_micus_terms_from_a_contrast_and_codes_from_vectors():
    rows = rows_of(load("tables/oscmg.py"), "benchmark", load("oscmg.py")["get_config"]())
    micu, plain = built(rows["MICU"]), built(rows["InfoNCE + VQ"])
    assert dataclasses.replace(micu, weight_fine=0.0, weight_jigsaw=0.0) == plain != micu
    assert rows["InfoNCE"].method.name == "pairwise", "vectors, no codes"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.py")), ids=lambda p: p.stem)
def test_every_configuration_chooses_modalities_and_measures_what_costs_nothing(path):
    module = runpy.run_path(str(path))
    if "get_config" not in module:
        pytest.skip("settings or variants, no experiment")
    config = module["get_config"]()
    assert isinstance(config.data.modalities, tuple)
    assert config.task.control or path.stem == "released", "nothing is trained on what is measured"
    assert TASKS[config.experiment].vocabulary.headline


def test_open_set_recognition_does_without_the_caption_that_names_the_class():
    get_config = load("mmosr.py")["get_config"]
    assert get_config("digits_avt,concat").data.modalities == ("video", "audio")
    assert get_config("utd_mhad").data.modalities == ()


def test_under_transfer_table_2_has_the_models_optimiser_and_probe_of_the_paper():
    table, get_config = load("tables/oscmg.py"), load("transfer.py")["get_config"]
    rows = rows_of(table, "table2", get_config())
    assert [*rows][-1] == "MICU, the authors' code"
    for title, row in rows.items():
        method = built(row)
        assert (method.dim, method.temporal, method.layers) == (256, "transformer", 2), title
        assert method.noise == method.gain == method.warp == 0, title
        assert (row.train.lr, row.train.schedule, row.train.weight_decay) == (4e-4, "constant", 0)
        assert row.task.probe.to_dict() == row.task.event_probe.to_dict()
        assert (row.task.probe.lr, row.task.probe.weight_decay) == (4e-4, 0)
    assert built(rows["MICU"]) == METHODS["micu"].paper()
    assert built(get_config("dcid")) == built(rows["DCID"]), "no small encoders by omission"
    assert get_config("dcid,default").method.temporal == "convolution", "but where asked for"


@pytest.mark.parametrize("preset", ["paper", "official", "default"])
def test_a_preset_after_the_name_of_a_table_holds_for_all_rows(preset):
    table = load("tables/oscmg.py")
    for base in (load("oscmg.py")["get_config"]("utd_mhad"), load("transfer.py")["get_config"]()):
        rows = rows_of(table, f"table2:{preset}", base)
        assert "MICU, the authors' code" not in rows
        for title, row in rows.items():
            assert built(row).dim == (128 if preset == "default" else 256), title
            assert row.train.lr == (1e-3 if preset == "default" else 4e-4), title
        assert built(rows["MICU"]) == built(load("oscmg.py")["get_config"](f"micu,{preset}"))


@pytest.mark.parametrize("base", ["oscmg.py", "cmg.py", "transfer.py"])
def test_every_table_and_figure_has_rows_that_are_valid_and_differ(base):
    table, config = load("tables/oscmg.py"), load(base)["get_config"]()
    assert {f"table{n}" for n in (2, 3, 4, 5, 7, 8, 9)} | {f"figure{n}" for n in (3, 4, 5, 6)} == {
        *table["TABLES"]
    }
    for name in (*table["TABLES"], "benchmark", "table6:video,audio,flow"):
        rows = rows_of(table, name, config)
        assert len(rows) > 1
        built_rows = [(built(row), row.data.modalities) for row in rows.values()]
        same = [a == b for a, b in itertools.combinations(built_rows, 2)]
        # A figure's reference row may be the configuration as it is; two rows never agree.
        assert not any(same) or name in ("table9", "figure3", "figure4"), name


@pytest.mark.parametrize("argument", ["digits", "digits_avt,best", "", "micu,dcid", "paper,paper"])
def test_an_unknown_argument_lists_what_there_is(argument):
    with pytest.raises(ValueError, match=r"digits_avt.*utd_mhad.*dcid.*paper.*official"):
        load("oscmg.py")["get_config"](argument)


def test_a_preset_that_a_method_does_not_have_lists_those_that_it_has():
    with pytest.raises(ValueError, match=r"presets of dcid: default, paper$"):
        load("oscmg.py")["get_config"]("digits_avt,dcid,official")


def test_every_ablation_changes_settings_that_exist_and_is_a_valid_method():
    module, known = load("ablations.py"), flat(load("oscmg.py")["get_config"]().to_dict())
    assert len(module["get_variants"]("losses")) == 7
    terms, timed = (module["get_variants"](name) for name in ("terms", "timed"))
    assert timed.keys() - terms.keys() == {"L_fine of shared time"}
    for name in module["VARIANTS"]:
        for title, settings in module["get_variants"](name).items():
            assert settings.keys() <= known.keys(), title
            config = load("oscmg.py")["get_config"]()
            config.update_from_flattened_dict(settings)
            method = config.method.to_dict()
            METHODS[method.pop("name")](**method)


def built(config: ConfigDict):
    """The method; what a configuration of users' features leaves open is as of some vectors."""
    vectors = defaults.Facts(pairs=800, modalities=2, vectors=True, widest=64)
    settings = {
        name: defaults.RULES[f"method.{name}"](vectors) if value is None else value
        for name, value in config.method.items()
    }
    return METHODS[settings.pop("name")](**settings)


@pytest.mark.parametrize(("name", "method"), [(n, m) for n, ms in BY_METHOD.items() for m in ms])
def test_a_method_named_alone_or_with_a_data_set_is_built(name, method):
    module = load(name)
    for data in module["DATASETS"]:
        config = module["get_config"](f"{data},{method}")
        assert (config.data.name, config.method.name) == (data, method)
        assert {*config.method} == {"name", *dataclasses.asdict(built(config))}
        assert module["get_config"](f"{method},{data}").to_dict() == config.to_dict()
    default = module["get_config"]()
    assert module["get_config"](method).data.name == default.data.name
    of_others = [d for d in module["DATASETS"] if not DATA_SETS[d].untuned]
    methods = {built(module["get_config"](f"{method},{data}")) for data in of_others}
    assert len(methods) == 1, "whatever the data set"


@pytest.mark.parametrize("name", BY_METHOD)
def test_a_data_set_alone_has_the_first_method_and_a_protocol_that_exists(name):
    module = load(name)
    assert {*module["DATASETS"]} <= DATA_SETS.keys()
    methods = [built(module["get_config"](method)) for method in BY_METHOD[name]]
    assert all(a != b for a, b in itertools.combinations(methods, 2)), "two names, one method"
    for data in module["DATASETS"]:
        config = module["get_config"](data)
        assert (config.data.name, config.method.name) == (data, BY_METHOD[name][0])
        protocol = TASKS[config.experiment](**config.task.to_dict())
        assert dataclasses.asdict(protocol) == config.task.to_dict()


@pytest.mark.parametrize("name", BY_METHOD)
@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "best",
        "{data},best",
        "{data},{data}",
        "{method},{method}",
        "{data},{method},{data}",
        "{data} {method}",
    ],
)
def test_any_other_argument_lists_data_sets_and_methods(name, wrong):
    module, methods = load(name), BY_METHOD[name]
    argument = wrong.format(data=module["DATASETS"][0], method=methods[0])
    with pytest.raises(ValueError) as caught:
        module["get_config"](argument)
    message = str(caught.value)
    assert repr(argument) in message
    for choice in module["CHOICES"][:2]:
        assert f"{choice.title}s: {', '.join(choice.names)}" in message


@pytest.mark.parametrize("name", BY_METHOD)
def test_every_variant_is_a_valid_method_of_its_own_in_settings_that_exist(name):
    module, shapes = load(name), {"audio": (4, 3), "text": (7,), "video": (4, 5)}
    known = flat(module["get_config"]().to_dict())
    for table in module["VARIANTS"]:
        methods = {}
        for title, settings in module["get_variants"](table).items():
            single = {k: v for k, v in settings.items() if k != "space"}  # a whole section
            assert single.keys() <= known.keys(), title
            config = varied(module["get_config"](), settings)
            assert {**flat(config.to_dict()), **single} == flat(config.to_dict()), title
            others = {k: v for k, v in single.items() if not k.startswith("method.")}
            methods[title] = built(config).for_data(shapes, classes=6), others
        for (one, method), (two, other) in itertools.combinations(methods.items(), 2):
            assert method != other, f"{table}: {one} and {two} are the same"
    with pytest.raises(ValueError, match=f"'best' is none of {', '.join(module['VARIANTS'])}"):
        module["get_variants"]("best")


def test_connecting_names_data_and_presets_and_every_row_of_its_tables_is_a_method_of_its_own():
    module = load("connect.py")
    for data, preset in itertools.product(module["DATASETS"], module["PRESETS"]):
        config = module["get_config"](f"{data},{preset}")
        assert module["get_config"](f"{preset},{data}").to_dict() == config.to_dict()
        embedded = data == "banks" or data.startswith("gapped_spaces")
        assert config.data.name == data and ("pretrain" in config) == (not embedded)
        protocol = TASKS[config.experiment](**config.task.to_dict())
        assert dataclasses.asdict(protocol) == config.task.to_dict()
        for number in (config.steps, config.train.log_every, config.train.checkpoint_every):
            assert number % config.train.fused == 0
        names = (*config.method.first, *config.method.second) or ("a_1", "b_1", "a_2", "c_2")
        built(config).for_data(dict.fromkeys(names, (8,)), 0)
    for preset, method in (
        ("released", METHODS["cmcr"].released()),
        ("ulip", METHODS["cmcr"].ulip()),
    ):
        config = module["get_config"](f"banks,{preset}")
        assert built(config) == dataclasses.replace(method, first=(), second=())
    for wrong in ("", "clip", "digits4,digits4", "paper,digits4,small"):
        with pytest.raises(ValueError, match=r"data sets: digits_avt.*presets: small"):
            module["get_config"](wrong)
    known = flat(module["get_config"]().to_dict())
    for table in module["VARIANTS"]:
        rows = []
        for title, settings in module["get_variants"](table).items():
            assert settings.keys() <= known.keys(), title
            config = module["get_config"]()
            config.update_from_flattened_dict(settings)
            built(config)
            rows.append(flat(config.to_dict()))
        assert all(a != b for a, b in itertools.combinations(rows, 2)), table
    assert len(module["get_variants"]("table5")) == 11
    with pytest.raises(ValueError, match="'best' is none of table5"):
        module["get_variants"]("best")


def test_mover_and_its_rivals_are_told_apart_by_what_the_papers_say():
    get_config = load("retrieval.py")["get_config"]
    mover, gram, pairwise = (built(get_config(method)) for method in BY_METHOD["retrieval.py"])
    assert mover.weight_transport > 0 and mover.weight_contrast > 0
    assert mover.measure == gram.measure == "volume" and pairwise.measure == "cosine"
    assert gram.weight_transport == pairwise.weight_transport == 0
    assert gram.learn_temperature and gram.label_smoothing > 0 and not mover.learn_temperature
    assert mover.temperature == gram.temperature < pairwise.temperature
    table = load("retrieval.py")["get_variants"]("table4")
    for title, rival in (("GRAM", gram), ("w/o both (pairwise)", pairwise)):
        config = get_config()
        config.update_from_flattened_dict(table[title])
        assert built(config) == rival, title


def test_the_default_workdir_is_a_function_of_every_setting():
    first = ConfigDict(
        {
            "experiment": "e",
            "data": {"name": "d"},
            "method": {"name": "m"},
            "seed": 0,
            "train": {"lr": 0.1},
        }
    )
    second = first.copy_and_resolve_references()
    assert default_workdir(first) == default_workdir(second)
    second.train.lr = 0.2
    assert default_workdir(first) != default_workdir(second)


def test_a_workdir_belongs_to_one_configuration(tmp_path):
    write_config(tmp_path, ConfigDict({"a": {"b": 1}, "c": (1, 2)}))
    write_config(tmp_path, ConfigDict({"a": {"b": 1}, "c": (1, 2)}))
    with pytest.raises(ConfigError, match=r"a\.b is 1 there and 2 here"):
        write_config(tmp_path, ConfigDict({"a": {"b": 2}, "c": (1, 2)}))


def test_a_sweep_searches_no_settings_on_splits_that_differ_by_seed(tmp_path):
    config = load("matrix.py")["get_config"]("digits_avt,cca")
    config.search, config.data.redraw = 4, True
    with pytest.raises(ConfigError, match="redraw=True: seed 0 would choose settings on test"):
        sweep(config, {"CCA": {}}, seeds=2, workdir=tmp_path)
    assert not [*tmp_path.iterdir()]
