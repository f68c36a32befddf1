"""A trained model in three lines: what it embeds, classifies and finds, and how it is kept."""

import dataclasses
import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import unirep_jax
from unirep_jax import embed, experiment, export
from unirep_jax.data import gather, save_features
from unirep_jax.data.banks import open_bank
from unirep_jax.evaluation.embedding import represent
from unirep_jax.model_files import ModelFileError, load_run, save_model

pytestmark = pytest.mark.usefixtures("standard_promotion")
ROOT = Path(__file__).parents[1]
SMALL_MICU = {
    "method.dim": 16,
    "method.layers": 1,
    "method.codes": 12,
    "method.pieces": 2,
    "method.permutations": 2,
    "task.probe.steps": 2,
    "task.folds": 2,
    "task.control": False,
    "task.known": (2, 3),
}
SMALL_CMCR = {
    "method.first": ("caption_1", "camera_1"),
    "method.second": ("caption_2", "sensor_2"),
    "method.dim": 8,
    "method.hidden": 8,
    "pretrain.steps": 10,
    "pretrain.batch_size": 16,
    "pretrain.method.dim": 8,
    "pretrain.method.layers": 0,
    "pretrain.train.log_every": 10,
    "pretrain.train.checkpoint_every": 10,
    "task.control": False,
    "train.fused": 2,
}
SMALL_MRN = {
    "method.width": 16,
    "method.heads": 2,
    "method.hidden": 16,
    "method.experts": 4,
    "method.count": 2,
}


def config_of(name, argument, data, path, **changes):
    save_features(path, data)
    config = runpy.run_path(str(ROOT / "configs" / f"{name}.py"))["get_config"](argument)
    small = {
        "data.name": "features",
        "data.path": str(path),
        "steps": 2,
        "batch_size": 16,
        "train.log_every": 2,
        "train.checkpoint_every": 2,
    }
    config.update_from_flattened_dict(small | changes)
    return config


@pytest.fixture(scope="module")
def micu(paired_features, tmp_path_factory):
    import jax

    folder = tmp_path_factory.mktemp("micu")
    with jax.numpy_dtype_promotion("standard"):
        config = config_of("cmg", "features", paired_features, folder / "toy.npz", **SMALL_MICU)
        return experiment.run(config, folder / "run")


def test_a_run_is_loaded_and_embeds_raw_features_of_any_number(micu, paired_features):
    model = unirep_jax.load_run(micu)
    assert model.modalities == ("camera", "sensor", "caption")
    x = paired_features.features["sensor"]
    vectors = model.embed("sensor", x)
    assert isinstance(vectors, np.ndarray) and vectors.shape == (96, 16)
    norms = np.linalg.norm(vectors, axis=1)
    assert ((np.abs(norms - 1) < 1e-5) | (norms == 0)).all()
    for batch_size in (1, 7, 500):
        some = model.embed("sensor", x[:9], batch_size=batch_size)
        np.testing.assert_allclose(some, vectors[:9], atol=1e-6)
    whole = model.represent("sensor", x)
    assert whole.sequence.shape == (96, 4, 16) and whole.codes.shape == (96, 4)
    codebook = np.asarray(model.method.codebook(model.state))
    np.testing.assert_allclose(whole.sequence, codebook[whole.codes], rtol=1e-6)


def test_standardisation_is_inside(micu, paired_features):
    model = load_run(micu)
    mean, std = model.state["statistics"]["camera"]
    np.testing.assert_allclose(
        mean,
        paired_features.features["camera"][paired_features.train].mean((0, 1)),
        rtol=1e-3,
        atol=1e-4,
    )
    features = paired_features.features["camera"]
    assert not np.allclose(
        model.embed("camera", (features - mean) / std), model.embed("camera", features)
    )


