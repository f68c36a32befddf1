# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # MRN: recognising with all senses, and knowing when not to
#
# [![Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/unirep-jax/unirep_jax/blob/main/notebooks/mrn.ipynb)
#
# A classifier of ten digits shown a letter still answers with a digit. Open-set recognition wants
# "unknown" instead. MRN (2024) does it with several modalities at once: each lets its tokens ask
# for what matters in the others (cross-attention, eq. 1), and a mixture of experts decides (eq. 2).
# This notebook trains it on five of ten handwritten digits, seen (*video*), heard (*audio*) and
# described (*text*); the other five are the unknown. It takes one or two minutes on any Colab
# runtime: TPU, GPU or CPU.

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
# The loss is cross-entropy plus a term that keeps all experts busy (eq. 3, 6). An example is
# rejected where its score, the largest probability, is below a threshold (eq. 4). The threshold is
# the one that accepts 95 % of known training examples held out. Run the cell again, and it finds
# its finished run.

# %%
import runpy

from unirep_jax.experiment import run

config = runpy.run_path("configs/mmosr.py")["get_config"]("digits_avt,mrn")
if FAST:
    config.steps = config.train.checkpoint_every = 8
    config.train.log_every = 4
workdir = run(config)

# %% [markdown]
# `ACC` is accuracy on known digits without rejection, `AUROC` how well the score tells known from
# unknown, `OSCR` both at once, at every threshold. The numbers are high because captions name the
# digit; real data are harder.
#
# ## The score
#
# Known test examples should lie to the right of the dashed threshold, unknown ones to the left. A
# softmax is so sure of what it knows that the threshold is close to 1.

# %%
from IPython.display import Image, display

figures = workdir / "figures"
display(Image(figures / "scores.png"))

# %% [markdown]
# ## At every threshold
#
# The star is the threshold of eq. 4.

# %%
display(Image(figures / "curves.png"))

# %% [markdown]
# ## Who is taken for whom
#
# The last column is "rejected", the last row the unknown digits. Which digits do they pass for?

# %%
display(Image(figures / "confusion.png"))

# %% [markdown]
# ## Features, and the experts
#
# Unknown digits between the clusters are easy, inside a cluster hard. Below, how much each expert
# has to say about each class: the load balance (eq. 3) keeps any one from answering everything.

# %%
display(Image(figures / "features.png"))
display(Image(figures / "experts.png"))

# %% [markdown]
# ## Your own features
#
# Write a file as below and take `get_config("features")` with `config.data.path = "my_set.npz"`
# ([format](https://github.com/unirep-jax/unirep_jax/blob/main/docs/features.md)). Half of the
# classes are then known; `config.task.classes` names them instead. Row i of every array is the
# same instance, seen through one modality: a vector, a sequence or a map from the backbone of your
# choice. Here made-up ones, to show the format.

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
# Baselines are every fusion with every head: `"digits_avt,concat"`, `"digits_avt,arpl-mrn"`, `tmc`,
# `mla` and more; all are listed in `unirep_jax/methods/recognition.py`, and what to expect is in
# the [results](https://github.com/unirep-jax/unirep_jax/blob/main/docs/results/mrn.md).
