"""The gallery of a run: which pictures stand beside which query, and what it refuses."""

import json
import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unirep_jax import experiment, gallery
from unirep_jax.data.extract import extract

ROOT = Path(__file__).parents[1]
COLOURS = {"red": (220, 0, 0), "green": (0, 220, 0), "blue": (0, 0, 220), "grey": (90, 90, 90)}
SIZES = ("small", "large")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Linear CCA on sixty drawn things, each a colour and a size, as picture and as caption."""
    folder = tmp_path_factory.mktemp("gallery")
    things = folder / "things"
    (things / "image").mkdir(parents=True)
    lines = ["id,image,caption,class_name"]
    rng = np.random.default_rng(0)
    for number in range(60):
        colour, size = [*COLOURS][number % 4], SIZES[number // 4 % 2]
        picture = np.full((12, 12, 3), 255, np.uint8)
        side = 4 if size == "small" else 10
        picture[:side, :side] = np.clip(COLOURS[colour] + rng.integers(-9, 9, 3), 0, 255)
        Image.fromarray(picture).save(things / "image" / f"{number}.png")
        lines.append(f"{number},image/{number}.png,a {size} {colour} thing,{colour}")
    (things / "manifest.csv").write_text("\n".join(lines))
    extract(things, folder / "set", encode=("image:pixels,size=4", "caption:words,dim=8,length=4"))
    config = runpy.run_path(str(ROOT / "configs/retrieval.py"))["get_config"]("features,cca")
    config.data.path, config.task.control = str(folder / "set"), False
    return experiment.run(config, folder / "run")


@pytest.fixture
def drawn(monkeypatch):
    """What is handed to the picture."""
    found = []
    monkeypatch.setattr(gallery, "gallery", lambda path, lines, title: found.append((lines, title)))
    return found


def test_each_query_stands_beside_the_pictures_it_finds_with_its_own_marked(run, drawn):
    gallery.draw_gallery(run, "caption", "image", queries=3, answers=5)
    lines, title = drawn[0]
    assert [len(answers) for _, answers in lines] == [5, 5, 5]
    assert title.startswith("caption → image: ") and title.endswith(" test examples, cca")
    for text, answers in lines:
        colour = COLOURS[text.split()[2]]
        assert text.startswith("a ") and text.endswith(" thing")
        for answer in answers:
            assert answer.picture.shape == (12, 12, 3)
            same = np.abs(answer.picture[0, 0] - np.asarray(colour, float)).max() < 10
            assert answer.same_class == same
        assert sum(answer.pair for answer in answers) <= 1
        assert all(a.same_class for a in answers if a.pair)
    assert np.mean([answers[0].same_class for _, answers in lines]) > 0.5


def test_the_picture_is_where_the_report_finds_it(run, capsys):
    gallery.main([str(run), "--query=caption", "--pictures=image", "--queries=2", "--answers=99"])
    path = run / "figures" / "gallery_caption_image.png"
    assert capsys.readouterr().out.strip() == str(path)
    with Image.open(path) as picture:
        assert picture.width > 500


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--query=sound", "--pictures=image"], "no modality 'sound'; the run has caption, image"),
        (
            ["--query=image", "--pictures=caption"],
            "--pictures=caption: there are pictures of image",
        ),
        (["--query=caption", "--pictures=image", "--answers=0"], "--answers=0 is not at least 1"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(run, flags, message):
    with pytest.raises(SystemExit, match=f"error: .*{message}"):
        gallery.main([str(run), *flags])


def test_runs_on_other_examples_or_on_no_files_are_refused(run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    config = json.loads((copy / "config.json").read_text())
    config["data"]["without"] = ["red"]
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"trained on 45 of 60 examples .* needs all of them"):
        gallery.draw_gallery(copy, "caption", "image")
    config["data"]["path"] = str(tmp_path / "elsewhere")
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"no manifest\.csv, so it was not extracted from files"):
        gallery.draw_gallery(copy, "caption", "image")


def test_a_damaged_data_card_is_one_line(run, tmp_path):
    copy, made = tmp_path / "run", tmp_path / "set"
    shutil.copytree(run, copy)
    config = json.loads((copy / "config.json").read_text())
    shutil.copytree(config["data"]["path"], made)
    card = json.loads((made / "card.json").read_text())
    del card["columns"]
    (made / "card.json").write_text(json.dumps(card))
    config["data"]["path"] = str(made)
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(SystemExit, match=r"error: .*card\.json: no 'columns'; extract"):
        gallery.main([str(copy), "--query=caption", "--pictures=image"])
