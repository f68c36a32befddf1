# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # MOVER: matching by transport, aligning by volume
#
# [![Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/unirep-jax/unirep_jax/blob/main/notebooks/mover.ipynb)
#
# MOVER (You and Liu, CIKM 2025) gives every modality of an example a unit vector (eq. 2) and wants
# the vectors of one example to agree. Three vectors agree when the parallelepiped they span is
# flat: its volume √det(VᵀV) is 0 (eq. 6-7). Which vectors belong together is not only read off the
# pairs, it is also found by optimal transport (eq. 4-5). This notebook trains it on handwritten
# digits that are seen (*video*), heard (*audio*) and described (*text*), and then searches across
# modalities. It takes one or two minutes on any Colab runtime: TPU, GPU or CPU.

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
# A configuration is a nested set of settings, all of which you may change; a mistyped one is an
# error. `run` trains, searches in every direction and writes everything into one folder. Run the
# cell again, and it finds its finished run.

# %%
import runpy

from unirep_jax.experiment import run

config = runpy.run_path("configs/retrieval.py")["get_config"]("digits_avt,mover")
if FAST:
    config.steps = config.train.checkpoint_every = 8
    config.train.log_every = 4
workdir = run(config)

# %% [markdown]
# R@1 is how often the first hit is the very example, out of 600; *class mAP* counts every example
# of the same digit as a hit. Between pairs the search goes by cosine; between one modality and a
# group of the two others, by volume and by height (the volume without the volume of the group
# itself). Compare with the rows of chance.
#
# ## What the losses do
#
# The first steps contrast cosines alone (`warm_start`): from random networks a volume cannot tell v
# from −v. Then volumes take over, and the curves jump. `mass_on_pairs` is how much of the transport
# plan lies on the true pairs: near 1, transport has found them by itself.

# %%
from IPython.display import Image, display

figures = workdir / "figures"
display(Image(figures / "training_curves.png"))

# %% [markdown]
# ## The transport plans (eq. 5)
#
# Rows and columns are test examples, sorted by digit. Bright blocks on the diagonal: transport
# sends a digit to the same digit. A bright diagonal line inside the blocks: it even finds the
# example.

# %%
display(Image(figures / "transport_plans.png"))

# %% [markdown]
# ## The shared space
#
# One point per test example and modality. Pictures and sounds of a digit should form one cluster,
# and its captions lie beside it: a caption says the digit, but little of how it was written.

# %%
display(Image(figures / "embedding_map.png"))

# %% [markdown]
# ## Search it yourself
#
# The volume of a picture with the sound and the caption of another example is large unless they
# agree. Here the volumes of ten pictures with ten groups: a dark diagonal says that each picture
# fits its own group best. A column that is dark from top to bottom is a group that agrees with
# itself, and so is near to every picture; `height=True` leaves that out. The vectors are made up;
# take those of your own models.

# %%
import matplotlib.pyplot as plt

from unirep_jax.losses import unit, volume_matrix

truth, *noise = jax.random.normal(jax.random.key(0), (4, 10, 16))
video, audio, text = (unit(truth + 0.4 * n) for n in noise)
figure, axis = plt.subplots(figsize=(4.2, 3.4), layout="constrained")
image = axis.imshow(volume_matrix(video, audio, text), cmap="viridis")
axis.set(title="Vol(video i, audio j, text j), eq. 7", xlabel="group j", ylabel="video i")
bar = figure.colorbar(image)

# %% [markdown]
# ## Your own features
#
# Write a file as below and take `get_config("features")` with `config.data.path = "my_set.npz"`;
# features of large frozen models need a linear map alone, `config.method.layers = 0`
# ([format](https://github.com/unirep-jax/unirep_jax/blob/main/docs/features.md)). Row i of every
# array is the same instance, seen through one modality: a vector, a sequence or a map from the
# backbone of your choice. Here made-up ones, to show the format.

# %%
import tempfile

import numpy as np

from unirep_jax.data import load_features

rng = np.random.default_rng(0)
scratch = tempfile.TemporaryDirectory()  # gone when the notebook ends
my_set = Path(scratch.name) / "my_set.npz"
np.savez(
    my_set,
    **{
        "modality/video": rng.standard_normal((200, 10, 512), np.float32),
        "modality/audio": rng.standard_normal((200, 10, 128), np.float32),
        "label": rng.integers(0, 4, 200),
        "split": np.where(np.arange(200) < 150, "train", "test"),
    },
)
print(load_features(my_set).modalities)

# %% [markdown]
# The other rows of the paper's Table 4 are `"digits_avt,gram"`, `"digits_avt,pairwise"` and
# `config.method.weight_transport = 0.0`; what to expect of each is in the
# [results](https://github.com/unirep-jax/unirep_jax/blob/main/docs/results/mover.md).
