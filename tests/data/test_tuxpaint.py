"""Stamps of Tux Paint from a made-up package in the true format: items, splits, and refusals."""

import csv
import io
import json
import lzma
import subprocess
import sys
import tarfile

import numpy as np
import pytest

from unirep_jax.data import FeatureFileError, load_features, tuxpaint
from unirep_jax.data.catalog import load_data
from unirep_jax.data.prepare import main

Image = pytest.importorskip("PIL.Image")
soundfile = pytest.importorskip("soundfile")
pytest.importorskip("soxr")
ENCODE = ("image:pixels,size=8", "text:words")
FLAGS = [f"--encode={text}" for text in ENCODE]


def picture(colour):
    content = io.BytesIO()
    Image.new("RGB", (10, 8), colour).save(content, "PNG")
    return content.getvalue()


def sound(hertz):
    content = io.BytesIO()
    wave = 0.4 * np.sin(2 * np.pi * hertz * np.arange(6000) / 16000) + 0.01
    soundfile.write(content, wave, 16000, format="OGG")
    return content.getvalue()


def stamps():
    """name -> content: twelve animals and eight letters, two of the same text; and what is left."""
    files = {}
    for i in range(20):
        name = f"animals/cats/cat{i}" if i < 12 else f"symbols/letter{i}"
        text = "A cat." if i in (3, 4) else f"Thing number {i}."
        lines = f"{text}\nde.utf8=Ding {i}\nfr.utf8=Une chose {i}.\nru.utf8=Вещь {i}"
        files[f"{name}.txt"] = lines.encode()
        files[f"{name}.png"] = picture((10 * i, 100, 50))
        files[f"{name}_desc_fr.ogg"] = sound(200 + 20 * i)
        if i != 5:
            files[f"{name}_desc_ru.ogg"] = sound(300 + 20 * i)
        if i % 2:
            files[f"{name}_desc_es.ogg"] = sound(400 + 20 * i)
        files[f"{name}_desc_bg.ogg"] = files[f"{name}_desc.ogg"] = b"not needed"
        if i in (1, 2, 13):
            files[f"{name}.ogg"] = sound(800)
    files["animals/mute.txt"], files["animals/mute.png"] = b"No voice.", picture("red")
    files["animals/unseen.txt"], files["animals/unseen_desc_fr.ogg"] = b"No picture", sound(100)
    files["animals/cats/cat1_mirror.png"], files["animals/cats/cat1.dat"] = picture("red"), b""
    return files


