# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # COX: learning a modality that nobody annotated
#
# [![Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/unirep-jax/unirep_jax/blob/main/notebooks/cox.ipynb)
#
# There are good models of texts and videos, and labels for them. Then a new sensor arrives, with a
# few labelled recordings and many bare ones. COX (ICLR 2025) calls it the out-of-modal one: it
# connects it to the known modalities, then explores what only it knows. This notebook makes *audio*
# of handwritten digits the new modality, with labels for one recording in ten, and *video* and
# *text* the known ones. It takes three minutes on a Colab CPU, most of it compilation, and less on
# a GPU or TPU.

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
# *Connect* (eq. 9): a variational bottleneck maps embeddings of each known modality to the features
# of their out-of-modal partner, and a head per modality reads the mappings. *Explore* (eq. 13):
# where these heads disagree about an example, the learner is drawn towards the anchors of the
# classes they name. Small encoders of the known modalities are trained first, frozen after, and
# shared by both runs below. The second run is ERM, the same learner on the same labels and nothing
# else.

# %%
import runpy
from pathlib import Path

from unirep_jax.experiment import run

get_config = runpy.run_path("configs/oom.py")["get_config"]
workdirs = {}
for name in ("cox", "erm"):
    config = get_config(f"digits_avt,{name}")
    config.pretrain.path = "runs/encoders"
    if FAST:
        config.steps = config.pretrain.steps = 20
    workdirs[name] = run(config)

# %% [markdown]
# Compare the accuracies. The paper's question is whether the other modalities help one that has few
# labels: what COX has above ERM is what they gave.

# %%
from unirep_jax.evaluation.measurements import read_measurements

for name, workdir in workdirs.items():
    rows = {m.metric: m for m in read_measurements(workdir / "results.jsonl") if m.method == name}
    print(f"{name}: {100 * rows['accuracy'].value:.1f} % of {rows['accuracy'].num_examples}")

# %% [markdown]
# ## Features of the new modality
#
# Features of sounds, and what the bottlenecks map texts and videos to. Left by modality: they
# should mix. Right by digit: look for clusters of one colour.

# %%
from IPython.display import Image, display

figures = workdirs["cox"] / "figures"
display(Image(figures / "features.png"))

# %% [markdown]
# ## Where the heads agree
#
# The heads of video and text never saw a labelled sound; they read its features through the
# connection. Where they agree the learner should be right more often (Figure 6 of the paper).

# %%
display(Image(figures / "agreement.png"))

# %% [markdown]
# ## The connection while it forms
#
# The discrepancy between the features and the mapped embeddings falls, and the heads, near chance
# in the beginning, come to understand a modality that they were not trained on.

# %%
display(Image(figures / "connection.png"))

# %% [markdown]
# ## Your own features
#
# Write a file as below and take `get_config("features")` with `config.data.path = "my_set.npz"` and
# `config.task.modality = "audio"`, the new one. With embeddings of your own models for the known
# modalities set `config.task.given = True`
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
# Other baselines are `"digits_avt,entmin"`, `ssl`, `moco`, `freematch`, `mixtext`, `random` and
# `supervised`; what to expect of each is in the
# [results](https://github.com/unirep-jax/unirep_jax/blob/main/docs/results/cox.md).
