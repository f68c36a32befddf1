# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # C-MCR: two spaces connected by what they share
#
# [![Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/unirep-jax/unirep_jax/blob/main/notebooks/cmcr.ipynb)
#
# One model embeds images and texts, another sounds and texts. No one ever saw an image with its
# sound. C-MCR (Wang et al., NeurIPS 2023) connects the two spaces through the texts alone, by two
# small projectors. This notebook first trains two such spaces on handwritten digits, (text,
# *video*) and (text, *audio*), from halves of the data that have no example in common, then
# connects them and lets pictures and sounds of digits find each other. It takes three minutes on a
# Colab CPU, and less on a GPU or TPU.

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
# ## Train and evaluate
#
# What is closest to a text in each space's memory stands for the pairs that are missing (eq. 2);
# noise makes points into clouds (eq. 3); projectors (eq. 4) are trained so that the two views of a
# text agree (eq. 5-6), their stand-ins agree, and each space closes its own gap (eq. 9). Run the
# cell again, and it finds its finished run.

# %%
import runpy

from unirep_jax.experiment import run

config = runpy.run_path("configs/connect.py")["get_config"]("digits_avt,small")
if FAST:
    config.steps = config.pretrain.steps = 20
    config.task.control = False
workdir = run(config)

# %% [markdown]
# R@1 is how often the first hit is the very example, out of 600; *class mAP* counts every example
# of the same digit as a hit. `no connection` searches across the spaces as they are, which is
# little better than chance. `trained on pairs` is what a model reaches that was given the pairs: an
# upper bound.
#
# ## The connected space
#
# One point per test example and modality; `_1` and `_2` are the two spaces. Classes of one space
# should lie as those of the other do, so that each finds its like; nearest neighbours are still of
# one's own space.

# %%
from IPython.display import Image, display

display(Image(workdir / "figures" / "connected_map.png"))

# %% [markdown]
# ## Hear a digit, see digits
#
# The run wrote its projectors into `connector.safetensors`. Here they embed pictures and sounds of
# the test part; after each digit that is heard are the five pictures found.

# %%
import matplotlib.pyplot as plt
import numpy as np

from unirep_jax import load_run
from unirep_jax.data import digits_avt

digits = digits_avt.load()
test = np.flatnonzero(~digits.train)
pictures, sounds = (digits.features[m][test] for m in ("video", "audio"))
heard = np.array([np.flatnonzero(digits.label[test] == digit)[0] for digit in range(10)])
model = load_run(workdir)  # raw features in: the encoder of each space is part of it
found = model.search("audio", sounds[heard], "video", pictures, k=5)

figure, axes = plt.subplots(2, 30, figsize=(12, 1.7), layout="constrained")
for axis in axes.ravel():
    axis.axis("off")
for digit, hits in enumerate(found.index):
    row, first = divmod(digit, 5)
    axes[row, 6 * first].text(0.3, 0.3, f"{digit}:", transform=axes[row, 6 * first].transAxes)
    for place, hit in enumerate(hits, start=1):
        picture = digits.features["video"][test[hit]].T
        axes[row, 6 * first + place].imshow(picture, cmap="gray_r")

# %% [markdown]
# ## What the losses do
#
# `shared` contrasts the texts across spaces, `other` their stand-ins; `gap` is how far a text is
# from its stand-in within a space (eq. 9).

# %%
display(Image(workdir / "figures" / "training_curves.png"))

# %% [markdown]
# ## Your own models
#
# To connect the spaces of models you have, CLIP and CLAP say, keep what each of them makes of its
# texts and of its other modality as banks, one file each, give every text what is like it in the
# memories (`python -m unirep_jax.aggregate`), and take `get_config("banks,paper")` with
# `config.data.path`, the folder
# ([format](https://github.com/unirep-jax/unirep_jax/blob/main/docs/banks.md)). Here a made-up bank.

# %%
import tempfile

from unirep_jax.data.banks import open_bank, write_bank

rng = np.random.default_rng(0)
texts = rng.standard_normal((1000, 64), np.float32)
texts /= np.linalg.norm(texts, axis=1, keepdims=True)
scratch = tempfile.TemporaryDirectory()  # gone when the notebook ends
bank = Path(scratch.name) / "text_1.npy"
write_bank(bank, texts.astype(np.float16), name="texts", about="made up")
print(open_bank(bank).embeddings.shape)

# %% [markdown]
# Other rows of the paper's Table 5 are settings: `config.method.noise_variance = 0.0`,
# `config.method.weight_shared = 0.0` and so on; what to expect is in the
# [results](https://github.com/unirep-jax/unirep_jax/blob/main/docs/results/cmcr.md).
