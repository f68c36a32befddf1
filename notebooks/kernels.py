# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A tour of the kernels
#
# [![Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/unirep-jax/unirep_jax/blob/main/notebooks/kernels.ipynb)
#
# A kernel here is a function of arrays: jitted, differentiable, one value per example, and with a
# stated answer where the formula has none. They need JAX alone, so you can use any of them in a
# training loop of your own. Every section takes a minute to read; the whole notebook runs in half a
# minute on a TPU, GPU or CPU.

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

# %%
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from unirep_jax import losses, metrics
from unirep_jax.losses import unit


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


# %% [markdown]
# ## InfoNCE, whole and in blocks
#
# Each query must find its own key among all keys of the batch: ℓᵢ = −log( exp(qᵢ·kᵢ/τ) / Σⱼ
# exp(qᵢ·kⱼ/τ) ) (van den Oord et al. 2018, eq. 4). The similarity matrix is batch² numbers. With
# `block_size` it is never stored: the value stays, memory falls.

# %%
batch = 256 if FAST else 2048
audio = unit(normal(0, batch, 64))
video = unit(audio + 0.1 * normal(1, batch, 64))


def needed(block_size):
    """Loss, and the bytes that its gradient needs besides inputs and outputs."""

    def loss(audio, video):
        values = losses.info_nce(audio, video, temperature=0.07, block_size=block_size)
        return values.mean()

    program = jax.jit(jax.value_and_grad(loss)).lower(audio, video).compile()
    return program(audio, video)[0], program.memory_analysis().temp_size_in_bytes


for block_size in (None, 128):
    value, size = needed(block_size)
    print(f"block_size={block_size}: loss {value:.5f}, {size / 1e6:.1f} MB")

# %% [markdown]
# ## The same over several devices
#
# With `axis_name` the keys of all devices are negatives, and gradients are those of one device with
# the whole batch. A gather that stops gradients would give the right loss and half the gradient.
# Here over all devices there are: on a TPU with eight cores over eight, else over one.

# %%
from jax.sharding import AxisType, Mesh, PartitionSpec

mesh = Mesh(np.array(jax.devices()), ("device",), axis_types=(AxisType.Auto,))
rows = PartitionSpec("device")


def on_each_device(audio, video):
    values = losses.info_nce(audio, video, temperature=0.07, axis_name="device")
    return losses.masked_mean(values, axis_name="device")


sharded = jax.shard_map(
    on_each_device, mesh=mesh, in_specs=(rows, rows), out_specs=PartitionSpec(), check_vma=False
)
one = losses.info_nce(audio, video, temperature=0.07).mean()
print(f"one device {one:.5f}, {jax.device_count()} device(s) {jax.jit(sharded)(audio, video):.5f}")

# %% [markdown]
# ## Sinkhorn: soft matching, and its gradient
#
# A transport plan says which rows of x go with which rows of y, with all rows and columns used
# alike (MOVER eq. 4-5). ε makes it soft: from a permutation to "everything with everything". Here y
# is x in another order, with noise.

# %%
order = jax.random.permutation(jax.random.key(2), 24)
x = unit(normal(3, 24, 8))
y = unit(x + 0.3 * normal(4, 24, 8))[order]
figure, axes = plt.subplots(1, 3, figsize=(9, 3.2), layout="constrained")
for axis, epsilon in zip(axes, (0.01, 0.2, 2.0), strict=True):
    found = losses.sinkhorn_plan(x, y, epsilon=epsilon)
    right = (found.plan.argmax(1) == jnp.argsort(order)).mean()
    axis.imshow(found.plan, cmap="magma")
    axis.set(title=f"ε = {epsilon}: {right:.0%} of rows found", xlabel="y")
label = axes[0].set_ylabel("x")

# %% [markdown]
# A plan may be a constant (`gradient="stop"`, as in MOVER's loss), or be differentiated: unrolled,
# or implicitly at the solution, which needs no memory of the iterations. The slope of the loss
# along a direction tells whether they are right. For small ε only the implicit one is, because the
# unrolled one looks back at 20 iterations and more would be needed.

# %%
direction = normal(5, *x.shape)


def matched(x, gradient):
    """How much of the plan lies on the true pairs."""
    plan = losses.sinkhorn_plan(x, y, epsilon=0.5, threshold=1e-6, gradient=gradient).plan
    return jnp.sum(plan[order, jnp.arange(24)])


ahead, behind = (matched(x + step * direction, "stop") for step in (0.01, -0.01))
print(f"finite difference: {(ahead - behind) / 0.02:+.4f}")
for gradient in ("stop", "unroll", "implicit"):
    slope = jnp.sum(jax.grad(matched)(x, gradient) * direction)
    print(f"{gradient:>17}: {slope:+.4f}")

