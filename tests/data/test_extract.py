"""From files to features: what is read and written, interruption, damage, and what is refused."""

import base64
import csv
import inspect
import json
import pkgutil
import re
import shlex
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from unirep_jax.data import Kind, load_features
from unirep_jax.data.banks import open_bank
from unirep_jax.data.extract import (
    Encoder,
    EncoderError,
    ManifestError,
    MediaError,
    extract,
    job,
    read_audio,
    read_image,
    read_text,
    read_video,
)
from unirep_jax.data.extract.__main__ import main
from unirep_jax.data.extract.encoders import (
    DEFAULTS,
    ENCODERS,
    make_encoder,
    parse_specification,
)
from unirep_jax.data.extract.manifest import open_manifest
from unirep_jax.data.extract.mel import htk, mel_filters, slaney, spectrogram
from unirep_jax.data.extract.weight_free import average_steps
from unirep_jax.data.held_out import draw_groups

Image = pytest.importorskip("PIL.Image")
RATE = 8000


def tone(seconds=1.0, hertz=440.0, rate=RATE):
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)


@pytest.fixture
def folder(tmp_path, rng):
    """Ten examples of two classes in a folder for pictures and one for texts; one has no text."""
    for i in range(10):
        name = f"{'cat' if i % 2 else 'dog'}/{i}"
        for kind in ("image", "caption"):
            (tmp_path / "media" / kind / name).parent.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8))
        picture.save(tmp_path / "media" / "image" / f"{name}.png")
        if i != 3:
            (tmp_path / "media" / "caption" / f"{name}.txt").write_text(f"number {i}\n")
    return tmp_path / "media"


