"""Evaluation on other sets: each by what it holds, with methods whose answers are known."""

import dataclasses
import json
import runpy
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest
from evaluation_case import as_it_is, trained

from unirep_jax.data import FeatureSet
from unirep_jax.methods.method import Embedding, RepresentationMethod, unit_mean
from unirep_jax.tasks import TASKS
from unirep_jax.tasks.transfer.task import Transfer

pytestmark = pytest.mark.usefixtures("standard_promotion")

CONFIG = Path(__file__).parents[2] / "configs/transfer.py"
CLASSES, TIME = 4, 3
FAST = {"hidden": 16, "steps": 100, "batch_size": 20, "lr": 2e-2}
SETTINGS = {"probe": FAST | {"weight_decay": 0.01}, "event_probe": FAST, "folds": 2}


class Codebook(NamedTuple):
    codebook: jnp.ndarray


class Reader(RepresentationMethod):
    """A method whose code is what the first channel says."""

    def for_data(self, shapes, classes):
        return self

    def codebook(self, state):
        return state["codebook"].codebook

    def embed(self, params, state, modality, features):
        indices = features[..., 0].astype(jnp.int32)
        sequence = self.codebook(state)[indices]
        return Embedding(sequence, unit_mean(sequence), indices)


def codes_of(classes):
    """[example, time, 2] features of which every method that looks reads the code."""
    return np.stack([classes, np.zeros_like(classes)], axis=-1).astype(np.float32)


def data_set(modalities=("audio", "video", "text")):
    label = np.tile(np.arange(CLASSES), 10)
    features = {m: codes_of(np.repeat(label[:, None], TIME, axis=1)) for m in modalities}
    return FeatureSet.from_arrays("pretraining", features, label, np.arange(40) < 20)


def folder(path, *, classes, train, label, recipe=(), events=None, group=None):
    """What `unirep_jax.data.prepare` writes, with one code a second."""
    count = len(label)
    (path / "modality").mkdir(parents=True)
    for m, codes in classes.items():
        np.save(path / f"modality/{m}.npy", codes_of(codes))
    arrays = {
        "label": label,
        "split": np.where(train, "train", "test"),
        "group": np.arange(count) if group is None else group,
        "class_name": np.array([str(i) for i in range(CLASSES)]),
    }
    for key, array in arrays.items():
        np.save(path / f"{key}.npy", array)
    (path / "examples.txt").write_text("".join(f"{i}\n" for i in range(count)))
    made = {"train": "a", "test": "b", "captions": "", "open_sets": []} | dict(recipe)
    (path / "recipe.json").write_text(json.dumps(made))
    if events is not None:
        content = {f"events/{m}": x for m, x in events.items()}
        content |= {f"labelled/{m}": np.ones(count, bool) for m in events}
        np.savez(path / "events.npz", **content)
    return str(path)


def labelled(path, **recipe):
    """Sixty clips whose every second is the code of the class."""
    label = np.tile(np.arange(CLASSES), 15)
    codes = np.repeat(label[:, None], TIME, axis=1)
    return folder(
        path,
        classes={"audio": codes, "video": codes},
        train=np.arange(60) < 40,
        label=label,
        recipe=recipe,
    )


def eventful(path, **recipe):
    rng = np.random.default_rng(0)
    codes = rng.integers(0, CLASSES, (60, TIME))
    active = codes[..., None] == np.arange(CLASSES)
    return folder(
        path,
        classes={"audio": codes, "video": codes},
        train=np.arange(60) < 40,
        label=np.full(60, -1),
        recipe=recipe,
        events={"audio": active, "video": active},
    )


def captioned(path):
    """Five clips of two captions each."""
    codes = np.repeat(np.array([[0, 0, 3], [0, 1, 3], [0, 2, 3], [0, 3, 3], [1, 1, 3]]), 2, axis=0)
    return folder(
        path,
        classes={"audio": codes, "text": codes[:, ::-1]},
        train=np.zeros(10, bool),
        label=np.full(10, -1),
        recipe={"train": "", "captions": "text"},
        group=np.repeat(np.arange(5), 2),
    )


