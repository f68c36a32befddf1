"""Whatever stands in the place of a file is refused by name, and nothing of it is executed."""

import contextlib
import os
import random
import signal
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
import untrusted
from containers import CONTAINERS, WHOLE

from unirep_jax.data.builders import DataFolderError
from unirep_jax.data.features import FeatureFileError
from unirep_jax.evaluation.measurements import ResultsError
from unirep_jax.train.checkpoints import CheckpointError
from unirep_jax.workdir import ConfigError

# Texts are read as they are named on the command line, pipes included.
BINARY = {
    "feature file",
    "feature folder",
    "bank",
    "bank in npz",
    "bank in safetensors",
    "zipped pickle",
    "h5",
    "text vectors",
    "connector",
    "learner",
}
CLEAR = (FeatureFileError, DataFolderError, ResultsError, CheckpointError, ConfigError, OSError)
# Orbax reads in threads, whose errors Python also reports when it throws them away.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(params=CONTAINERS)
def container(request, tmp_path):
    """Name of the container, its folder with a right one, and what reads it."""
    made = CONTAINERS[request.param]
    made.make(tmp_path)
    made.read(tmp_path)  # as it is, it is right
    return request.param, tmp_path, made.read


def clear(name: str) -> tuple[type[Exception], ...]:
    """The errors that every command line turns into one line."""
    return (*CLEAR, ValueError) if name in ("connector", "learner") else CLEAR


@contextlib.contextmanager
def refused(name: str, folder) -> Iterator[None]:
    """One clear error, soon, that names a file or folder of the container."""

    def give_up(*_):
        pytest.fail("it waits for a file that never ends")

    previous = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(20)
    try:
        with pytest.raises(clear(name)) as caught:
            yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
    assert str(folder) in str(caught.value) and len(str(caught.value)) < 2000


def files(folder):
    """The files of a container but those that Orbax writes and never reads again."""
    found = (p for p in sorted(folder.rglob("*")) if p.is_file())
    unread = ("10/", "commit_success", "ocdbt.process_0/manifest", "_sharding", "array_metadatas")
    return [p for p in found if not any(part in str(p) for part in unread)]


def differs(ours, theirs) -> bool:
    return not all(np.array_equal(ours[k], theirs[k]) for k in theirs)


def test_a_pickle_in_the_place_of_a_file_is_refused(container, trace):
    name, folder, read = container
    if name == "checkpoint":  # its files of arrays have names of chance: test_checkpoint_damage
        return
    for file in files(folder):
        content = file.read_bytes()
        file.write_bytes(untrusted.pickled(trace))
        with refused(name, folder):
            read(folder)
        file.write_bytes(content)


def test_object_arrays_in_the_place_of_arrays_are_refused(container, trace):
    name, folder, read = container
    for file in files(folder):
        content = file.read_bytes()
        if file.suffix == ".npy":
            untrusted.npy(file, untrusted.objects(trace))
        elif file.suffix == ".npz":
            with np.load(file) as archive:
                keys = archive.files
            np.savez(file, **{key: untrusted.objects(trace) for key in keys})
        else:
            continue
        with refused(name, folder):
            read(folder)
        file.write_bytes(content)


def test_cut_files_and_flipped_bits_are_refused_or_harmless(container):
    name, folder, read = container
    rng = random.Random(name)
    for file in files(folder):
        content = file.read_bytes()
        for what, spoiled in untrusted.damaged(content, rng):
            file.write_bytes(spoiled)
            must_fail = what.startswith("cut") and name in WHOLE and spoiled.strip() != content
            must_fail &= content[len(spoiled) :].strip() != b""  # more than a line's end
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if must_fail:
                    with refused(name, folder):
                        read(folder)
                    continue
                with contextlib.suppress(*clear(name)):
                    read(folder)
        file.write_bytes(content)
    read(folder)


@pytest.mark.parametrize("place", ["a link to nothing", "a link to itself", "a pipe", "a folder"])
def test_what_is_no_file_is_refused_and_not_waited_for(container, place):
    name, folder, read = container
    if name == "checkpoint" or (place == "a pipe" and name not in BINARY):
        return
    for file in files(folder):
        if file.name in ("label.npy", "class_name.npy", "bank.json", "events.npz") or (
            name == "two spaces" and file.suffix == ".json"
        ):
            continue  # may be absent
        moved = file.rename(file.with_name("moved"))
        if place == "a link to nothing":
            file.symlink_to(folder / "nothing")
        elif place == "a link to itself":
            file.symlink_to(file)
        elif place == "a pipe":
            os.mkfifo(file)
        else:
            file.mkdir()
        # A run without configuration is made anew.
        if name != "configuration of a run" or place == "a folder":
            with refused(name, folder):
                read(folder)
        file.rmdir() if place == "a folder" else file.unlink()
        moved.rename(file)
