"""The road to Table 2 with files of the true formats and shapes: prepare, transfer, the table."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from unirep_jax.data import load_features
from unirep_jax.data.builders import Ave, VggsoundAvel40k
from unirep_jax.data.prepare import convert
from unirep_jax.data.published_shapes import SHAPES
from unirep_jax.evaluation.measurements import read_measurements
from unirep_jax.experiment import run
from unirep_jax.sweep import varied

CONFIGS = Path(__file__).parents[1] / "configs"
CLASSES, PER_CLASS = 28, 4  # of AVE, the last of each class for the test
CLIPS = CLASSES * PER_CLASS


@pytest.fixture(scope="module")
def trees():
    import sys

    sys.path.insert(0, str(Path(__file__).parent / "data"))
    import published_trees

    return published_trees


@pytest.fixture
def folders(trees, tmp_path, monkeypatch):
    """Both sets, converted to float16."""
    monkeypatch.setattr(trees, "VIDEO", SHAPES["video"])
    parts = ["train"] * 14 + ["val"] * 2 + ["test"] * 4
    clips = {f"clip{i:07d}": (i % 5, part, 10) for i, part in enumerate(parts)}
    monkeypatch.setattr(trees, "AVEL", clips)
    made = {}
    for name, write, builder in (("avel40k", trees.avel40k, VggsoundAvel40k), ("ave", _ave, Ave)):
        raw = tmp_path / "raw" / name
        raw.mkdir(parents=True)
        write(raw) if name == "avel40k" else write(trees, raw)
        made[name] = tmp_path / name
        partial = builder(config="partial", data_dir=str(tmp_path / "tfds"))
        convert(partial, raw, made[name], dtype="float16")
    return made


def _ave(trees, folder):
    """AVE as its authors give it, with a hundredth of its clips."""
    rng = np.random.default_rng(0)
    label = np.arange(CLIPS) % CLASSES
    centre = {m: rng.standard_normal((CLASSES, SHAPES[m][-1])) for m in ("audio", "video")}
    for name, m in (("audio_feature", "audio"), ("visual_feature", "video")):
        mean = centre[m][label].reshape(CLIPS, *[1] * (len(SHAPES[m]) - 1), -1)
        noise = rng.standard_normal((CLIPS, *SHAPES[m]), np.float32)
        trees.put_h5(folder / f"{name}.h5", "avadataset", (mean + noise).astype(np.float32))
    events = np.zeros((CLIPS, 10, CLASSES), bool)
    events[np.arange(CLIPS), 2:8, label] = True
    trees.put_h5(folder / "labels.h5", "avadataset", trees.background(events).astype(np.int64))
    last = np.arange(CLIPS) >= CLIPS - CLASSES
    for split, rows in (
        ("train", ~last),
        ("val", last & (label < 2)),
        ("test", last & (label > 1)),
    ):
        trees.put_h5(folder / f"{split}_order.h5", "order", np.flatnonzero(rows))
    lines = [f"{trees.AVE_CLASSES[c]}&video{i:06d}&good&2&8" for i, c in enumerate(label)]
    header = "Category&VideoID&Quality&StartTime&EndTime"
    trees.put_lines(folder / "Annotations.txt", [header, *lines])


def _run(folders, title, folder):
    """One row of Table 2 under transfer, two steps and a probe of two."""
    config = runpy.run_path(str(CONFIGS / "transfer.py"))["get_config"]()
    row = runpy.run_path(str(CONFIGS / "tables/oscmg.py"))["get_variants"]("table2")[title]
    single = varied(config, row(config))
    single.update_from_flattened_dict(
        {
            "data.path": str(folders["avel40k"]),
            "task.sets": (str(folders["ave"]),),
            "steps": 2,
            "batch_size": 8,
            "task.selections": ("paper",),
            "task.probe.steps": 2,
            "task.event_probe.steps": 2,
            "task.control": False,
        }
    )
    run(single, folder)
    return [m for m in read_measurements(folder / "results.jsonl") if m.method != "chance"]


# The counts of a partial copy are not those published, which it says.
@pytest.mark.filterwarnings("ignore:.*expected .* examples, found:UserWarning")
@pytest.mark.slow
@pytest.mark.parametrize(
    "title", ["MICU", "DCID", "CMCM", "TURN", "CODIS", "MMJP6", "MICU, the authors' code"]
)
def test_prepared_files_of_the_true_shapes_give_a_row_of_table_2(
    folders, title, tmp_path, standard_promotion
):
    for name, path in folders.items():
        stored = load_features(path).features
        assert {m: x.shape[1:] for m, x in stored.items()} == {m: SHAPES[m] for m in stored}
        assert all(x.dtype == np.float16 for x in stored.values()), name
    found = _run(folders, title, tmp_path / "run")
    hos = {(m.source, m.target): m.value for m in found if m.metric == "hos"}
    assert hos.keys() == {("audio", "video"), ("video", "audio")}
    assert all(0 <= value <= 1 for value in hos.values())
    assert {m.experiment for m in found} == {"oscmg", "cmg", "events"}
    assert len([*(tmp_path / "run/figures").glob("codebook_usage_*.png")]) == 1, "Figure 6"