def evaluated(sets, tmp_path, **settings):
    codebook = jnp.asarray(np.random.default_rng(1).normal(size=(CLASSES, 8)), jnp.float32)
    protocol = Transfer(sets=tuple(sets), **SETTINGS | settings)
    data = data_set()
    assert protocol.prepare(data, Reader(), None, 0).seen is data
    state = {"codebook": Codebook(codebook)}
    made = trained(Reader(), as_it_is(data), tmp_path, name="reader", state=state)
    return protocol, protocol.evaluate(made)


def test_a_set_with_open_set_protocols_is_evaluated_closed_and_open(tmp_path):
    counts = [{"source": "audio", "target": "video", "known": 2}]
    path = labelled(tmp_path / "ave", open_sets=counts)
    protocol, found = evaluated([path], tmp_path, selections=("paper",))
    assert {m.dataset for m in found} == {"ave"}
    accuracy = [m for m in found if m.experiment == "cmg" and m.method == "reader"]
    assert {(m.source, m.target) for m in accuracy} == {
        (s, t) for s in ("audio", "video") for t in ("audio", "video")
    }
    assert all(m.value == 1 and m.num_examples == 20 for m in accuracy)
    closed = [m.value for m in found if (m.method, m.experiment) == ("chance", "cmg")]
    assert closed == [1 / CLASSES] * 4
    hos = [m for m in found if (m.method, m.metric, m.selection) == ("reader", "hos", "paper")]
    assert {(m.source, m.target) for m in hos} == {("audio", "video"), ("video", "audio")}
    assert {m.split for m in hos} == {"split1"} and all(m.num_examples == 20 for m in hos)
    chance = [m.value for m in found if (m.method, m.metric) == ("chance", "os_star")]
    assert len(set(chance)) == 1 and chance[0] < 1 / 2
    table = protocol.tables(found)
    assert "### ave: open set, selection `paper`" in table and "### ave: closed set" in table


def test_directions_within_a_modality_are_left_out_where_examples_are_shared(tmp_path):
    paths = [
        labelled(tmp_path / "ucf", train="a+b", test="b"),
        eventful(tmp_path / "avvp", train="a+b", test="a+b"),
    ]
    _, found = evaluated(paths, tmp_path)
    directions = {(m.dataset, m.source, m.target) for m in found}
    assert directions == {
        (name, *pair)
        for name in ("ucf", "avvp")
        for pair in (("audio", "video"), ("video", "audio"))
    }


def test_events_in_time_are_found_in_the_other_modality(tmp_path):
    protocol, found = evaluated([eventful(tmp_path / "avvp")], tmp_path)
    assert {m.experiment for m in found} == {"events"}
    f1 = {(m.source, m.target): m.value for m in found if m.metric == "segment_f1"}
    assert f1["audio", "video"] == f1["video", "audio"] == f1["audio", "audio+video"] == 1
    table = protocol.tables(found)
    assert "### avvp: events in time" in table and "published F1" in table
    assert "| audio → video " in table and "100.00" in table


def test_a_set_without_training_examples_is_searched(tmp_path):
    protocol, found = evaluated([captioned(tmp_path / "clotho")], tmp_path)
    assert {m.experiment for m in found} == {"retrieval"}
    value = {
        (m.method, m.source, m.target): (m.value, m.num_examples)
        for m in found
        if (m.metric, m.selection) == ("recall_at_1", "cosine")
    }
    assert value["reader", "text", "audio"] == (1, 10)
    assert value["reader", "audio", "text"] == (1, 5)
    assert value["chance", "text", "audio"][0] == pytest.approx(1 / 5)
    assert "### clotho: one modality against one, by cosine" in protocol.tables(found)


