# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Your own pictures, sounds and words
#
# [![Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/unirep-jax/unirep_jax/blob/main/notebooks/raw_media.ipynb)
#
# From files to an answer: a folder of pictures, sounds and captions becomes features, a network
# learns to put them into one space, and a written or played query finds pictures. It takes a few
# minutes on any Colab runtime, without a download beyond the packages.

# %%
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import jax

if importlib.util.find_spec("unirep_jax") is None:  # on Colab; its own JAX and TensorFlow stay
    extra = "train" if importlib.util.find_spec("tensorflow") is None else "without-tensorflow"
    pip = [sys.executable, "-m", "pip", "install", "-q"]
    # Where this notebook is from: a checkout around it, or what you set UNIREP_JAX_SOURCE to.
    here = next((place for place in ("..", ".") if Path(place, "pyproject.toml").exists()), "")
    source = here or os.environ.get("UNIREP_JAX_SOURCE", "https://github.com/unirep-jax/unirep_jax")
    if not Path(source).is_dir():
        subprocess.run(["git", "clone", source, "unirep_jax"], check=True)
        source = "./unirep_jax"
    subprocess.run([*pip, f"{source}[{extra}]", f"jax=={jax.__version__}"], check=True)
places = Path(), Path(".."), Path("unirep_jax")
os.chdir(next(place for place in places if (place / "configs").is_dir()))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow reads the data, quietly

FAST = os.environ.get("UNIREP_JAX_FAST") == "1"  # few steps: only to see that everything runs
print(f"JAX {jax.__version__} on {jax.device_count()} {jax.devices()[0].device_kind}")

# %% [markdown]
# ## A folder of pictures, sounds and words
#
# Yours would be photographs, recordings and captions; here the notebook draws some. Files of the
# same name are one thing, seen, heard and described: a shape has a timbre, a colour a pitch, and a
# large one is loud. Nothing tells the network so, it has to find out from the pairs.

# %%
import itertools
import tempfile

import numpy as np
import soundfile
from PIL import Image, ImageDraw

COLOURS = {
    "red": (220, 40, 40),
    "orange": (240, 150, 30),
    "yellow": (230, 220, 50),
    "green": (40, 170, 70),
    "blue": (40, 80, 220),
    "purple": (140, 50, 190),
}
SHAPES = {"circle": 0, "square": 4, "triangle": 3}  # number of corners
RATE = 16000
COPIES = 4 if FAST else 10
rng = np.random.default_rng(0)
scratch = tempfile.TemporaryDirectory()  # gone when the notebook ends
folder = Path(scratch.name) / "my_things"


def draw(colour, corners, radius):
    """A shape somewhere on a greyish ground."""
    picture = Image.new("RGB", (64, 64), tuple(map(int, rng.integers(180, 240, 3))))
    x, y = map(int, rng.integers(radius + 2, 62 - radius, 2))
    pen = ImageDraw.Draw(picture)
    if corners:
        turn = int(rng.integers(-15, 15)) + (45 if corners == 4 else 0)
        pen.regular_polygon((x, y, radius), corners, rotation=turn, fill=colour)
    else:
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    return picture


def play(pitch, overtones, loudness):
    """A tone that begins somewhere within the first half second."""
    time = np.arange(RATE) / RATE - rng.uniform(0, 0.5)
    wave = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in overtones)
    tone = loudness * wave * (time > 0) * np.exp(-3 * np.clip(time, 0, None))
    return tone + 0.003 * rng.standard_normal(RATE)


TIMBRES = {"circle": (1,), "square": (1, 3, 5, 7), "triangle": (1, 2, 3, 4, 5, 6)}
kinds = list(itertools.product(COLOURS, SHAPES, ("small", "large")))
for number, (colour, shape, size) in enumerate(kinds * COPIES):
    place = folder / "NAME" / shape / f"{number:04}"
    paths = {m: Path(str(place).replace("NAME", m)) for m in ("image", "sound", "caption")}
    for path in paths.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    radius = int(rng.integers(7, 11) if size == "small" else rng.integers(17, 24))
    draw(COLOURS[colour], SHAPES[shape], radius).save(f"{paths['image']}.png")
    pitch = 220 * 2 ** (list(COLOURS).index(colour) / 3)
    loudness = 0.08 if size == "small" else 0.3
    soundfile.write(f"{paths['sound']}.wav", play(pitch, TIMBRES[shape], loudness), RATE)
    Path(f"{paths['caption']}.txt").write_text(f"a {size} {colour} {shape}")
