# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # MICU: one codebook for all modalities, and the unknown
#
# [![Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/unirep-jax/unirep_jax/blob/main/notebooks/micu.ipynb)
#
# MICU (Huang et al., ICCV 2025) writes video, audio and text with the words of one codebook,
# learned from unlabelled pairs. A classifier that has seen labelled sounds, say, then reads video
# as well. And in the open set it must do one thing more: say "unknown" to classes that the sounds
# did not have. This notebook trains it on handwritten digits that are seen (*video*), heard
# (*audio*) and described (*text*), and evaluates it as the paper's Table 2 does, in all six
# directions. It takes three minutes on a Colab CPU, most of it compilation, and less on a GPU or
# TPU.

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
# The loss is eq. 8 of the paper: masked contrast of steps (`fine`, eq. 4) and of whole examples
# (`coarse`, eq. 5), a jigsaw of pieces from several modalities, reconstruction from the codes, and
# commitment to them (eq. 7). A configuration is a nested set of settings, all of which you may
# change; a mistyped one is an error. Run the cell again, and it finds its finished run.

# %%
import runpy

from unirep_jax.experiment import run

config = runpy.run_path("configs/oscmg.py")["get_config"]("digits_avt,micu")
if FAST:
    config.steps, config.train.log_every = 10, 5
    config.task.probe.steps, config.task.folds, config.task.control = 20, 2, False
    config.task.selections = ("honest",)
workdir = run(config)

# %% [markdown]
# `OS*` is accuracy on known digits, `UNK` the share of unknown ones that are rejected, `HOS` their
# harmonic mean. Rejection needs a threshold. `honest` fixes it before the target modality is seen;
# `paper` takes the best of ten by the test labels, as the authors report. `untrained` is the same
# network with a codebook fitted to its random features, `chance` guesses.
#
# ## Does the shared codebook carry over?
#
# Each group of bars is one direction: the modality with labels → the modality that is tested. What
# pre-training gives is what stands above `untrained`.

# %%
import matplotlib.pyplot as plt

from unirep_jax.evaluation.figures import PALETTE
from unirep_jax.evaluation.measurements import read_measurements


def shown(m):
    return (m.metric, m.split, m.selection) == ("hos", "split1", "honest")


rows = [m for m in read_measurements(workdir / "results.jsonl") if shown(m)]
directions = sorted({f"{m.source}\n→ {m.target}" for m in rows})
methods = [name for name in ("micu", "untrained", "chance") if name in {m.method for m in rows}]
figure, axis = plt.subplots(figsize=(8, 3.2), layout="constrained")
for place, (name, colour) in enumerate(zip(methods, PALETTE, strict=False)):
    values = {f"{m.source}\n→ {m.target}": 100 * m.value for m in rows if m.method == name}
    positions = [i + 0.27 * (place - 1) for i in range(len(directions))]
    axis.bar(positions, [values[d] for d in directions], 0.25, label=name, color=colour)
axis.set_xticks(range(len(directions)), directions)
axis.set(ylim=(0, 100), ylabel="HOS, percent", title="5 known digits of 10, honest threshold")
legend = axis.legend(ncols=3)

# %% [markdown]
# ## Whose words are they?
#
# Above, one bar per used code with each modality's share of its use: a code with three colours is a
# word that all modalities speak. Below, the codes in two directions. Here sounds and pictures share
# most words, captions fewer. The more codes are shared, the better a classifier carries over
# (Figure 6 of the paper).

# %%
from IPython.display import Image, display

figures = workdir / "figures"
display(Image(figures / "codebook_usage.png"))

# %% [markdown]
# ## What the losses do
#
# Besides the terms of eq. 8 look at `perplexity`, how many codes are in use, and at `agreement`:
# how often two modalities choose the same code at the same step.

# %%
display(Image(figures / "training_curves.png"))

# %% [markdown]
# ## Your own features
#
# Write a file as below and take `get_config("features")` with `config.data.path = "my_set.npz"`
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
# Baselines are `"digits_avt,dcid"`, `cmcm`, `codis`, `turn` and `mmjp`; `"digits_avt,paper"` takes
# the equations as printed. What to expect is in the
# [results](https://github.com/unirep-jax/unirep_jax/blob/main/docs/results/micu.md).