def test_a_set_without_labels_or_events_is_searched_though_it_has_training_examples(tmp_path):
    """As Valor-32K by default; a table without a row would say nothing."""
    codes = np.random.default_rng(0).integers(0, CLASSES, (40, TIME))
    path = folder(
        tmp_path / "valor",
        classes={"audio": codes, "video": codes},
        train=np.arange(40) < 25,
        label=np.full(40, -1),
    )
    _, found = evaluated([path], tmp_path)
    assert {m.experiment for m in found} == {"retrieval"}
    assert {m.num_examples for m in found} == {15}, "the test examples alone"


def test_a_set_of_which_no_table_would_have_a_row_is_refused_before_training(tmp_path):
    codes = np.zeros((20, TIME), int)
    path = folder(
        tmp_path / "apart",
        classes={"audio": codes, "video": codes},
        train=np.arange(20) < 10,
        label=np.full(20, -1),
    )
    (tmp_path / "apart" / "present").mkdir()
    for m, there in (("audio", np.arange(20) < 14), ("video", np.arange(20) >= 14)):
        np.save(tmp_path / "apart" / "present" / f"{m}.npy", there)
    with pytest.raises(ValueError, match=r"neither labels nor events, .* 4 of audio, 6 of video"):
        Transfer(sets=(path,)).prepare(data_set(), Reader(), None, 0)


def test_linear_rows_stand_beside_the_method_where_they_can_be_compared(tmp_path):
    paths = [labelled(tmp_path / "ave"), eventful(tmp_path / "avvp")]
    _, found = evaluated(paths, tmp_path)
    directions = {
        (m.experiment, m.method): {
            (a.source, a.target)
            for a in found
            if (a.experiment, a.method) == (m.experiment, m.method)
        }
        for m in found
    }
    within = {(m, m) for m in ("audio", "video")}
    assert directions["cmg", "cca"] == within | {("audio", "video"), ("video", "audio")}
    assert directions["cmg", "raw"] == within == directions["events", "raw"]
    assert ("events", "cca") not in directions, "one vector of an example has no seconds"
    _, alone = evaluated(paths, tmp_path, control=False)
    assert {m.method for m in alone} == {"reader", "chance"}


def test_sets_that_are_absent_are_all_named(tmp_path):
    there = labelled(tmp_path / "ave")
    protocol = Transfer(sets=(str(tmp_path / "x"), there, str(tmp_path / "y")))
    with pytest.raises(ValueError, match=r"task.sets: not made by .*x', '.*y'\]"):
        protocol.prepare(data_set(), Reader(), None, 0)
    with pytest.raises(ValueError, match="names no folder"):
        Transfer().prepare(data_set(), Reader(), None, 0)


def test_sets_that_do_not_fit_the_training_data_are_named(tmp_path):
    path = labelled(tmp_path / "ave")
    with pytest.raises(ValueError, match=r"ave has 'video', the training data audio, text"):
        Transfer(sets=(path,)).prepare(data_set(("audio", "text")), Reader(), None, 0)
    wide = data_set()
    wide = dataclasses.replace(
        wide, features=wide.features | {"audio": np.zeros((40, TIME, 5), np.float32)}
    )
    with pytest.raises(ValueError, match=r"ave: audio \(3, 2\), in training \(3, 5\)"):
        Transfer(sets=(path,)).prepare(wide, Reader(), None, 0)


@pytest.mark.parametrize("argument", ["micu,paper", "micu,official", "dcid", "turn,paper"])
def test_the_configuration_names_settings_of_the_protocol(argument):
    config = runpy.run_path(str(CONFIG))["get_config"](argument)
    assert TASKS[config.experiment] is Transfer
    protocol = Transfer(**config.task.to_dict())
    assert {f.name for f in dataclasses.fields(protocol)} == set(config.task)
    assert config.method.name == argument.partition(",")[0] and config.data.name == "features"