# %% [markdown]
# ## Volumes, and where they degenerate
#
# √det(VᵀV) is the volume that vectors span (MOVER eq. 6-7): 0 when they agree, 1 when they are
# orthogonal. In float32 the determinant loses every digit when two vectors agree to 10⁻⁴, which is
# where training leads. `gram_volume` computes heights instead, and keeps its digits.

# %%
angles = jnp.logspace(-6.5, 0, 60)
pairs = jnp.stack([
    jnp.stack([jnp.ones(60), jnp.zeros(60)], 1),
    jnp.stack([jnp.cos(angles), jnp.sin(angles)], 1),
], 1)  # fmt: skip
gram = jnp.einsum("nmd,nkd->nmk", pairs, pairs, precision="highest")
determinant = jnp.sqrt(jnp.maximum(jnp.linalg.det(gram), 0))
figure, axis = plt.subplots(figsize=(5.5, 3.4), layout="constrained")
axis.loglog(angles, jnp.maximum(determinant, 1e-9), ".", label="√det in float32")
axis.loglog(angles, losses.gram_volume(pairs), label="gram_volume")
axis.set(xlabel="angle between two unit vectors", ylabel="volume", ylim=(3e-10, 2))
legend = axis.legend()

# %% [markdown]
# At full agreement the volume is exactly 0 and its gradient finite. Two things a volume cannot see:
# the sign of a vector, and a third vector when two of them agree already.

# %%
a, b = unit(normal(6, 2, 3))
cases = {"a, a": [a, a], "a, −a": [a, -a], "a, b": [a, b], "a, a, b": [a, a, b]}
for name, vectors in cases.items():
    value, slope = jax.value_and_grad(losses.gram_volume)(jnp.stack(vectors))
    print(f"{name:>8}: volume {value:.3f}, longest gradient {jnp.abs(slope).max():.3f}")

# %% [markdown]
# ## Jigsaw
#
# MICU cuts features into pieces, shuffles them in every one of a set of orders, and a classifier
# must name the order (sec. 3.3). Orders are numbered, so any of 8! is made without listing them,
# and nothing is ever shuffled: the first layer is linear, and a permutation a selection of its
# parts. A classifier of zeros guesses: its loss is log 16. Random ones that are surer are worse.

# %%
orders = losses.permutations_from_ranks(losses.sample_ranks(0, 16, 8), 8)
pieces = normal(7, 64, 8, 4)
scale = jnp.array([0.0, 0.05, 0.1])[:, None, None]
hidden_kernels, output_kernels = scale * normal(8, 3, 32, 128), scale * normal(9, 3, 128, 16)
for hidden_kernel, output_kernel in zip(hidden_kernels, output_kernels, strict=True):
    values = losses.jigsaw_loss(
        pieces, orders, hidden_kernel=hidden_kernel, hidden_bias=jnp.zeros(128),
        output_kernel=output_kernel, output_bias=jnp.zeros(16),
    )  # fmt: skip
    print(f"loss {values.mean():.3f} (log 16 = {np.log(16):.3f})")
figure, axis = plt.subplots(figsize=(3.2, 4.4), layout="constrained")
axis.imshow(orders, cmap="viridis")
text = axis.set(title="16 of 8! orders", xlabel="position", ylabel="order")

# %% [markdown]
# ## Vector quantisation
#
# Every feature becomes the nearest word of a codebook (MICU eq. 6), and words move towards the
# features that chose them: a moving average, not a gradient. Words that no one chooses are put
# where features are. Two modalities share the words; features of both pull. The stars are the words
# after 60 steps, the crosses where they began. As in k-means, one cluster may end with two words,
# and two clusters with one.

# %%
angle = jnp.arange(8) * jnp.pi / 4
centre = 3 * jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1)
token = jnp.repeat(centre, 40, axis=0)
z = token[None] + 0.35 * normal(10, 2, 320, 2)  # [modality, token, dim]
start = 0.3 * normal(11, 8, 2)
state = losses.CodebookState(start, jnp.ones(8), start, jnp.zeros(8, jnp.int32))
for step in range(60):
    indices = losses.nearest_code(z, state.codebook)
    state = losses.ema_codebook_update(state, z, indices, decay=0.8)
    state = losses.restart_dead_codes(
        state, z[:, :, None], key=jax.random.key(step), patience=10
    )  # fmt: skip
indices = losses.nearest_code(z, state.codebook)
used = losses.perplexity(jnp.bincount(indices.ravel(), length=8).astype(jnp.float32))
figure, axis = plt.subplots(figsize=(4.4, 4.4), layout="constrained")
for m, marker in enumerate(("o", "^")):
    axis.scatter(*z[m].T, s=9, marker=marker, c=indices[m], cmap="tab10", alpha=0.5)