@pytest.fixture
def manifest(folder):
    """The same as lines of a manifest, to be changed."""
    rows = [
        {
            "id": f"e{i}",
            "split": "test" if i < 3 else "train",
            "class_name": "ab"[i % 2],
            "image": f"image/{'cat' if i % 2 else 'dog'}/{i}.png",
            "caption": f"number {i}",
        }
        for i in range(10)
    ]

    def write(*changes, drop=()):
        for row, column, value in changes:
            rows[row][column] = value
        path = folder / "manifest.csv"
        with path.open("w", newline="", encoding="utf-8") as stream:
            columns = [c for c in rows[0] if c not in drop]
            writer = csv.DictWriter(stream, columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
        return path

    return write


@pytest.fixture
def encoder_module(monkeypatch):
    """A module of one's own whose function makes an encoder of picture sums; counts its batches."""
    module = types.ModuleType("my_encoders")
    module.seen = []

    def sums(*, factor: float = 1.0, shape: str = "same"):
        def encode(items):
            module.seen.append(len(items))
            wide = 2 + (shape == "grows") * len(module.seen)
            return factor * np.array(items)[:, None] * np.ones(wide)

        prepare = lambda path: float(np.asarray(read_image(path)).mean())
        return Encoder("image", prepare, encode, batch_size=2, about={"licence": "mine"})

    module.sums = sums
    module.nothing = lambda: 3
    monkeypatch.setitem(sys.modules, "my_encoders", module)
    return module


def test_files_of_one_stem_are_an_example_and_folders_are_classes(folder, tmp_path):
    card = extract(folder, tmp_path / "out", test_fraction=0.3)
    found = load_features(tmp_path / "out")
    assert found.class_names == ("cat", "dog")
    assert set(found.modalities) == {"image", "caption"}
    assert (~found.train).sum() == 3 and card["train_examples"] == 7
    ids = (tmp_path / "out" / "examples.txt").read_text().splitlines()
    assert [found.class_names[label] for label in found.label] == [i.split("/")[0] for i in ids]
    np.testing.assert_array_equal(found.present["caption"], [i != "cat/3" for i in ids])
    assert card["modalities"]["caption"]["present"] == 9
    assert found.features["image"].shape == (10, 1, 64, 64, 3)
    assert set(DEFAULTS.values()) >= set(card["encode"].values())
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_a_manifest_says_labels_splits_groups_and_paths(manifest, tmp_path, folder):
    path = manifest(*[(i, "group", f"g{i // 2}") for i in range(10)], (4, "image", ""))
    extract(path, tmp_path / "out", encode=["image:pixels,size=8"], modalities=["image", "caption"])
    found = load_features(tmp_path / "out")
    np.testing.assert_array_equal(found.train, np.arange(10) >= 3)
    np.testing.assert_array_equal(found.label, np.arange(10) % 2)
    np.testing.assert_array_equal(found.group, np.arange(10) // 2)
    np.testing.assert_array_equal(found.present["image"], np.arange(10) != 4)
    assert not found.features["image"][4].any()
    square = Image.open(folder / "image" / "cat" / "5.png").crop((1.5, 0, 10.5, 9))
    assert found.features["image"].shape[1:] == (1, 8, 8, 3)
    expected = np.asarray(square, np.float32).mean((0, 1)) / 255
    np.testing.assert_allclose(found.features["image"][5, 0].mean((0, 1)), expected, atol=0.03)


def test_word_ids_come_from_the_training_texts_alone(manifest, tmp_path):
    path = manifest((0, "caption", "unseen unseen words"), (9, "caption", "words of number nine"))
    card = extract(path, tmp_path / "out", encode=["caption:words,length=4,min_count=1"])
    vocabulary = card["modalities"]["caption"]["vocabulary"]
    assert "unseen" not in vocabulary and "words" in vocabulary
    loaded = load_features(tmp_path / "out")
    ids = loaded.features["caption"]
    np.testing.assert_array_equal(ids[0], [1, 1, vocabulary.index("words"), 0])
    assert loaded.kinds["caption"] is Kind.WORDS and card["kinds"] == {"caption": "words"}


def test_word_ids_stay_exact_integers_whatever_the_type_of_the_other_features(manifest, tmp_path):
    extract(manifest(), tmp_path / "out", encode=["caption:words,min_count=1"], dtype="float16")
    loaded = load_features(tmp_path / "out")
    assert loaded.features["caption"].dtype == np.int32
    assert loaded.features["image"].dtype == np.float16


def test_word_ids_are_no_bank(manifest, tmp_path):
    with pytest.raises(EncoderError, match="caption: a bank holds vectors, the encoder gives word"):
        extract(
            manifest(),
            tmp_path / "out",
            encode=["caption:words"],
            modalities=["caption"],
            form="banks",
        )


@pytest.mark.parametrize("after", [1, 3, 4])
def test_an_interrupted_call_goes_on_after_its_last_whole_batch(
    manifest, tmp_path, encoder_module, monkeypatch, after
):
    settings = {"encode": ["image:my_encoders:sums"], "skip_damaged": True}
    path = manifest((1, "image", "image/none.png"), (6, "image", ""))
    extract(path, tmp_path / "whole", **settings)
    encoder_module.seen.clear()
    bar = job.Bar

    class Interrupted(bar):
        def update(self, count):
            if len(encoder_module.seen) == after:
                raise KeyboardInterrupt

    monkeypatch.setattr(job, "Bar", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        extract(path, tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()
    left = tmp_path / ".out.incomplete" / "modality" / "image.npy"
    left.write_bytes(left.read_bytes()[:-1])  # and the last row was cut short
    with (tmp_path / ".out.incomplete" / "damaged.csv").open("a") as stream:
        stream.write("image,9,of a line that was cut")
    monkeypatch.setattr(job, "Bar", bar)
    encoder_module.seen.clear()
    extract(path, tmp_path / "out", **settings)
    assert len(encoder_module.seen) == 5 - (after - 1), "batches that were whole are not repeated"
    for name in ("modality/image.npy", "present/image.npy", "damaged.csv", "label.npy"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_what_an_interrupted_call_left_is_refused_under_other_settings(
    manifest, tmp_path, encoder_module, monkeypatch
):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(job, "_sort_out", interrupted)
    with pytest.raises(KeyboardInterrupt):
        extract(manifest(), tmp_path / "out", encode=["image:my_encoders:sums"])
    with pytest.raises(FileExistsError, match=r"factor=2.*\.out\.incomplete, which was interrupt"):
        extract(manifest(), tmp_path / "out", encode=["image:my_encoders:sums,factor=2"])


def test_the_same_call_again_leaves_the_folder_as_it_is_and_another_is_refused(manifest, tmp_path):
    path = manifest()
    first = extract(path, tmp_path / "out")
    assert extract(path, tmp_path / "out") == first
    with pytest.raises(FileExistsError, match="dtype='float32', now 'float16'"):
        extract(path, tmp_path / "out", dtype="float16")
    manifest((0, "caption", "changed"))
    with pytest.raises(FileExistsError, match="manifest_sha256"):
        extract(path, tmp_path / "out")


def test_a_damaged_file_is_one_line_with_its_name(manifest, tmp_path, folder, capsys):
    (folder / "image" / "cat" / "5.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    with pytest.raises(SystemExit) as exit_:
        main(["--path", str(manifest()), "--out", str(tmp_path / "out")])
    line = str(exit_.value)
    assert line.startswith("error: ") and "\n" not in line
    assert str(folder / "image" / "cat" / "5.png") + ": no readable image" in line


def test_damaged_files_are_absent_and_listed_and_what_has_nothing_left_is_left_out(
    manifest, tmp_path, folder
):
    (folder / "image" / "cat" / "5.png").write_bytes(b"no picture")
    path = manifest((5, "caption", ""), (7, "image", "image/none.png"), (2, "image", "image"))
    card = extract(path, tmp_path / "out", skip_damaged=True)
    found = load_features(tmp_path / "out")
    assert len(found.label) == 9 and card["left_out"] == 1
    ids = (tmp_path / "out" / "examples.txt").read_text().splitlines()
    assert ids == [f"e{i}" for i in range(10) if i != 5]
    absent = [ids[i] for i in np.flatnonzero(~found.present["image"])]
    assert absent == ["e2", "e7"]
    with (tmp_path / "out" / "damaged.csv").open(newline="") as stream:
        listed = {row["row"]: row for row in csv.DictReader(stream)}
    assert set(listed) == {"2", "5", "7"}
    assert "no such file" in listed["7"]["reason"] and "not a file" in listed["2"]["reason"]
    assert card["modalities"]["image"]["damaged"] == 3
    assert found.features["image"][ids.index("e8")].any()


def test_banks_hold_unit_vectors_of_the_examples_that_are_complete(
    manifest, tmp_path, encoder_module
):
    path = manifest((4, "image", ""), (1, "image", "image/none.png"))
    encode = ["image:my_encoders:sums", "sums@image:my_encoders:sums,factor=-3"]
    card = extract(
        path,
        tmp_path / "out",
        encode=encode,
        modalities=["image", "sums"],
        form="banks",
        skip_damaged=True,
    )
    train = open_bank(tmp_path / "out" / "train" / "image.npy", verify=True)
    test = open_bank(tmp_path / "out" / "test" / "sums.npy", verify=True)
    assert train.embeddings.shape == (6, 2) and test.embeddings.shape == (2, 2)
    np.testing.assert_allclose(test.embeddings, -np.sqrt(0.5) * np.ones((2, 2)), atol=1e-6)
    assert "my_encoders:sums,factor=-3" in test.about and "mine" in test.about
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "test" / "label.npy"), [0, 0])
    assert card["left_out"] == 2


def test_the_card_says_what_was_made_of_what(manifest, tmp_path, encoder_module):
    extract(manifest(), tmp_path / "out", encode=["image:my_encoders:sums"], licence="CC0")
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert card["licence"] == "CC0" and card["encoders"]["image"] == {"licence": "mine"}
    assert card["encode"] == {"image": "my_encoders:sums", "caption": "words"}
    assert card["made_at"].endswith("Z") and card["libraries"]["numpy"] == np.__version__
    assert card["modalities"]["image"] == {
        "encoder": "my_encoders:sums",
        "shape": [2],
        "present": 10,
        "damaged": 0,
    }


@pytest.mark.parametrize(
    "encode, says",
    [
        (["image"], "expected MODALITY"),
        (["image:pixels,size"], "expected MODALITY"),
        (["image:pixles"], "no encoder 'pixles'; there is"),
        (["image:pixels,side=8"], "no setting 'side'; there is size"),
        (["image:pixels,size=big"], "size is of type int, not 'big'"),
        (["picture:pixels"], "no column 'picture'; there is image, caption"),
        (["image:pixels", "image:pixels,size=9"], "comes twice"),
        (["image:nowhere.at_all:f"], "No module named 'nowhere'"),
        (["image:my_encoders:nothing"], "gave int, not an Encoder"),
        (["image:my_encoders:none"], "no attribute 'none'"),
    ],
)
def test_encoders_that_cannot_be_are_refused_before_anything_is_read(
    manifest, tmp_path, encoder_module, encode, says
):
    with pytest.raises(EncoderError, match=says):
        extract(manifest(), tmp_path / "out", encode=encode)
    assert not (tmp_path / "out").exists() and not (tmp_path / ".out.incomplete").exists()


def test_an_encoder_whose_shapes_differ_is_refused(manifest, tmp_path, encoder_module):
    with pytest.raises(EncoderError, match="every example has to have the same shape"):
        extract(manifest(), tmp_path / "out", encode=["image:my_encoders:sums,shape=grows"])


@pytest.mark.parametrize(
    "change, says",
    [
        ((4, "split", "valid"), "line 6, split: expected train or test, found 'valid'"),
        ((4, "id", "e2"), "line 6, id: expected a name of one line that comes once, found 'e2'"),
        ((4, "label", "-2"), "line 6, label: expected a number from 0, or −1, found '-2'"),
    ],
)
def test_a_manifest_that_is_wrong_is_refused_by_line_and_column(manifest, tmp_path, change, says):
    path = manifest(*[(i, "label", str(i % 2)) for i in range(10)], change)
    with pytest.raises(ManifestError, match=says):
        extract(path, tmp_path / "out")


def test_labels_with_two_names_and_examples_of_nothing_are_refused(manifest):
    labels = [(i, "label", str(i % 2)) for i in range(10)]
    path = manifest(*labels, (6, "class_name", "b"))
    with pytest.raises(ManifestError, match="example 6: expected class_name 'a', as elsewhere"):
        open_manifest(path)
    path = manifest((6, "class_name", "a"), (7, "image", ""), (7, "caption", " "))
    with pytest.raises(ManifestError, match="line 9: expected at least one modality, found none"):
        open_manifest(path)
    path.write_text("id,label\n1,2\n")
    with pytest.raises(ManifestError, match="a column for each modality"):
        open_manifest(path)
    path.write_text("id,image\n1\n")
    with pytest.raises(ManifestError, match="line 2: expected 2 fields, found 1"):
        open_manifest(path)


def test_folders_without_files_with_strange_ones_or_two_of_a_stem_are_refused(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ManifestError, match="found neither"):
        extract(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(ManifestError, match="found nothing there"):
        extract(tmp_path / "none", tmp_path / "out")
    (folder / "image" / "cat" / "1.jpg").touch()
    with pytest.raises(ManifestError, match=r"expected one file of this stem"):
        extract(folder, tmp_path / "out")
    (folder / "image" / "cat" / "1.jpg").rename(folder / "image" / "cat" / "11.exe")
    with pytest.raises(ManifestError, match=r"11.exe: expected a picture"):
        extract(folder, tmp_path / "out")


def test_groups_are_drawn_whole_and_by_seed():
    group = np.repeat(np.arange(40), 3)
    test = draw_groups(group, 0.25, 0)
    assert test.sum() == 30
    assert all(len(set(test[group == g])) == 1 for g in range(40))
    assert (test != draw_groups(group, 0.25, 1)).any()
    np.testing.assert_array_equal(test, draw_groups(group, 0.25, 0))


def test_transparent_pictures_show_white_and_exif_turns_them(tmp_path):
    hidden = np.zeros((4, 6, 4), np.uint8)
    hidden[:2, :, 0] = hidden[:2, :, 3] = 255  # red above, transparent black below
    picture = Image.fromarray(hidden)
    picture.save(tmp_path / "a.png")
    found = np.asarray(read_image(tmp_path / "a.png"))
    assert (found[:2] == (255, 0, 0)).all() and (found[2:] == 255).all()
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    picture.convert("RGB").save(tmp_path / "b.jpg", exif=exif, quality=100)
    assert read_image(tmp_path / "b.jpg").size == (4, 6)
    deep = Image.fromarray(np.full((2, 2), 0x8000, np.uint16))
    deep.save(tmp_path / "c.png")
    assert (np.asarray(read_image(tmp_path / "c.png")) == 128).all()


def test_drawings_are_rendered_with_or_without_a_size(tmp_path):
    pytest.importorskip("resvg_py")
    shape = '<rect x="5" y="5" width="20" height="10" fill="#00ff00"/></svg>'
    space = 'xmlns="http://www.w3.org/2000/svg"'
    sizes = ['width="30" height="20"', 'viewBox="0 0 30 20"', 'width="30pt" height="20pt"', ""]
    for i, size in enumerate(sizes):
        (tmp_path / f"{i}.svg").write_text(f"<svg {space} {size}>{shape}")
        found = read_image(tmp_path / f"{i}.svg")
        assert max(found.size) == 512
        assert np.asarray(found)[found.height // 2, found.width // 2].tolist() == [0, 255, 0]
    (tmp_path / "long.svg").write_text(f'<svg {space} width="100000" height="1">{shape}')
    assert read_image(tmp_path / "long.svg").size == (512, 1)
    (tmp_path / "bad.svg").write_text("<svg")
    with pytest.raises(MediaError, match=r"bad.svg: no readable image"):
        read_image(tmp_path / "bad.svg")


@pytest.mark.parametrize("quote", ['"', "'"])
def test_a_drawing_shows_nothing_of_other_files_but_what_it_brings(tmp_path, quote):
    pytest.importorskip("resvg_py")
    Image.new("RGB", (4, 4), "red").save(tmp_path / "red.png")
    shown = base64.b64encode((tmp_path / "red.png").read_bytes()).decode()
    for name, place in {
        "own": f"data:image/png;base64,{shown}",
        "other": tmp_path / "red.png",
    }.items():
        link = f"xlink:href = {quote}{place}{quote}"
        (tmp_path / f"{name}.svg").write_text(
            '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9" '
            f'xmlns:xlink="http://www.w3.org/1999/xlink"><image {link} width="9" height="9"/></svg>'
        )
    assert np.asarray(read_image(tmp_path / "own.svg"))[99, 99].tolist() == [255, 0, 0]
    assert np.asarray(read_image(tmp_path / "other.svg"))[99, 99].tolist() == [255, 255, 255]


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.parametrize("rate", [8000, 22050, 48000])
def test_sound_of_every_rate_and_kind_is_the_same_tone(tmp_path, suffix, rate):
    soundfile = pytest.importorskip("soundfile")
    pytest.importorskip("soxr")
    wave = tone(1.0, rate=rate)
    path = tmp_path / f"tone.{suffix}"
    soundfile.write(path, np.stack([1.5 * wave, 0.5 * wave], 1), rate)
    found = read_audio(path, 16000, seconds=0.9)
    assert found.dtype == np.float32 and len(found) == 14400
    spectrum = np.abs(np.fft.rfft(found[2000:10000]))
    assert abs(np.argmax(spectrum) * 2 - 440) <= 2
    assert np.sqrt((found[2000:10000] ** 2).mean()) == pytest.approx(0.5 / np.sqrt(2), rel=0.02)
    assert len(read_audio(path, 16000)) >= 15900


def test_sound_that_is_damaged_empty_or_not_there_is_named(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    (tmp_path / "a.wav").write_bytes(b"RIFF....")
    soundfile.write(tmp_path / "b.wav", np.zeros(0), RATE)
    for name in ("a.wav", "b.wav", "c.wav"):
        with pytest.raises(MediaError, match=f"{name}: no readable audio"):
            read_audio(tmp_path / name, RATE)


@pytest.fixture
def clip(tmp_path):
    """Two seconds at ten frames a second, brighter by the frame, with a tone."""
    av = pytest.importorskip("av")
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=10)
        video.width = video.height = 32
        video.pix_fmt = "yuv420p"
        audio = container.add_stream("aac", rate=RATE, layout="mono")
        for i in range(20):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 10 * i + 20, np.uint8))
            container.mux(video.encode(frame))
        container.mux(video.encode())
        samples = tone(2.0).astype(np.float32)[None]
        sound = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        sound.sample_rate = RATE
        container.mux(audio.encode(sound))
        container.mux(audio.encode())
    return path


def test_a_video_gives_frames_at_a_rate_and_its_sound(clip):
    taken = read_video(clip, rate=2, count=6)
    brightness = [frame.mean() for frame in taken]
    np.testing.assert_allclose(brightness, [20, 70, 120, 170, 210, 210], atol=6)
    sound = read_audio(clip, 16000, seconds=1.0)
    assert len(sound) == 16000
    spectrum = np.abs(np.fft.rfft(sound[4000:12000]))
    assert abs(np.argmax(spectrum) * 2 - 440) <= 4


def test_the_sound_of_a_video_is_a_modality_of_its_own(clip, tmp_path):
    for i in range(2):
        (tmp_path / f"{i}.mp4").write_bytes(clip.read_bytes())
    (tmp_path / "manifest.csv").write_text("split,video\ntrain,0.mp4\ntest,1.mp4\n")
    encode = ["video:frames,size=8,count=3", "sound@video:log_mel,seconds=2,steps=5"]
    card = extract(tmp_path, tmp_path / "out", encode=encode)
    shapes = {m: said["shape"] for m, said in card["modalities"].items()}
    assert shapes == {"video": [3, 8, 8, 3], "sound": [5, 64]}


def test_damaged_videos_and_texts_are_named(tmp_path):
    pytest.importorskip("av")
    (tmp_path / "a.mp4").write_bytes(b"no video at all")
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(MediaError, match=r"a.mp4: no readable video"):
        read_video(tmp_path / "a.mp4", rate=1, count=2)
    with pytest.raises(MediaError, match=r"a.txt: no readable text"):
        read_text(tmp_path / "a.txt")


def test_log_mel_frames_are_those_of_float64_and_show_the_tone(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    pytest.importorskip("soxr")
    soundfile.write(tmp_path / "a.wav", tone(0.5, 1000.0, 16000), 16000, subtype="FLOAT")
    encoder = make_encoder(parse_specification("sound:log_mel,seconds=1,mels=32"))
    (found,) = encoder.encode([encoder.prepare(tmp_path / "a.wav")])
    assert found.shape == (98, 32) and found.dtype == np.float32
    np.testing.assert_allclose(found[60:], np.log(0.01), atol=1e-5)  # silence behind the sound
    wave = np.pad(tone(0.5, 1000.0, 16000).astype(np.float32).astype(float), (0, 8000))
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    frame = np.abs(np.fft.rfft(np.pad(wave[1600:2000] * window, (0, 112))))
    centres = np.linspace(htk(125.0), htk(7500.0), 34)
    mels = htk(np.arange(257) * 16000 / 512)
    weights = np.array(
        [
            [max(0, min((m - a) / (b - a), (c - m) / (c - b))) for m in mels]
            for a, b, c in zip(centres, centres[1:], centres[2:], strict=False)
        ]
    )
    np.testing.assert_allclose(found[10], np.log(weights @ frame + 0.01), rtol=1e-5, atol=1e-5)
    assert np.argmax(found[10]) == np.argmin(abs(centres[1:-1] - htk(1000.0)))


@pytest.mark.parametrize("scale", [htk, slaney])
def test_mel_filters_peak_where_their_scale_says(scale):
    filters = mel_filters(16000, 4096, 20, 50, 7000, scale=scale)
    edges = np.linspace(scale(np.float64(50)), scale(np.float64(7000)), 22)
    peaks = scale(np.argmax(filters, axis=0) * 16000 / 4096)
    np.testing.assert_allclose(peaks, edges[1:-1], atol=0.1 * np.diff(edges)[0])
    area = mel_filters(16000, 4096, 20, 50, 7000, scale=scale, unit_area=True).sum(0) * 16000 / 4096
    np.testing.assert_allclose(area, 1, rtol=0.02)


def test_short_sound_has_a_frame_and_centred_frames_reflect(rng):
    assert spectrogram(np.ones(10), window=400, hop=160, fft=512, centred=False).shape == (1, 257)
    wave = rng.normal(size=2000)
    centred = spectrogram(wave, window=256, hop=100, fft=256, centred=True)
    assert centred.shape == (21, 129)
    mirrored = np.concatenate([wave[128:0:-1], wave[:128]])
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(256) / 256)
    np.testing.assert_allclose(centred[0], np.abs(np.fft.rfft(mirrored * window)), atol=1e-9)


def test_steps_average_equal_parts(rng):
    frames = rng.normal(size=(12, 3))
    np.testing.assert_allclose(average_steps(frames, 4), frames.reshape(4, 3, 3).mean(axis=1))
    assert average_steps(frames, 0) is frames
    assert average_steps(frames[:2], 5).shape == (5, 3)


def test_the_command_line_prints_what_it_has_made(manifest, tmp_path, capsys):
    command = f"--path={manifest()} --out={tmp_path / 'out'} --encode=image:pixels,size=4"
    main([*shlex.split(command), "--modalities=image,caption", "--dtype=float16"])
    said = capsys.readouterr().out
    assert "10 examples, 7 for training" in said and "image: pixels,size=4 [1, 4, 4, 3]" in said
    assert load_features(tmp_path / "out").features["image"].dtype == np.float16


def test_the_encoder_of_the_documentation_works(manifest, tmp_path, monkeypatch):
    page = (Path(__file__).parents[2] / "docs" / "extract.md").read_text("utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "my_hues.py").write_text(block)
    monkeypatch.syspath_prepend(tmp_path)
    extract(manifest(), tmp_path / "out", encode=["image:my_hues:hues,bins=8"])
    found = load_features(tmp_path / "out").features["image"]
    assert found.shape == (10, 8)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)


def test_the_documentation_lists_every_encoder_with_its_settings():
    pages = [
        (Path(__file__).parents[2] / "docs" / f"{name}.md").read_text("utf-8")
        for name in ("extract", "pretrained")
    ]
    for name in ENCODERS:
        assert any(f"`{name}`" in page for page in pages), name
    for line in re.findall(r"^\| `\w+` \|.*", pages[0], re.MULTILINE):
        name, *_ = re.findall(r"`(\w+)`", line)
        if name in ENCODERS:
            function = pkgutil.resolve_name(ENCODERS[name])
            said = dict(re.findall(r"`(\w+)=([\d.]+)`", line))
            defaults = {k: p.default for k, p in inspect.signature(function).parameters.items()}
            assert {k: float(v) for k, v in said.items()} == defaults, name


@pytest.mark.parametrize("suffix", ["png", "svg", "wav", "flac", "ogg", "mp3"])
def test_whatever_is_wrong_with_a_file_is_one_line_with_its_name(tmp_path, rng, suffix):
    soundfile = pytest.importorskip("soundfile")
    for library in ("soxr", "resvg_py"):
        pytest.importorskip(library)
    path = tmp_path / f"whole.{suffix}"
    if suffix == "png":
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), np.uint8)).save(path)
    elif suffix == "svg":
        path.write_text('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><g/></svg>')
    else:
        soundfile.write(path, tone(0.3), RATE)
    read = read_image if suffix in ("png", "svg") else lambda file: read_audio(file, 16000)
    read(path)
    whole, named = path.read_bytes(), 0
    for i in range(40):
        damaged = bytearray(whole[: rng.integers(1, len(whole))] if i % 2 else whole)
        for place in rng.integers(0, min(len(damaged), 100), 3):
            damaged[place] = rng.integers(256)
        (tmp_path / f"part.{suffix}").write_bytes(damaged)
        try:
            read(tmp_path / f"part.{suffix}")
        except MediaError as error:
            named += 1
            assert f"part.{suffix}: no readable" in str(error) and "\n" not in str(error)
    assert named >= 10
