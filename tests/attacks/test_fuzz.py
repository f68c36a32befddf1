"""Every reader, the report and the command lines on files that hypothesis has spoiled.

Whatever stands in a file, it is read or one line says what is wrong: no traceback, no wait, no
memory beyond that of a right file. `pytest -m slow tests/attacks/test_fuzz.py` goes on for an hour,
or for FUZZ_SECONDS, and prints how much it has tried.
"""

import contextlib
import hashlib
import json
import os
import resource
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import containers
import hypothesis
import numpy as np
import pytest
import untrusted
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutations import spoiled
from safetensors.numpy import save
from test_report_folders import make_run

sys.path.append(str(Path(__file__).parents[1] / "data"))

import published_trees
import test_small_sets
import test_torch_file

from unirep_jax import losses
from unirep_jax.connect.__main__ import main as connect
from unirep_jax.data import gather, load_features, standardization
from unirep_jax.data.archive import load_array
from unirep_jax.data.banks import open_bank, write_bank
from unirep_jax.data.builders import DataFolderError
from unirep_jax.data.builders._h5 import H5Row
from unirep_jax.data.builders._manual import captions, image_bytes
from unirep_jax.data.builders._mat import mat_variable
from unirep_jax.data.builders._tables import lines, rows
from unirep_jax.data.builders.sun_rgbd_scenes import _depth_png
from unirep_jax.data.extract_flow import main as extract_flow
from unirep_jax.data.features import FeatureFileError
from unirep_jax.data.fingerprint import fingerprint
from unirep_jax.data.raw import load_vocabulary
from unirep_jax.data.recipe import check_recipe
from unirep_jax.data.torch_file import read_tensors
from unirep_jax.data.wav import parse_wav
from unirep_jax.evaluation.measurements import ResultsError
from unirep_jax.methods import CCA
from unirep_jax.model import Model, Way
from unirep_jax.model_files import ModelFileError, load_model, save_model
from unirep_jax.models.released_weights import load_weights
from unirep_jax.report.__main__ import main as report
from unirep_jax.report.run_files import ReportError

EXAMPLES = 12  # of everyday, for each reader
SECONDS, BYTES = 20, 1 << 30  # of one input
CLEAR = (FeatureFileError, DataFolderError, ResultsError, ReportError, OSError)


class Fuzzed(NamedTuple):
    """make: a right thing in a new folder; read: all of it; clear: errors of one line."""

    make: Callable[[Path], Any]
    read: Callable[[Path], Any]
    clear: tuple[type[BaseException], ...] = CLEAR


def used(feature_set) -> None:
    """What training and a resuming run do with features first."""
    batch = gather(feature_set, np.arange(len(feature_set.label)))
    for statistics in standardization(feature_set).values():
        assert all(np.isfinite(s).all() for s in statistics)
    assert all(np.isfinite(x).all() for x in batch["features"].values())
    fingerprint(feature_set)
    str(feature_set.class_names).encode()