print(f"{len(kinds) * COPIES} things in {', '.join(sorted(p.name for p in folder.iterdir()))}")

# %% [markdown]
# ## Features
#
# One line turns files into features, an encoder for each modality. These need no weights; with
# `pip install 'unirep_jax[encoders]'` and a folder of published weights pictures could go through
# CLIP or EfficientNet, the sound through CLAP or VGGish, the text through MiniLM
# ([encoders](https://github.com/unirep-jax/unirep_jax/blob/main/docs/pretrained.md)). As a command
# it is `python -m unirep_jax.data.extract --path=my_things --out=my_set --encode=...`.

# %%
from unirep_jax.data.extract import Extractor, extract

card = extract(
    folder,
    folder.with_name("my_set"),
    encode=(
        "image:pixels,size=16",
        "sound:log_mel,seconds=1,steps=10",
        "caption:words,dim=32,length=6",
    ),
)
print({name: said["shape"] for name, said in card["modalities"].items()})

# %% [markdown]
# ## Train
#
# Nothing of the configuration has to be set: it follows the data, and the run says what it chose.
# The table has, beside the method, what costs nothing: linear CCA and the network untrained.

# %%
import runpy

from unirep_jax.experiment import run

config = runpy.run_path("configs/retrieval.py")["get_config"]("features,mover")
config.data.path = str(folder.with_name("my_set"))
if FAST:
    config.steps = config.train.checkpoint_every = 8
    config.train.log_every = 4
workdir = run(config, folder.with_name("run"))

# %% [markdown]
# ## Ask it
#
# `load_run` gives the trained model back, and `Extractor` sees new files and texts as the set was
# seen. First a written query, then sounds that the network has never heard: what do they look like?

# %%
import matplotlib.pyplot as plt

import unirep_jax
from unirep_jax.data import load_features

model = unirep_jax.load_run(workdir)
read = Extractor(folder.with_name("my_set"))
data = load_features(folder.with_name("my_set"))
names = np.array((folder.with_name("my_set") / "examples.txt").read_text().split())
pictures, names = data.features["image"][~data.train], names[~data.train]


def show(titles, modality, queries, k=6):
    """The k pictures nearest to each query, a row each."""
    found = model.search(modality, read(modality, queries), "image", pictures, k=k)
    figure, axes = plt.subplots(
        len(queries),
        k,
        figsize=(1.1 * k + 1, 1.15 * len(queries)),
        layout="constrained",
        squeeze=False,
    )
    for row, title, index in zip(axes, titles, found.index, strict=True):
        for axis, i in zip(row, index, strict=True):
            axis.imshow(pictures[i, 0])
            axis.set(xticks=[], yticks=[])
        row[0].set_ylabel(title, rotation=0, ha="right", va="center")
    return figure


written = ["a large red circle", "a small blue square", "a large green triangle"]
figure = show(written, "caption", written)

# %%
spoken = {"low, pure, loud": (220, "circle", 0.3), "high, bright, soft": (554, "triangle", 0.08)}
files = []
for number, (pitch, shape, loudness) in enumerate(spoken.values()):
    files.append(folder.with_name(f"query{number}.wav"))
    soundfile.write(files[-1], play(pitch, TIMBRES[shape], loudness), RATE)
figure = show([*spoken], "sound", files)

# %% [markdown]
# ## With your own
#
# Point `folder` at your files: a folder for each modality, the same name for the same thing, or a
# `manifest.csv` ([formats](https://github.com/unirep-jax/unirep_jax/blob/main/docs/extract.md)).
# Everything after it stays as it is. `python -m unirep_jax.export RUN --out=MODEL` copies the model
# into two files for somebody else, and `--config.search=8` looks for better settings on training
# examples that it holds out.
