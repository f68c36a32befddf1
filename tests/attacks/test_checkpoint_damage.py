"""A damaged checkpoint is told from a whole one, and says what to do; none is read half."""

import random
import re
import shutil

import numpy as np
import pytest
import untrusted
from containers import STATE

from unirep_jax.identity import Identity
from unirep_jax.train.checkpoints import CheckpointError, Checkpoints

# Orbax reads in threads, whose errors Python also reports when it throws them away.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


BEFORE = {"codebook": STATE["codebook"] + 1, "step": np.array(10)}


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)


@pytest.fixture
def folder(tmp_path):
    """Checkpoints of steps 10 and 20, of different states."""
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(10, BEFORE)
        checkpoints.save(20, STATE, {"count": 2, "totals": {"loss": 3.5}})
    return tmp_path / "checkpoints"


def restore(folder, template=STATE):
    with Checkpoints(folder) as checkpoints:
        return checkpoints.restore(template).state


def test_no_damage_of_any_file_changes_what_is_restored(folder, tmp_path):
    """Orbax alone does not see most flipped bits of an array."""
    rng, fell_back, place = random.Random(0), 0, tmp_path / "damaged"
    for file in sorted(p for p in (folder / "20").rglob("*") if p.is_file()):
        for what, spoiled in untrusted.damaged(file.read_bytes(), rng):
            shutil.copytree(folder, place)
            (place / file.relative_to(folder)).write_bytes(spoiled)
            found = restore(place)
            before = int(found["step"]) == 10
            assert before == (place / "20.damaged").exists()
            for name, array in (BEFORE if before else STATE).items():
                np.testing.assert_array_equal(found[name], array, err_msg=f"{file}: {what}")
            fell_back += before
            shutil.rmtree(place)
    assert fell_back > 20


def test_a_flipped_bit_is_named_with_the_array_and_the_one_before_goes_on(folder, capsys):
    flip(max((p for p in (folder / "20").rglob("*")), key=lambda p: p.stat().st_size))
    assert int(restore(folder)["step"]) == 10
    assert capsys.readouterr().out == (
        f"{folder}/20: ['codebook'] is not what was written; renamed to 20.damaged, going on from "
        "step 10\n"
    )
    with Checkpoints(folder) as checkpoints:  # its place is free again
        checkpoints.save(20, STATE)
    assert int(restore(folder)["step"]) == int(STATE["step"])


@pytest.mark.parametrize("metadata", [b"", b"{}", None])
def test_a_checkpoint_without_hashes_is_not_restored(folder, metadata, capsys):
    """Nothing would tell that its arrays were changed."""
    file = folder / "20/_CHECKPOINT_METADATA"
    if metadata is None:
        file.unlink()
    else:
        file.write_bytes(metadata)
    flip(max((p for p in (folder / "20").rglob("*")), key=lambda p: p.stat().st_size))
    assert int(restore(folder)["step"]) == 10
    assert "20: the hashes of its arrays are not there" in capsys.readouterr().out


def test_a_changed_note_is_seen(folder):
    file = folder / "20/_CHECKPOINT_METADATA"
    text = file.read_text()
    assert text.count("3.5") == 1
    file.write_text(text.replace("3.5", "4.5"))
    assert int(restore(folder)["step"]) == 10


def test_where_no_checkpoint_is_whole_nothing_is_moved_and_the_newest_is_named(folder):
    for step in ("10", "20"):
        (folder / step / "default/_METADATA").write_text("{")
    there = untrusted.tree(folder)
    with pytest.raises(CheckpointError, match=rf"{folder}/20: .*remove {folder} to start again"):
        restore(folder)
    assert untrusted.tree(folder) == there


def test_checkpoints_of_another_training_are_refused_by_name(folder):
    there = Identity({"method.dim": 8, "seed": 1}, {"data: values (hash)": "a"})
    with Checkpoints(folder.parent / "own", identity=there) as checkpoints:
        checkpoints.save(10, STATE)
    for here, named in (
        (Identity({"method.dim": 9, "seed": 1}, there.data), "method.dim is 8 there and 9 here"),
        (Identity(there.settings, {"data: values (hash)": "b"}), "data: values"),
    ):
        with (
            Checkpoints(folder.parent / "own", identity=here) as checkpoints,
            pytest.raises(CheckpointError, match=f"10 is of another run: {re.escape(named)}"),
        ):
            checkpoints.restore(STATE)
    with Checkpoints(folder.parent / "own", identity=there) as checkpoints:
        assert checkpoints.restore(STATE).version == there.version


@pytest.mark.parametrize(
    ("template", "named"),
    [
        ({"codebook": STATE["codebook"]}, "step"),
        (STATE | {"more": np.zeros(3)}, "more"),
        (STATE | {"codebook": np.zeros((64, 32))}, "codebook|shape"),
    ],
)
def test_the_state_of_another_network_is_refused(folder, template, named):
    with pytest.raises(CheckpointError, match=rf"(?s)checkpoints/20.*({named})"):
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
    there = untrusted.tree(outside)
    try:
        with Checkpoints(folder) as checkpoints:
            for step in (30, 40, 50):
                checkpoints.save(step, STATE)
    except CheckpointError as error:
        assert str(folder) in str(error)
    assert untrusted.tree(outside) == there
