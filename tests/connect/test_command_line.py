"""python -m unirep_jax.connect: every command from banks to numbers, and errors in one line."""

import jax
import numpy as np
import pytest

from unirep_jax import connect
from unirep_jax.connect.__main__ import main
from unirep_jax.data.banks import open_bank, write_bank
from unirep_jax.methods import CMCR

SHAPES = {"text_1": (6,), "image_1": (6,), "text_2": (10,), "audio_2": (10,)}


@pytest.fixture
def banks(tmp_path):
    """Writes unit vectors as a bank and gives its path."""

    def write(name, vectors):
        vectors = np.asarray(vectors, np.float32)
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        write_bank(tmp_path / f"{name}.npy", vectors, name=name)
        return str(tmp_path / f"{name}.npy")

    return write


def saved(tmp_path, name, array):
    np.save(tmp_path / f"{name}.npy", array)
    return str(tmp_path / f"{name}.npy")


def test_project_and_search_write_what_the_library_gives(tmp_path, banks, rng):
    method = CMCR(dim=8, hidden=12)
    connector = connect.Connector.of_method(method, *method.init(jax.random.key(0), SHAPES, {}))
    connector.save(tmp_path / "c.safetensors")
    audio = banks("audio", rng.normal(size=(7, 10)))
    main(
        [
            "project",
            f"--connector={tmp_path / 'c.safetensors'}",
            "--space=second",
            "--modality=audio",
            f"--bank={audio}",
            f"--out={tmp_path / 'out.npy'}",
        ]
    )
    projected = open_bank(tmp_path / "out.npy").embeddings
    expected = connector.project("second", "audio", open_bank(audio).embeddings)
    np.testing.assert_array_equal(projected, expected)
    items = banks("items", rng.normal(size=(9, 8)))
    main(
        [
            "search",
            f"--queries={tmp_path / 'out.npy'}",
            f"--items={items}",
            "--k=3",
            f"--out={tmp_path / 'found.npz'}",
        ]
    )
    with np.load(tmp_path / "found.npz") as found:
        scores = expected @ open_bank(items).embeddings.T
        np.testing.assert_array_equal(found["index"], np.argsort(-scores, axis=1)[:, :3])


def cells(text, title, name):
    """Numbers of the line of a table that starts with these two cells."""
    lines = [[c.strip() for c in line.split("|")[1:-1]] for line in text.splitlines()]
    header = next(line for line in lines if "" in line and len(line) > 2)
    (line,) = [line for line in lines if line[:2] == [title, name]]
    return dict(zip(header[2:], line[2:], strict=True))


def test_retrieve_gives_both_directions_with_chance(tmp_path, banks, capsys):
    first = banks("first", np.eye(4))
    second = banks("second", np.eye(4)[[0, 1, 3, 2]] + 1e-3)
    label = saved(tmp_path, "label", np.array([0, 0, 1, 1]))
    main(["retrieve", f"--first={first}", f"--second={second}", f"--label={label}"])
    text = capsys.readouterr().out
    for direction in ("first → second", "second → first"):
        measured, chance = (cells(text, direction, n) for n in ("measured", "chance"))
        assert measured["recall_at_1"] == "50.00" and chance["recall_at_1"] == "25.00"
        assert measured["recall_at_5"] == "100.00" and "class_map" in measured


def test_classify_gives_top_accuracies(tmp_path, banks, capsys):
    items = banks("items", np.eye(4)[[0, 1, 2, 2]])
    prompts = saved(tmp_path, "prompts", np.stack([np.eye(4, dtype=np.float32)] * 2, axis=1))
    label = saved(tmp_path, "label", np.array([0, 1, 2, 3]))
    main(["classify", f"--items={items}", f"--prompts={prompts}", f"--label={label}"])
    text = capsys.readouterr().out
    assert cells(text, "items", "measured")["top_1"] == "75.00"
    assert cells(text, "items", "chance")["top_3"] == "75.00"


def boxes(tmp_path, **changes):
    arrays = {
        "proposal_box": np.array([[0, 0, 0.5, 1], [0.5, 0, 1, 1], [0, 0, 1, 1]]),
        "proposal_of": np.array([0, 0, 1]),
        "truth_box": np.array([[0, 0, 0.5, 1]]),
        "truth_of": np.array([0]),
    } | changes
    np.savez(tmp_path / "boxes.npz", **arrays)
    return str(tmp_path / "boxes.npz")


def test_localize_finds_the_object_and_the_image_without_one(tmp_path, banks, capsys):
    audio = banks("audio", np.eye(4)[:2])
    proposals = banks("proposals", [[1, 0, 0, 0], [0, 0, 1, 0], [0, 0.1, 1, 0]])
    main(["localize", f"--audio={audio}", f"--proposals={proposals}", f"--boxes={boxes(tmp_path)}"])
    text = capsys.readouterr().out
    assert cells(text, "localisation", "measured")["ciou"] == "100.00"
    assert cells(text, "localisation", "chance")["ciou"] == "50.00"
    assert cells(text, "counterfactual", "measured")["max_f1"] == "100.00"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"truth_as": np.zeros(1)}, "array 'truth_as' is unknown"),
        ({"proposal_of": np.array([0, 0, 7])}, "7"),
    ],
)
def test_boxes_that_do_not_fit_end_in_one_line(tmp_path, banks, changes, message):
    audio, proposals = banks("audio", np.eye(4)[:2]), banks("proposals", np.eye(4)[:3])
    with pytest.raises(SystemExit, match=f"error: .*{message}"):
        main(
            [
                "localize",
                f"--audio={audio}",
                f"--proposals={proposals}",
                f"--boxes={boxes(tmp_path, **changes)}",
            ]
        )


def test_a_file_that_is_not_there_ends_in_one_line(tmp_path):
    with pytest.raises(SystemExit, match=r"error: .*absent\.npy"):
        main(["retrieve", f"--first={tmp_path / 'absent.npy'}", "--second=x.npy"])