def test_search_finds_what_is_most_alike_by_cosine(micu, paired_features):
    model = load_run(micu)
    x = paired_features.features
    found = model.search("camera", x["camera"][:5], "caption", x["caption"], k=3)
    scores = model.embed("camera", x["camera"][:5]) @ model.embed("caption", x["caption"]).T
    np.testing.assert_allclose(found.score, -np.sort(-scores, axis=1)[:, :3], atol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.embed("radar", np.zeros((2, 4, 10))), "'radar' is none of camera, sensor"),
        (lambda m: m.embed("camera", np.zeros((2, 4, 9))), r"expected \[example, 4, 10\]"),
        (lambda m: m.embed("camera", np.zeros((0, 4, 10))), "features of shape"),
        (lambda m: m.classify({"camera": np.zeros((2, 4, 10))}), "predicts no labels"),
    ],
)
def test_what_a_model_cannot_do_is_said_in_one_line(micu, call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call(load_run(micu))
    assert "\n" not in str(caught.value)


def test_frozen_encoders_are_part_of_a_model(paired_features, tmp_path):
    config = (
        config_of("connect", "", paired_features, tmp_path / "toy.npz", **SMALL_CMCR)
        if False
        else config_of("connect", "digits_avt", paired_features, tmp_path / "toy.npz", **SMALL_CMCR)
    )
    run = experiment.run(config, tmp_path / "run")
    model = load_run(run)
    assert model.modalities == ("caption", "camera", "sensor")
    first, second = (way.encoder for way in model.ways["caption"])
    x = paired_features.features
    streams = {
        "caption_1": first.embed("caption", x["caption"]),
        "caption_2": second.embed("caption", x["caption"]),
    }
    projected = [
        np.asarray(model.method.embed(model.params, model.state, s, v).vector)
        for s, v in streams.items()
    ]
    mean = np.mean(projected, axis=0)
    expected = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    np.testing.assert_allclose(model.embed("caption", x["caption"]), expected, atol=1e-5)
    assert represent(model, paired_features).vectors.keys() == {"caption", "camera", "sensor"}


def test_a_classifier_predicts_labels_from_what_is_there(paired_features, tmp_path):
    config = config_of("mmosr", "features,mrn", paired_features, tmp_path / "toy.npz", **SMALL_MRN)
    model = load_run(experiment.run(config, tmp_path / "run"))
    x = {m: v[:10] for m, v in paired_features.features.items()}
    found = model.classify(x)
    assert found.label.shape == (10,) and found.logits.shape == (10, len(model.class_names))
    np.testing.assert_array_equal(found.label, found.logits.argmax(1))
    alone = model.classify({"camera": x["camera"]})
    absent = dict.fromkeys(x, np.zeros(10, bool)) | {"camera": np.ones(10, bool)}
    batch = gather(
        dataclasses.replace(
            paired_features,
            present=dict.fromkeys(x, np.zeros(96, bool)) | {"camera": np.ones(96, bool)},
        ),
        np.arange(10),
    )
    again = model.classify(batch["features"], present=absent)
    np.testing.assert_allclose(alone.logits, again.logits, atol=1e-6)
    with pytest.raises(ValueError, match="embeds nothing"):
        model.embed("camera", x["camera"])
    with pytest.raises(ValueError, match="must have as many"):
        model.classify({"camera": x["camera"], "caption": x["caption"][:3]})


def test_an_exported_model_is_the_same_and_is_checked(micu, paired_features, tmp_path, capsys):
    export.main([str(micu), f"--out={tmp_path / 'given'}"])
    assert "weights.safetensors" in capsys.readouterr().out
    x = paired_features.features["camera"]
    np.testing.assert_array_equal(
        load_run(tmp_path / "given").embed("camera", x), load_run(micu).embed("camera", x)
    )
    with pytest.raises(SystemExit, match="holds a model already"):
        export.main([str(micu), f"--out={tmp_path / 'given'}"])
    weights = tmp_path / "given" / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelFileError, match="sha256 differs"):
        load_run(tmp_path / "given")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "format is 'other'"),
        ({"name": "nothing"}, "nothing"),
        ({"tree": {"params": "/nowhere", "state": {}}}, "nowhere"),
        ({"ways": {"camera": [["../../elsewhere", "camera"]]}}, "is not in the folder"),
        ({"method": {"dim": 16, "odd": 1}}, "odd"),
    ],
)
def test_a_damaged_description_is_refused_by_name(micu, tmp_path, change, message):
    save_model(load_run(micu), tmp_path)
    path = tmp_path / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelFileError, match=message):
        load_run(tmp_path)


def test_a_folder_without_a_model_says_why(tmp_path):
    with pytest.raises(ModelFileError, match="no folder of a run"):
        load_run(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelFileError, match="has not finished training"):
        load_run(tmp_path)


def test_the_command_line_writes_a_bank_per_modality(micu, paired_features, tmp_path, capsys):
    present = paired_features.present | {"sensor": np.arange(96) % 3 > 0}
    data = dataclasses.replace(paired_features, present=present)
    save_features(tmp_path / "data.npz", data)
    arguments = [str(micu), f"--data={tmp_path / 'data.npz'}", "--batch_size=5"]
    try:
        embed.main([*arguments, f"--out={tmp_path / 'bank.npy'}"])
    except SystemExit as stop:  # codes that cancel have no direction
        assert "norm 0" in str(stop.code)
        return
    written = capsys.readouterr().out.split()
    assert [Path(p).name for p in written] == [
        "bank_camera.npy",
        "bank_sensor.npy",
        "bank_caption.npy",
    ]
    bank = open_bank(tmp_path / "bank_sensor.npy")
    rows = np.load(tmp_path / "bank_sensor.rows.npy")
    np.testing.assert_array_equal(rows, np.flatnonzero(present["sensor"]))
    expected = load_run(micu).embed("sensor", data.features["sensor"][rows])
    np.testing.assert_allclose(bank.embeddings, expected, atol=1e-6)
    with pytest.raises(SystemExit, match="modality 'radar'"):
        embed.main([*arguments, f"--out={tmp_path / 'x.npy'}", "--modality=radar"])


def test_a_model_is_used_without_the_training_libraries(micu, paired_features, tmp_path):
    np.save(tmp_path / "x.npy", paired_features.features["camera"])
    command = (
        "import sys\n"
        "class Blocked:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name.partition('.')[0] in "
        "('tensorflow', 'orbax', 'ml_collections', 'sklearn', 'matplotlib'):\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Blocked())\n"
        "import numpy as np, unirep_jax\n"
        f"model = unirep_jax.load_run({str(micu)!r})\n"
        f"print(model.embed('camera', np.load({str(tmp_path / 'x.npy')!r})).shape)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.strip() == "(96, 16)"