def command(main: Callable, *arguments: str) -> None:
    """A command line, which answers with one line or with success."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):  # noqa: PTH123
        try:
            main(list(arguments))
        except SystemExit as stop:
            assert str(stop.code).startswith("error: ")
            raise FeatureFileError(*arguments[:1], None, "", str(stop.code)) from None


def word_file(folder: Path) -> None:
    ids = np.array([[4, 2, 0], [3, 0, 0], [9, 9, 9], [5, 1, 2]], np.int64)
    arrays = untrusted.feature_arrays() | {"modality/words": ids, "kind/sight": "spectrogram"}
    np.savez(folder / "set.npz", **arrays)


def bank_and_labels(folder: Path) -> None:
    write_bank(folder / "a.npy", containers.unit_rows(4), name="a")
    np.save(folder / "label.npy", np.arange(4))


def clips(folder: Path) -> None:
    np.savez(folder / "clips.npz", depth=np.zeros((1, 2, 8, 8), np.uint8))


def wave(folder: Path) -> None:
    import scipy.io.wavfile

    scipy.io.wavfile.write(folder / "a.wav", 16000, np.arange(100, dtype=np.int16))


def picture(folder: Path) -> None:
    from PIL import Image

    Image.new("RGB", (8, 8)).save(folder / "a.png")


def depth(folder: Path) -> None:
    from PIL import Image

    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8)).save(folder / "a.png")


def matlab(folder: Path) -> None:
    from scipy.io import savemat

    content = {"x": np.arange(9), "cells": np.array(["a", "bc"], object)}
    savemat(folder / "a.mat", content, do_compression=True)


def flow(folder: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        (folder / "flow/modality/flow.npy").unlink()
    path, out = str(folder / "clips.npz"), str(folder / "flow")
    command(extract_flow, f"--path={path}", "--key=depth", f"--out={out}", "--processes=1")


def retrieve(folder: Path) -> None:
    bank, label = folder / "a.npy", folder / "label.npy"
    command(connect, "retrieve", f"--first={bank}", f"--second={bank}", f"--label={label}")


def text(folder: Path) -> None:
    (folder / "a.txt").write_text("a bird\nwith a beak\n")


def torch_zip(folder: Path) -> None:
    tensors = {"a": test_torch_file.Rebuild("0", 6, (2, 3), (3, 1)), "epoch": 3}
    test_torch_file.write(folder / "a.pth", {"model": tensors}, {"0": np.arange(6, dtype="<f4")})


def torch_sequence(folder: Path) -> None:
    tensors = {"a": test_torch_file.Rebuild("k", 3, (3,), (1,))}
    test_torch_file.write_old(folder / "old.pth", tensors, {"k": np.arange(3, dtype="<f4")})


def model(folder: Path) -> None:
    """With a frozen encoder, nested parameters and a state of its own type."""
    array = np.arange(6, dtype=np.float32).reshape(3, 2)
    params = {"maps": {"a": array, "b": array}, "means": (array[0], array[1])}
    state = {"table": losses.CodebookState(array, array[:, 0], array, array[:, 0])}
    shapes = {"a": (3,), "b": (3,)}
    ways = {m: (Way(None, m),) for m in shapes}
    encoder = Model("cca", CCA(dim=2), params, state, shapes, shapes, ways)
    ways = {"a": (Way(encoder, "a"),), "b": (Way(None, "b"),)}
    save_model(
        Model("cca", CCA(dim=2), params, state, shapes, shapes, ways, ("dog", "cat")),
        folder / "model",
    )


def load_with_right_hashes(folder: Path) -> None:
    """As one who changes weights changes their hash, too."""
    copy = shutil.copytree(folder / "model", folder.parent / "copy", dirs_exist_ok=True)
    for description in copy.rglob("model.json"):
        weights = description.with_name("weights.safetensors").read_bytes()
        with contextlib.suppress(ValueError, TypeError, RecursionError):
            content = json.loads(description.read_bytes())
            content["sha256"] = hashlib.sha256(weights).hexdigest()
            description.write_text(json.dumps(content))
    loaded = load_model(copy)
    assert all(isinstance(name, str) for name in loaded.class_names)


def _builder(name: str) -> Fuzzed:
    """A published set in a tiny copy, indexed and every feature of it read."""
    write_tree, cls, _ = published_trees.TREES[name]

    def read(folder: Path) -> None:
        builder = cls(data_dir=folder.parent / "tfds")
        for examples in builder.examples(folder).values():
            for example in examples.values():
                builder.features(example)
                builder.columns(example)

    return Fuzzed(write_tree, read)


def _small_set(name: str) -> Fuzzed:
    return Fuzzed(
        lambda folder: np.savez(folder / f"{name}.npz", **test_small_sets.content(name)),
        lambda folder: used(test_small_sets.MODULES[name].load(folder)),
    )


# Orbax's files belong to test_checkpoint_damage, configurations to the command line of a run.
_ELSEWHERE = {"checkpoint", "configuration of a run", "aggregation"}
FUZZED = {
    name: Fuzzed(
        c.make, c.read, (*CLEAR, ValueError) if name in ("connector", "learner") else CLEAR
    )
    for name, c in containers.CONTAINERS.items()
    if name not in _ELSEWHERE
}
FUZZED |= {f"small set {name}": _small_set(name) for name in test_small_sets.MODULES}
FUZZED |= {f"published {name}": _builder(name) for name in published_trees.TREES}
FUZZED |= {
    "features in use": Fuzzed(
        lambda f: untrusted.feature_folder(f / "set"), lambda f: used(load_features(f / "set"))
    ),
    "words": Fuzzed(word_file, lambda f: used(load_features(f / "set.npz"))),
    "bank in use": Fuzzed(
        lambda f: (f / "b.safetensors").write_bytes(save({"rows": containers.unit_rows(9)})),
        lambda f: open_bank(f / "b.safetensors").embeddings.sum(),
    ),
    "run folder": Fuzzed(lambda f: make_run(f / "run"), lambda f: command(report, str(f / "run"))),
    "array": Fuzzed(
        lambda f: np.save(f / "a.npy", np.arange(9)), lambda f: load_array(f / "a.npy")
    ),
    "h5 row": Fuzzed(containers._h5, lambda f: H5Row(f / "order.h5", "order", 3).read()),
    "captions": Fuzzed(text, lambda f: captions(f / "a.txt")),
    "lines": Fuzzed(text, lambda f: lines(f / "a.txt")),
    "rows": Fuzzed(text, lambda f: rows(f / "a.txt")),
    "sound": Fuzzed(wave, lambda f: parse_wav((f / "a.wav").read_bytes()), (ValueError,)),
    "picture": Fuzzed(picture, lambda f: image_bytes(f / "a.png")),
    "depth": Fuzzed(depth, lambda f: _depth_png(f / "a.png")),
    "matlab": Fuzzed(matlab, lambda f: mat_variable(f / "a.mat", "x")),
    "recipe": Fuzzed(
        lambda f: (f / "recipe.json").write_text('{"train": "train", "vocabulary": ["a"]}'),
        lambda f: check_recipe(f / "recipe.json", {"train": "train"}, maker="this"),
    ),
    "vocabulary": Fuzzed(
        lambda f: (f / "recipe.json").write_text('{"vocabulary": ["a", "b"]}'), load_vocabulary
    ),
    "released weights": Fuzzed(
        lambda f: (f / "w.safetensors").write_bytes(save({"a": np.ones(3, np.float32)})),
        lambda f: load_weights(f / "w.safetensors"),
        (ValueError,),
    ),
    "connect retrieve": Fuzzed(bank_and_labels, retrieve),
    "model": Fuzzed(model, lambda f: load_model(f / "model"), (ModelFileError,)),
    "model of right hashes": Fuzzed(model, load_with_right_hashes, (ModelFileError,)),
    "torch file": Fuzzed(torch_zip, lambda f: read_tensors(f / "a.pth")),
    "torch file of old": Fuzzed(torch_sequence, lambda f: read_tensors(f / "old.pth")),
    "extract flow": Fuzzed(clips, flow),
}


@contextlib.contextmanager
def bounded():
    """One input may take so long and so much memory; warnings are as they are outside of tests."""

    def give_up(*_):
        raise AssertionError(f"more than {SECONDS} s")

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + BYTES, limits[1]))
    previous = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
        resource.setrlimit(resource.RLIMIT_AS, limits)


def fuzz(fuzzed: Fuzzed, folder: Path, files: list[Path], *, seed: int, examples: int) -> None:
    @hypothesis.seed(seed)
    @settings(
        max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(st.data())
    def attempt(data: st.DataObject) -> None:
        file = data.draw(st.sampled_from(files))
        content = file.read_bytes()
        file.write_bytes(spoiled(data.draw, content, file.suffix))
        try:
            with bounded():
                fuzzed.read(folder)
        except fuzzed.clear as error:
            # What a stranger has written does not write to the terminal as it likes.
            assert all(line.isprintable() for line in str(error).split("\n"))
            assert len(str(error)) < 20_000
        finally:
            file.write_bytes(content)

    attempt()


@pytest.fixture(params=FUZZED)
def fuzzed(request, tmp_path, monkeypatch) -> tuple[str, Callable]:
    """Name of a reader, and what fuzzes it with a seed and a number of examples."""
    published_trees.shrink(monkeypatch)
    found = FUZZED[request.param]
    folder = tmp_path / "right"
    folder.mkdir()
    found.make(folder)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    with contextlib.suppress(*found.clear if request.param == "released weights" else ()):
        found.read(folder)
    return request.param, partial(fuzz, found, folder, files)


def test_what_is_spoiled_is_read_or_named(fuzzed):
    _, attempt = fuzzed
    attempt(seed=0, examples=EXAMPLES)


@pytest.mark.slow
def test_what_is_spoiled_is_read_or_named_for_an_hour(fuzzed):
    name, attempt = fuzzed
    start, count = time.monotonic(), 0
    budget = float(os.environ.get("FUZZ_SECONDS", "3600")) / len(FUZZED)
    while time.monotonic() - start < budget:
        attempt(seed=1 + count, examples=100)
        count += 100
    print(f"\nfuzz: {name}: {count} inputs in {time.monotonic() - start:.0f} s", file=sys.stderr)