def package(path, files, *, name="data.tar.xz", place=tuxpaint._PLACE, extra=()):
    """A .deb: an ar file of debian-binary, control and data."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for file, data in files.items():
            member = tarfile.TarInfo(f"./{place}/{file}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for member in extra:
            archive.addfile(member)
    members = {
        "debian-binary": b"2.0\n",
        "control.tar.xz": b"odd",
        name: lzma.compress(content.getvalue(), preset=0),
    }
    with path.open("wb") as stream:
        stream.write(b"!<arch>\n")
        for member, data in members.items():
            header = f"{member:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n"
            stream.write(header.encode() + data + b"\n" * (len(data) % 2))
    return path


@pytest.fixture(scope="module")
def deb(tmp_path_factory):
    return package(tmp_path_factory.mktemp("deb") / "stamps.deb", stamps())


@pytest.fixture(scope="module")
def made(deb, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "tuxpaint"
    main(["tuxpaint", f"--path={deb}", f"--out={out}", *FLAGS])
    return out


def test_a_package_becomes_six_modalities_of_the_things_that_have_the_first_three(made):
    found = load_features(made)
    assert sorted(found.modalities) == sorted(tuxpaint.MODALITIES)
    assert found.class_names == ("animals", "symbols")
    np.testing.assert_array_equal(np.bincount(found.label), [12, 8])
    counts = {modality: int(here.sum()) for modality, here in found.present.items()}
    assert counts == {
        "image": 20,
        "text": 20,
        "speech_fr": 20,
        "speech_ru": 19,
        "speech_es": 10,
        "effect": 3,
    }
    ids = (made / "examples.txt").read_text().splitlines()
    assert "animals/mute" not in ids and "animals/unseen" not in ids
    row = ids.index("animals/cats/cat7")
    np.testing.assert_allclose(
        found.features["image"][row, 0, 4, 4], np.array([70, 100, 50]) / 255, atol=0.01
    )


def test_things_of_one_text_are_in_one_part(made):
    found, ids = load_features(made), (made / "examples.txt").read_text().splitlines()
    same = [ids.index(f"animals/cats/cat{i}") for i in (3, 4)]
    assert len(set(found.group[same])) == 1 and len(set(found.train[same])) == 1
    assert len(np.unique(found.group)) == 19
    assert 6 <= (~found.train).sum() <= 8


def test_the_files_of_each_row_stay_at_hand(made):
    with (made / "manifest.csv").open(newline="", encoding="utf-8") as stream:
        rows = {row["id"]: row for row in csv.DictReader(stream)}
    media = made.with_name("tuxpaint.media")
    assert (media / rows["animals/cats/cat2"]["effect"]).read_bytes()[:4] == b"OggS"
    assert rows["animals/cats/cat2"]["text_fr"] == "Une chose 2."
    card = json.loads((made / "card.json").read_text("utf-8"))
    assert card["source"] == card["root"] == str(media)
    names = {p.name for p in media.rglob("*") if p.is_file()}
    assert "cat1_desc_fr.ogg" in names and not {"cat1_desc_bg.ogg", "cat1.dat"} & names
    assert not {"cat1_desc.ogg"} & names


def test_seeds_draw_other_groups_and_symbols_can_be_left_out(deb, tmp_path):
    settings = {"encode": ENCODE, "modalities": ("image", "text", "text_fr")}
    parts = []
    for seed in (0, 1):
        tuxpaint.prepare(deb, tmp_path / f"s{seed}", seed=seed, **settings)
        parts.append(load_features(tmp_path / f"s{seed}").train)
    assert (parts[0] != parts[1]).any()
    card = tuxpaint.prepare(deb, tmp_path / "plain", without_symbols=True, **settings)
    found = load_features(tmp_path / "plain")
    assert found.class_names == ("animals",) and len(found.label) == 12
    assert "GPL-2" in card["licence"] and list(card["modalities"]) == ["image", "text", "text_fr"]


def test_a_folder_of_the_unpacked_package_is_the_same(deb, made, tmp_path):
    for file, data in stamps().items():
        path = tmp_path / "deb" / tuxpaint._PLACE / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    tuxpaint.prepare(tmp_path / "deb", tmp_path / "out", encode=ENCODE)
    for modality in ("image", "speech_fr", "effect"):
        name = f"modality/{modality}.npy"
        assert (tmp_path / "out" / name).read_bytes() == (made / name).read_bytes()


def test_nothing_of_a_package_lands_outside_its_folder(tmp_path):
    link = tarfile.TarInfo(f"./{tuxpaint._PLACE}/link.txt")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    up = tarfile.TarInfo(f"{tuxpaint._PLACE}/../../../../../up.txt")
    away = tarfile.TarInfo("/tmp/away.txt")
    path = package(tmp_path / "a.deb", {"a/b.txt": b"text"}, extra=(link, up, away))
    tuxpaint.unpack(path, tmp_path / "in" / "media")
    assert [p.name for p in (tmp_path / "in").rglob("*") if not p.is_dir()] == ["b.txt"]
    assert not (tmp_path / "up.txt").exists()


def test_what_is_no_package_and_folders_without_stamps_are_refused(tmp_path):
    (tmp_path / "a.deb").write_bytes(b"no package")
    package(tmp_path / "b.deb", {"a.txt": b""}, place="usr/share/other")
    package(tmp_path / "c.deb", stamps(), name="data.tar.zst")
    whole = package(tmp_path / "d.deb", stamps()).read_bytes()
    (tmp_path / "d.deb").write_bytes(whole[: len(whole) // 2])
    says = {"a": "not an ar file", "b": "nothing below usr", "c": "dpkg -x", "d": ""}
    for name, why in says.items():
        with pytest.raises(FeatureFileError, match=f"{name}.deb: expected Debian's pack.*{why}"):
            tuxpaint.prepare(tmp_path / f"{name}.deb", tmp_path / name, encode=ENCODE)
        assert not (tmp_path / f"{name}.media").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(FeatureFileError, match="expected stamps, as below /usr/share/tuxpaint"):
        tuxpaint.prepare(tmp_path / "empty", tmp_path / "out", encode=ENCODE)


def test_the_command_says_in_one_line_what_is_wrong(tmp_path):
    command = [sys.executable, "-m", "unirep_jax.data.prepare", "tuxpaint"]
    result = subprocess.run(
        [*command, f"--path={tmp_path}", f"--out={tmp_path / 'out'}"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 1
    assert result.stderr.strip().splitlines()[-1].startswith(f"error: {tmp_path}: expected stamps")


def test_configurations_draw_its_splits_and_leave_symbols_out(made):
    whole = load_features(made)
    parts = [load_data("tuxpaint", made, redraw=True, seed=seed).train for seed in range(4)]
    assert len({part.tobytes() for part in parts}) > 1
    for part in parts:
        assert all(len(set(part[whole.group == g])) == 1 for g in np.unique(whole.group))
        assert 7 <= (~part).sum() <= 8
    plain = load_data("tuxpaint", made, without=("symbols",))
    assert plain.class_names == ("animals",) and len(plain.label) == 12
    np.testing.assert_array_equal(plain.features["image"], whole.features["image"][:12])
    np.testing.assert_array_equal(plain.present["effect"], whole.present["effect"][:12])
