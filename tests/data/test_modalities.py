"""Flow as a further modality, and a choice of modalities."""

import numpy as np
import pytest

from unirep_jax.data import FeatureFileError, FeatureSet
from unirep_jax.data.catalog import load_data
from unirep_jax.data.modalities import add_flow, choose_modalities, without_classes


@pytest.fixture
def flow(rng) -> np.ndarray:
    return rng.standard_normal((6, 4, 8)).astype(np.float32)


@pytest.fixture
def folder(tmp_path, write_folder, flow):
    return write_folder(tmp_path / "flow", {"modality/flow": flow})


def test_flow_becomes_the_last_modality_and_nothing_else_changes(right, folder, flow):
    more = add_flow(right, folder)
    assert more.modalities == (*right.modalities, "flow") and more.name == right.name
    assert isinstance(more.features["flow"], np.memmap)
    np.testing.assert_array_equal(more.features["flow"], flow)
    assert more.present["flow"].all()
    for field in ("label", "train", "group"):
        np.testing.assert_array_equal(getattr(more, field), getattr(right, field))
    for m in right.modalities:
        np.testing.assert_array_equal(more.features[m], right.features[m])
        np.testing.assert_array_equal(more.present[m], right.present[m])
    assert more.class_names == right.class_names


def test_clips_that_are_absent_have_no_flow(right, folder):
    marks = np.array([True, False, True, True, True, True])
    (folder / "present").mkdir()
    np.save(folder / "present" / "flow.npy", marks)
    np.testing.assert_array_equal(add_flow(right, folder).present["flow"], marks)


def test_flow_that_does_not_fit_is_refused_with_its_file(right, folder, flow, tmp_path):
    file = folder / "modality" / "flow.npy"
    for wrong, message in (
        (flow[:5], "modality/flow: expected 6 examples as in label, found 5"),
        (np.full_like(flow, np.nan), "modality/flow: expected finite"),
        (flow.astype(int), "modality/flow: expected a float array"),
    ):
        np.save(file, wrong)
        with pytest.raises(FeatureFileError, match=message):
            add_flow(right, folder)
    np.save(file, flow)
    with pytest.raises(FeatureFileError, match="flow: expected features without flow in right"):
        add_flow(add_flow(right, folder), folder)
    with pytest.raises(FeatureFileError, match="nothing there"):
        add_flow(right, tmp_path / "absent")


def test_chosen_modalities_come_in_the_order_in_which_they_are_named(right):
    chosen = choose_modalities(right, ("text", "video"))
    assert chosen.modalities == ("text", "video") and [*chosen.present] == ["text", "video"]
    for m in chosen.modalities:
        np.testing.assert_array_equal(chosen.features[m], right.features[m])
    np.testing.assert_array_equal(chosen.label, right.label)


def test_examples_with_none_of_the_chosen_modalities_are_left_out(rng):
    seen = {m: np.arange(6) % 3 != i for i, m in enumerate("abc")}
    seen["c"][0] = seen["a"][0] = True
    seen["a"][1] = seen["b"][1] = False
    features = {m: rng.standard_normal((6, 2)) for m in "abc"}
    label, train = np.array([0, 1, 2, 0, 1, 2]), np.arange(6) < 3
    whole = FeatureSet.from_arrays("set", features, label, train, present=seen)
    chosen = choose_modalities(whole, ["a", "b"])
    rows = [0, 2, 3, 4, 5]
    np.testing.assert_array_equal(chosen.label, label[rows])
    np.testing.assert_array_equal(chosen.train, train[rows])
    np.testing.assert_array_equal(chosen.group, rows)
    for m in "ab":
        np.testing.assert_array_equal(chosen.features[m], features[m][rows])
        np.testing.assert_array_equal(chosen.present[m], seen[m][rows])
    everything_absent = {m: p & (train if m != "c" else True) for m, p in seen.items()}
    whole = FeatureSet.from_arrays(
        "set", features, label, train, present=everything_absent | {"c": np.ones(6, bool)}
    )
    with pytest.raises(ValueError, match=r"'a', 'b'\): no test example has any"):
        choose_modalities(whole, ["a", "b"])


@pytest.mark.parametrize("names", [("video",), ("video", "smell"), ("video", "video")])
def test_a_choice_that_cannot_be_lists_what_there_is(right, names):
    with pytest.raises(ValueError, match="expected two or more of video, audio, text, each once"):
        choose_modalities(right, names)


def test_the_section_data_of_a_configuration_adds_flow_before_it_chooses(tmp_path, arrays, folder):
    np.savez(tmp_path / "right.npz", **arrays)
    section = {"name": "features", "path": str(tmp_path / "right.npz")}
    assert load_data(**section).modalities == ("video", "audio", "text")
    chosen = load_data(**section, flow=str(folder), modalities=("flow", "audio"))
    assert chosen.modalities == ("flow", "audio")


def test_classes_are_left_out_by_name_and_later_ones_move_up():
    data = FeatureSet.from_arrays(
        "set",
        {"a": np.arange(6.0)[:, None], "b": np.ones((6, 2))},
        np.array([0, 1, 2, 1, -1, 2]),
        np.array([True, True, True, False, False, False]),
        class_names=("x", "y", "z"),
    )
    rest = without_classes(data, ("y",))
    assert rest.class_names == ("x", "z")
    assert rest.label.tolist() == [0, 1, -1, 1]  # what has no class stays
    assert rest.features["a"][:, 0].tolist() == [0, 2, 4, 5]
    for names in (("w",), ("x", "y", "z")):
        with pytest.raises(ValueError, match="expected some of x, y, z, not all"):
            without_classes(data, names)
