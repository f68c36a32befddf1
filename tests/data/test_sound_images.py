"""Annotations of images and their sounds, on tiny trees in the published forms."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unirep_jax.connect.evaluate import localization
from unirep_jax.data import FeatureFileError
from unirep_jax.data.extract.manifest import open_manifest
from unirep_jax.data.sound_images.__main__ import main
from unirep_jax.data.sound_images.readers import READERS, flickr_boxes
from unirep_jax.data.sound_images.write import convert

WIDTH, HEIGHT = 32, 24


def put(folder, images, sounds):
    for file in images:
        path = folder / f"frames/{file}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        picture[HEIGHT // 2 :, :, 0] = 255  # the lower half is red
        Image.fromarray(picture).save(path)
    for file in sounds:
        path = folder / f"audio/{file}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"RIFF")


def ave(folder):
    rows = ["Church bell&RUhOCu3LNXM&good&0&10", "Bark&2An2JMGMbbs&good&0&10"]
    rows += ["Church bell&2An2JMGMbbs&good&2&10"]  # a video that is annotated twice
    (folder / "Annotations.txt").write_text(
        "Category&VideoID&Quality&StartTime&EndTime\n" + "\n".join(rows) + "\n"
    )
    put(folder, ["RUhOCu3LNXM", "2An2JMGMbbs"], ["RUhOCu3LNXM", "2An2JMGMbbs"])


def xml(*boxes):
    each = "".join(
        f"<bbox><name>sounding</name><xmin>{a}</xmin><ymin>{b}</ymin>"
        f"<xmax>{c}</xmax><ymax>{d}</ymax></bbox>"
        for a, b, c, d in boxes
    )
    return f"<annotation><object>{each}</object></annotation>"


def flickr(folder):
    (folder / "Annotations").mkdir()
    boxes = {"10000130166": [(0, 64, 128, 256), (0, 0, 128, 256)], "10007936344": [(1, 2, 3, 4)]}
    for name, corners in boxes.items():
        (folder / f"Annotations/{name}.xml").write_text(xml(*corners))
    (folder / "flickr_test.csv").write_text("10000130166,202\n")
    (folder / "flickr_test_plus_silent.csv").write_text(
        "video,audio,label\n10000130166,10007936344,non-sounding\n10007936344,1,sounding"
    )
    put(folder, boxes, boxes)


VGGSS = [
    {"file": "zpWuikVorYg_000032", "class": "elk bugling", "bbox": [[0.25, 0.5, 0.75, 1.0]]},
    {
        "file": "Db6Hjt0x28k_000056",
        "class": "dog, barking",
        "bbox": [[0.0, 0.0, 0.5, 0.5], [0.375, 0.859375, 0.75, -2.8823037615171176e16]],
    },
]


def vggss(folder):
    (folder / "vggss.json").write_text(json.dumps(VGGSS))
    (folder / "vggss_test_plus_silent.csv").write_text(
        "video,audio,label\nzpWuikVorYg_000032,Db6Hjt0x28k_000056,non-sounding\n"
    )
    names = [entry["file"] for entry in VGGSS]
    put(folder, names, names)


def music(folder):
    for kind, videos in (
        ("solo", {"cello": ["4Oy5VmaacaI"], "tuba": ["-_-TDDxoaAc"]}),
        ("duet", {"cello acoustic_guitar": ["HnUOaSfTA6c"]}),
    ):
        content = {"version": 1.0, "videos": videos}
        (folder / f"MUSIC_{kind}_videos.json").write_text(json.dumps(content))
    one = {"box": [8, 0, 16, 24], "normbox": [0.25, 0.0, 0.5, 1.0], "category_id": 1}
    other = one | {"normbox": [0.5, 0.5, 0.25, 0.25]}
    size = {"wdith": WIDTH, "height": HEIGHT}
    frames = ["4Oy5VmaacaI_0_1000/frame_013/00411", "-_-TDDxoaAc_0_1000/frame_048/01454"]
    solo = {f"{frames[0]}.jpg": {"bbox": [one]} | size, f"{frames[1]}.jpg": {"bbox": []} | size}
    duet = {"HnUOaSfTA6c_0_1000/frame_175/05257.jpg": {"bbox": [one, other]} | size}
    (folder / "solotest.json").write_text(json.dumps(solo))
    (folder / "duettest.json").write_text(json.dumps(duet))
    duet_frame = "HnUOaSfTA6c_0_1000/frame_175/05257"
    put(folder, [*frames, duet_frame], ["4Oy5VmaacaI_0_1000/013", "HnUOaSfTA6c_0_1000/175"])


@pytest.fixture
def written(tmp_path):
    """Converts the tree of a set; rows of the manifest and what boxes.npz holds."""

    def do(name, tree, *, change=lambda folder: None, **settings):
        folder, out = tmp_path / "set", tmp_path / "out"
        folder.mkdir()
        tree(folder)
        change(folder)
        settings = {"partial": True} | settings
        convert(name, folder, out, **settings)
        made = open_manifest(out / "manifest.csv")
        for column in ("image", "audio"):
            assert all((out / file).is_file() for file in made.values(column))
        boxes = dict(np.load(out / "boxes.npz")) if (out / "boxes.npz").exists() else {}
        return made, boxes

    return do


def test_ave_has_every_video_once_with_its_first_class(written):
    made, boxes = written("ave", ave)
    assert [*made.values("id")] == ["RUhOCu3LNXM", "2An2JMGMbbs"] and not boxes
    names = [made.class_names[label] for label in made.label]
    assert names == ["Church bell", "Bark"] and not made.train.any()
    assert Path(next(made.values("image"))).name == "RUhOCu3LNXM.jpg"


def test_boxes_of_flickr_are_of_256_pixels_and_each_is_a_vote(written):
    made, boxes = written("flickr_soundnet", flickr)
    assert [*made.values("id")] == ["10000130166", "10007936344"]
    np.testing.assert_array_equal(boxes["truth_of"], [0, 0, 1])
    np.testing.assert_array_equal(boxes["truth_box"][:2], [[0, 0.25, 0.5, 1], [0, 0, 0.5, 1]])
    np.testing.assert_array_equal(boxes["truth_box"][2] * 256, [1, 2, 3, 4])


def test_the_test_of_flickr_is_what_its_table_names_and_negatives_have_no_box(written):
    made, boxes = written("flickr_soundnet_extended", flickr)
    assert [*made.values("id")] == ["10000130166", "10000130166+10007936344"]
    assert [Path(f).name for f in made.values("audio")] == ["10000130166.wav", "10007936344.wav"]
    assert {*boxes["truth_of"]} == {0}


def test_boxes_of_vggss_are_cut_to_the_image_and_broken_ones_cover_nothing(written):
    made, boxes = written("vggss", vggss)
    assert [made.class_names[label] for label in made.label] == ["elk bugling", "dog, barking"]
    np.testing.assert_array_equal(boxes["truth_of"], [0, 1, 1])
    np.testing.assert_array_equal(
        boxes["truth_box"],
        [[0.25, 0.5, 0.75, 1], [0, 0, 0.5, 0.5], [0.375, 0.859375, 0.75, 0.859375]],
    )


def test_boxes_of_music_are_corner_and_size_and_frames_without_are_left_out(written):
    made, boxes = written("music_solo", music)
    assert [*made.values("id")] == ["4Oy5VmaacaI_0_1000/frame_013/00411.jpg"]
    assert next(made.values("audio")).endswith("audio/4Oy5VmaacaI_0_1000/013.wav")
    np.testing.assert_array_equal(boxes["truth_box"], [[0.25, 0, 0.75, 1]])


def test_a_duet_has_the_boxes_of_both_instruments(written):
    made, boxes = written("music_duet", music)
    assert made.class_names == ("cello acoustic_guitar",)
    np.testing.assert_array_equal(boxes["truth_box"], [[0.25, 0, 0.75, 1], [0.5, 0.5, 0.75, 0.75]])


def test_proposals_are_cut_out_in_order_and_located(written, tmp_path):
    """The proposal on the true box sounds like the image, of the negative nothing does."""
    proposals = {
        "zpWuikVorYg_000032": [[0, 0, 0.5, 0.5], [0.25, 0.5, 0.75, 1]],
        "Db6Hjt0x28k_000056": [[0, 0, 0.5, 0.5]],
    }
    file = tmp_path / "glip.json"
    file.write_text(json.dumps(proposals))
    _, boxes = written("vggss_extended", vggss, proposals=file)
    np.testing.assert_array_equal(boxes["proposal_of"], [0, 0, 1, 2, 2])
    crops = open_manifest(tmp_path / "out/crops.csv")
    files = [tmp_path / "out" / name for name in crops.values("image")]
    assert [f.name for f in files][:3] == ["000000_0.png", "000000_1.png", "000001_0.png"]
    upper, lower = (np.asarray(Image.open(f)) for f in files[:2])
    assert upper.shape == lower.shape == (HEIGHT // 2, WIDTH // 2, 3)
    assert upper.mean() < 20 and lower[..., 0].mean() > 220

    audio = np.eye(3)
    sounds = np.stack([audio[1], audio[0], audio[1], audio[0] * 0.5 + audio[1], audio[1]])
    rows = localization(audio, sounds, boxes)
    assert rows["localisation"]["ciou"][0] == 1.0
    assert rows["counterfactual"]["max_f1"][0] == 1.0


def drop(file):
    return lambda folder: (folder / file).unlink()


def write(file, content):
    return lambda folder: (folder / file).write_text(content)


@pytest.mark.parametrize(
    ("name", "tree", "change", "message"),
    [
        ("ave", ave, write("Annotations.txt", "a&b&c\n"), "Annotations.txt: line 1: expected Cat"),
        ("ave", ave, drop("audio/RUhOCu3LNXM.wav"), "missing audio/RUhOCu3LNXM.wav (--partial"),
        ("ave", ave, drop("Annotations.txt"), "missing Annotations.txt"),
        ("ave", ave, lambda folder: None, "expected 4097 pairs of ave, found 2"),
        (
            "flickr_soundnet",
            flickr,
            write("Annotations/10007936344.xml", "<a><bbox/></a>"),
            "10007936344.xml: bbox: expected one or more, two levels down, found none",
        ),
        (
            "flickr_soundnet",
            flickr,
            write("Annotations/10007936344.xml", xml((1, 2, "x", 4))),
            "10007936344.xml: bbox 0: expected a name and four whole numbers",
        ),
        (
            "flickr_soundnet",
            flickr,
            write("Annotations/10007936344.xml", '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'),
            "XML without definitions",
        ),
        ("vggss", vggss, write("vggss.json", "{"), "vggss.json: expected JSON"),
        (
            "vggss",
            vggss,
            write("vggss.json", json.dumps([{"file": "a", "class": "b", "bbox": [[1, 2]]}])),
            "vggss.json: entry 0: expected a box of four numbers, found [1, 2]",
        ),
        (
            "vggss_extended",
            vggss,
            write("vggss_test_plus_silent.csv", "a,b\n"),
            "expected video,audio,label",
        ),
        (
            "vggss",
            vggss,
            write("vggss.json", json.dumps([VGGSS[0] | {"file": "../up"}] * 1)),
            "'../up' leads out of the folder",
        ),
        ("vggss", vggss, write("vggss.json", json.dumps([VGGSS[0]] * 2)), "is listed twice"),
        (
            "music_solo",
            music,
            write("MUSIC_solo_videos.json", '{"videos": {"tuba": []}}'),
            "expected a video of MUSIC_solo_videos.json",
        ),
        (
            "music_solo",
            music,
            write("solotest.json", '{"a_0_9/frame_0/1.jpg": {"bbox": [{"normbox": [1, 2]}]}}'),
            "expected a video of",
        ),
    ],
)
def test_what_is_wrong_is_refused_with_its_file(written, tmp_path, name, tree, change, message):
    with pytest.raises((FeatureFileError, ValueError)) as caught:
        written(name, tree, change=change, partial=False)
    assert message in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["set"], "nothing is left beside it"


def test_the_command_says_what_it_wrote(tmp_path, capsys):
    folder = tmp_path / "set"
    folder.mkdir()
    flickr(folder)
    places = [f"--manual_dir={folder}", f"--out={tmp_path / 'out'}"]
    main(["flickr_soundnet_extended", *places, "--partial"])
    said = capsys.readouterr().out
    assert "2 images with a sound, 2 true boxes, 1 images without any" in said
    assert "--agreement=2" in said
    with pytest.raises(SystemExit, match="exists; choose another folder"):
        main(["flickr_soundnet_extended", *places])


def test_the_published_tables_have_the_published_numbers(split_file, tmp_path):
    for name, file in (("ave", "ave/Annotations.txt"), ("vggss", "vggsound/vggss.json")):
        split_file(file)
        reader = READERS[name]
        found = reader.read(tmp_path)
        assert len(found) == reader.published == len({pair.id for pair in found})
        assert all(pair.boxes for pair in found) == reader.located


def test_a_box_of_flickr_needs_whole_numbers(tmp_path):
    (tmp_path / "a.xml").write_text(xml(("1.5", 2, 3, 4)))
    with pytest.raises(FeatureFileError, match="bbox 0"):
        flickr_boxes(tmp_path / "a.xml")
