"""A damaged checkpoint is told from a whole one, and says what to do; none is read half."""

import random
import shutil

import hostile
import numpy as np
import pytest
from containers import STATE

from unirep_jax.train.checkpoints import CheckpointError, Checkpoints

# Orbax reads in threads, whose errors Python also reports when it throws them away.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def folder(tmp_path):
    """Checkpoints of steps 10 and 20, of different states."""
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(10, {"codebook": STATE["codebook"] + 1, "step": np.array(10)})
        checkpoints.save(20, STATE)
    return tmp_path / "checkpoints"


def restore(folder, template=STATE):
    with Checkpoints(folder) as checkpoints:
        return checkpoints.restore(template)


def test_no_damage_of_any_file_changes_what_is_restored(folder):
    """Orbax alone does not see most flipped bits of an array."""
    rng, refused = random.Random(0), 0
    for file in sorted(p for p in (folder / "20").rglob("*") if p.is_file()):
        content = file.read_bytes()
        for what, spoiled in hostile.damaged(content, rng):
            file.write_bytes(spoiled)
            try:
                found = restore(folder)
            except CheckpointError as error:
                refused += 1
                assert f"{folder}/20: " in str(error)
                assert str(error).endswith("remove this folder to continue from step 10")
                continue
            for name, array in STATE.items():
                np.testing.assert_array_equal(found[name], array, err_msg=f"{file}: {what}")
        file.write_bytes(content)
    assert refused > 20


def test_a_flipped_bit_of_an_array_is_named_with_the_array(folder):
    largest = max((p for p in (folder / "20").rglob("*")), key=lambda p: p.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 4
    largest.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"20: \['codebook'\] is not what was written"):
        restore(folder)


def test_after_removing_the_damaged_one_the_run_goes_on_from_the_one_before(folder):
    for file in (p for p in (folder / "20").rglob("*") if p.is_file()):
        file.write_bytes(b"")
    with pytest.raises(CheckpointError, match="remove this folder to continue from step 10"):
        restore(folder)
    shutil.rmtree(folder / "20")
    assert int(restore(folder)["step"]) == 10


def test_the_only_checkpoint_says_that_the_run_would_begin_again(folder):
    shutil.rmtree(folder / "10")
    (folder / "20/default/_METADATA").write_text("{")
    with pytest.raises(CheckpointError, match="remove this folder to continue from the start"):
        restore(folder)


@pytest.mark.parametrize(
    ("template", "named"),
    [
        ({"codebook": STATE["codebook"]}, "step"),
        (STATE | {"more": np.zeros(3)}, "more"),
        (STATE | {"codebook": np.zeros((64, 32))}, "codebook|shape"),
    ],
)
def test_the_state_of_another_network_is_refused(folder, template, named):
    with pytest.raises(CheckpointError, match=rf"(?s)checkpoints/20: .*({named})"):
        restore(folder, template)


@pytest.mark.parametrize("what", ["an empty folder", "a file", "a link to nothing"])
def test_what_is_named_like_a_checkpoint_and_is_none_is_refused_or_passed_over(folder, what):
    place = folder / "30"
    if what == "an empty folder":
        place.mkdir()
    elif what == "a file":
        place.write_bytes(b"30")
    else:
        place.symlink_to(folder / "nothing")
    try:
        np.testing.assert_array_equal(restore(folder)["codebook"], STATE["codebook"])
    except CheckpointError as error:
        assert f"{place}: " in str(error)


def test_a_link_among_the_checkpoints_loses_nothing_of_what_it_points_to(folder, tmp_path):
    outside = tmp_path / "outside"
    shutil.copytree(folder / "10", outside / "10")
    for name in ("1", "1.orbax-checkpoint-tmp"):
        (folder / name).symlink_to(outside)
    there = hostile.tree(outside)
    try:
        with Checkpoints(folder) as checkpoints:
            for step in (30, 40, 50):
                checkpoints.save(step, STATE)
    except CheckpointError as error:
        assert str(folder) in str(error)
    assert hostile.tree(outside) == there
