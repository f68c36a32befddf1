"""Flow of a data set's clips as a file: content, absence, interruption, and what is refused."""

import shlex
from pathlib import Path

import numpy as np
import pytest

from unirep_jax.data import FeatureFileError, extract_flow, load_features, save_features
from unirep_jax.data.extract_flow import extract
from unirep_jax.data.optical_flow import flow_histograms, tv_l1_flow

SHAPE = (5, 3, 12, 12)  # clips, frames, height, width


@pytest.fixture
def clips(rng) -> np.ndarray:
    return rng.integers(0, 256, SHAPE, np.uint8)


@pytest.fixture
def source(tmp_path, clips):
    np.savez(tmp_path / "clips.npz", depth=clips)
    return tmp_path / "clips.npz"


def written(folder) -> np.ndarray:
    return np.load(folder / "modality" / "flow.npy", allow_pickle=False)


@pytest.mark.parametrize("processes", [1, 2])
def test_every_clip_has_its_histograms_in_its_row(source, clips, tmp_path, processes):
    file = extract(source, "depth", tmp_path / "out", cells=2, processes=processes)
    expected = [flow_histograms(tv_l1_flow(clip), cells=2) for clip in clips]
    found = written(tmp_path / "out")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)
    assert [f.name for f in file.parent.iterdir()] == ["flow.npy"]
    assert not (tmp_path / "out" / "present").exists(), "all clips are there"


def test_maps_are_the_flow_itself(source, clips, tmp_path):
    extract(source, "depth", tmp_path / "out", form="maps")
    np.testing.assert_array_equal(written(tmp_path / "out"), [tv_l1_flow(clip) for clip in clips])


@pytest.mark.parametrize("rows", [0, 0.3, 1.0, 2.6])
def test_an_interrupted_call_goes_on_after_its_last_whole_clip(
    source, clips, tmp_path, monkeypatch, rows
):
    extract(source, "depth", tmp_path / "whole", form="maps")
    whole = (tmp_path / "whole" / "modality" / "flow.npy").read_bytes()
    computed = []

    def interrupted(clip):
        computed.append(clip)
        if len(computed) > 1:  # the first is of zeros and tells the shape
            raise KeyboardInterrupt
        return tv_l1_flow(clip)

    monkeypatch.setattr(extract_flow, "tv_l1_flow", interrupted)
    with pytest.raises(KeyboardInterrupt):
        extract(source, "depth", tmp_path / "out", form="maps")
    (left,) = (tmp_path / "out" / "modality").iterdir()
    row_bytes = written(tmp_path / "whole")[0].nbytes
    start = len(whole) - len(clips) * row_bytes
    left.write_bytes(whole[: start + int(rows * row_bytes)] if rows else whole[: start // 2])

    computed.clear()
    monkeypatch.setattr(
        extract_flow, "tv_l1_flow", lambda clip: computed.append(clip) or tv_l1_flow(clip)
    )
    file = extract(source, "depth", tmp_path / "out", form="maps")
    assert file.read_bytes() == whole and not left.exists()
    np.testing.assert_array_equal(computed[1:], clips[int(rows) :])


def test_what_other_clips_have_left_is_not_taken(source, clips, tmp_path, monkeypatch):
    def interrupted(file, *_):
        file.touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(extract_flow, "_append", interrupted)
    for settings in ({}, {"cells": 2}, {"orientations": 4}, {"form": "maps"}):
        with pytest.raises(KeyboardInterrupt):
            extract(source, "depth", tmp_path / "out", **settings)
    np.savez(source, depth=clips[::-1])
    with pytest.raises(KeyboardInterrupt):
        extract(source, "depth", tmp_path / "out")
    assert len([*(tmp_path / "out" / "modality").iterdir()]) == 5


def test_a_feature_set_in_a_folder_gets_the_modality_and_its_absence(tmp_path, write_folder, rng):
    video = rng.random((6, 2, 12, 12, 1)).astype(np.float32)
    video[3] = np.nan
    present = np.arange(6) != 3
    folder = write_folder(
        tmp_path / "set",
        {
            "modality/video": video,
            "modality/audio": rng.random((6, 4)),
            "present/video": present,
            "label": np.arange(6) % 2,
            "train": np.arange(6) < 3,
        },
    )
    extract(folder, "modality/video", folder, cells=1)
    loaded = load_features(folder)
    assert loaded.modalities == ("audio", "flow", "video")
    np.testing.assert_array_equal(loaded.present["flow"], present)
    assert not loaded.features["flow"][3].any()
    expected = flow_histograms(tv_l1_flow(video[4]), cells=1)
    np.testing.assert_array_equal(loaded.features["flow"][4], expected)
    save_features(tmp_path / "again.npz", loaded)


@pytest.mark.parametrize(
    ("clip", "key", "settings", "message"),
    [
        (np.ones((4, 3, 8)), "depth", {}, r"depth: expected \[example, time.*\(4, 3, 8\)"),
        (np.ones((4, 3, 8, 8)), "video", {}, "video: expected this key, found only depth"),
        (np.array(["a"]), "depth", {}, "depth: expected a number array"),
        (np.ones((0, 3, 8, 8)), "depth", {}, r"depth: expected \[example"),
        (np.ones((4, 1, 8, 8)), "depth", {}, "two frames"),
        (np.ones((4, 3, 8, 8)), "depth", {"cells": 9}, "cells=9"),
        (
            np.stack([np.ones((3, 8, 8)), np.full((3, 8, 8), np.inf)]),
            "depth",
            {},
            "in row 1 clip: expected finite values",
        ),
    ],
)
def test_clips_without_flow_are_refused_with_their_file_and_key(
    tmp_path, clip, key, settings, message
):
    np.savez(tmp_path / "clips.npz", depth=clip)
    with pytest.raises(FeatureFileError, match=message) as caught:
        extract(tmp_path / "clips.npz", key, tmp_path / "out", **settings)
    assert str(caught.value).startswith(f"{tmp_path / 'clips.npz'}: {key}: expected")
    assert not (tmp_path / "out" / "modality" / "flow.npy").exists()


def test_the_command_says_what_it_wrote_and_refuses_in_one_line(source, tmp_path, capsys):
    command = [f"--path={source}", "--key=depth", f"--out={tmp_path / 'out'}", "--cells=2"]
    extract_flow.main([*command, "--processes=1"])
    assert capsys.readouterr().out.endswith("flow [3, 32] of 5 clips\n")
    with pytest.raises(SystemExit, match=r"^error: .*flow\.npy is there; remove it"):
        extract_flow.main(command)
    with pytest.raises(SystemExit, match=r"^error: .*sound: expected this key"):
        extract_flow.main([f"--path={source}", "--key=sound", "--out=unused"])
    with pytest.raises(ValueError, match="form='best' is none of histograms, maps"):
        extract(source, "depth", tmp_path, form="best")


def test_the_documented_command_is_understood():
    page = (Path(__file__).parents[2] / "docs" / "features.md").read_text()
    (command,) = [line for line in page.splitlines() if "-m unirep_jax.data.extract_flow " in line]
    options = extract_flow.arguments_parser().parse_args(shlex.split(command)[3:])
    assert (options.key, options.form, options.cells, options.orientations) == (
        "depth",
        "histograms",
        4,
        8,
    )