axis.plot(*start.T, "kx")
axis.plot(*state.codebook.T, "k*", markersize=13)
text = axis.set(title=f"8 words, perplexity {used:.1f}", aspect="equal")

# %% [markdown]
# Nearest is a step, so it has no gradient; `straight_through` hands the gradient on as if the word
# were the feature, and `commitment_loss` pulls the feature to its word (MICU eq. 7).

# %%
word = state.codebook[indices]
gradient = jax.grad(lambda z: jnp.sum(losses.straight_through(z, word) ** 2))(z)
print("gradient is that at the word:", bool(jnp.allclose(gradient, 2 * word, atol=1e-5)))
print(f"commitment: {losses.commitment_loss(z, word).mean():.3f}")

# %% [markdown]
# ## Gates of a mixture of experts
#
# MRN lets 4 of 15 experts speak for each example (eq. 2). Noise gives others a chance, and the
# balance term (eq. 3) is 0 only when all are used alike. Left: gates of 40 examples, 4 bright cells
# in every row. Right: the term falls when it is minimised alone.

# %%
logits = 2 * normal(12, 40, 15) + jnp.linspace(2, -2, 15)[None, :]
keys = jax.random.split(jax.random.key(13), 40)  # one an example


@jax.jit
@jax.value_and_grad
def balance(offset):
    gates = losses.noisy_top_k_gates(
        logits + offset[None, :], jnp.zeros((40, 15)), key=keys, count=4
    )  # fmt: skip
    return losses.load_balance_loss(*gates)


offset, curve = jnp.zeros(15), []
for _ in range(80):
    value, slope = balance(offset)
    offset, curve = offset - 0.5 * slope, [*curve, float(value)]
gates = losses.noisy_top_k_gates(logits, jnp.zeros((40, 15)), key=None, count=4).gates
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
left.imshow(gates, aspect="auto", cmap="magma")
left.set(title="gates before", xlabel="expert", ylabel="example")
right.plot(curve)
text = right.set(title="CV²(importance) + CV²(load)", xlabel="step", ylim=(0, None))

# %% [markdown]
# ## Open-set metrics
#
# A detector gives known examples high scores. AUROC asks how often a known one is above an unknown
# one, OSCR also that its class is right, and HOS what one threshold gives. They are exact with
# ties. The best threshold by the test labels is what papers report; the honest one is fixed on
# known examples held out.

# %%
rng = np.random.default_rng(0)
known, unknown, held_out = rng.normal(2, 1, 300), rng.normal(0, 1, 300), rng.normal(2, 1, 200)
correct = rng.random(300) < 0.9
truth = np.r_[np.zeros(300, int), np.full(300, -1)]
answer, scores = np.r_[np.where(correct, 0, 1), np.zeros(300, int)], np.r_[known, unknown]
best, accuracy = metrics.threshold_sweep(scores, answer, truth, num_thresholds=50).best()
honest = metrics.fit_threshold(held_out, tpr=0.95)
decided = metrics.open_set_accuracy(truth, np.where(scores >= honest, answer, -1))
print(f"AUROC {metrics.auroc(known, unknown):.3f}")
print(f"OSCR {metrics.oscr(known, unknown, correct):.3f}")
print(f"HOS {accuracy.hos:.3f} at the best threshold, {decided.hos:.3f} at the honest one")

curve = metrics.oscr_curve(known, unknown, correct)
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
for values, name in ((known, "known"), (unknown, "unknown")):
    left.hist(values, 30, alpha=0.6, label=name)
left.axvline(best, color="k", ls=":", label="best by test labels")
left.axvline(honest, color="k", label="accepts 95 % held out")
left.set(xlabel="score", ylim=(0, 48))
left.legend(ncols=2, fontsize="small")
right.plot(curve.fpr, curve.ccr)
text = right.set(xlabel="unknown accepted", ylabel="known accepted and right", title="OSCR curve")

# %% [markdown]
# ## Your own arrays
#
# Any of these takes your arrays in place of ours: `info_nce(unit(a), unit(b), temperature=0.07)`,
# rows left out by `where`, bfloat16 in and float32 out. A shape that does not fit is an error that
# says so.

# %%
try:
    losses.info_nce(normal(14, 32, 64), normal(15, 5, 64), temperature=0.07)
except Exception as error:
    print(*str(error).splitlines()[:4], sep="\n")

# %% [markdown]
# What there is beside these is listed in `unirep_jax/losses/__init__.py` and
# `unirep_jax/metrics/__init__.py`; the notebooks of the methods put them to work.
