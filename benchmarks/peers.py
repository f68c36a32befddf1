"""The other side of each comparison: the peers' own functions, and published formulas in PyTorch.

Each function takes NumPy inputs and returns a call without arguments, which is what is timed. Peers
are imported inside, so that those that are not installed are missed only where they are asked for.
"""

import os
import warnings
from collections.abc import Callable

import numpy as np

Run = Callable[[], tuple]


def same_threads() -> None:
    """PyTorch gets as many threads as XLA takes: one for every core of the process."""
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))


def with_gradients(function: Callable, arrays: tuple[np.ndarray, ...]) -> Run:
    """Runs function(*tensors) → (value, *others) and gives (*others, *gradients of value)."""
    import torch

    tensors = [torch.tensor(array, requires_grad=True) for array in arrays]

    def run():
        value, *others = function(*tensors)
        return (*others, *torch.autograd.grad(value, tensors))

    return run


# --- volumes -------------------------------------------------------------------------------------


def determinant_volumes(anchors, *others):
    """√|det G| with a Gram matrix for each anchor·group entry, as GRAM publishes it."""
    import torch

    shape = len(anchors), len(others[0])
    among = [[(p * q).sum(-1).expand(shape) for q in others] for p in others]
    across = [anchors @ other.T for other in others]
    own = (anchors * anchors).sum(-1, keepdim=True).expand(shape)
    rows = [[own, *across], *([a, *row] for a, row in zip(across, among, strict=True))]
    gram = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
    return torch.linalg.det(gram).abs().sqrt()


def written_out_volumes(anchors, first, second):
    """The same for three vectors, with the determinant of order 3 as a polynomial."""
    own, *norms = ((v * v).sum(-1) for v in (anchors, first, second))
    a, b, c = anchors @ first.T, anchors @ second.T, (first * second).sum(-1)
    det = own[:, None] * (norms[0] * norms[1] - c * c)
    return (det + 2 * a * b * c - a**2 * norms[1] - b**2 * norms[0]).clamp(min=1e-12).sqrt()


def volume_matrix(inputs: dict, volumes: Callable) -> Run:
    import torch

    vectors = [torch.tensor(v) for v in inputs["vectors"]]

    def run():
        with torch.no_grad():
            return (volumes(*vectors),)

    return run


def mean_volume_gradients(inputs: dict, volumes: Callable) -> Run:
    return with_gradients(lambda *vectors: (volumes(*vectors).mean(),), inputs["vectors"])


def volume_info_nce(inputs: dict, volumes: Callable) -> Run:
    import torch
    from torch.nn.functional import cross_entropy

    def loss(*vectors):
        logits = -volumes(*vectors) / inputs["temperature"]
        target, smoothing = torch.arange(len(logits)), inputs["label_smoothing"]
        there = cross_entropy(logits, target, label_smoothing=smoothing)
        value = (there + cross_entropy(logits.T, target, label_smoothing=smoothing)) / 2
        return value, value.detach()

    return with_gradients(loss, inputs["vectors"])


# --- InfoNCE -------------------------------------------------------------------------------------


def symmetric_info_nce(inputs: dict) -> Run:
    import torch
    from torch.nn.functional import cross_entropy

    def loss(x, y):
        logits = x @ y.T / inputs["temperature"]
        target = torch.arange(len(logits))
        value = (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2
        return value, value.detach()

    return with_gradients(loss, (inputs["x"], inputs["y"]))


# --- aggregation of a memory ---------------------------------------------------------------------


def dense_aggregate(inputs: dict) -> Run:
    import torch

    def aggregate(queries, memory):
        return torch.softmax(queries @ memory.T / inputs["temperature"], dim=1) @ memory

    return _aggregate(inputs, aggregate)


def attention_aggregate(inputs: dict) -> Run:
    """Attention of one head whose keys and values are the memory."""
    from torch.nn.functional import scaled_dot_product_attention

    def aggregate(queries, memory):
        q, kv = queries[None, None], memory[None, None]
        return scaled_dot_product_attention(q, kv, kv, scale=1 / inputs["temperature"])[0, 0]

    return _aggregate(inputs, aggregate)


def _aggregate(inputs, aggregate):
    import torch

    queries, memory = torch.tensor(inputs["queries"]), torch.tensor(inputs["memory"])

    def run():
        with torch.no_grad():
            return (aggregate(queries, memory),)

    return run


# --- Sinkhorn ------------------------------------------------------------------------------------


def _squared_distances(x, y):
    return (x * x).sum(-1)[:, None] + (y * y).sum(-1)[None, :] - 2 * x @ y.T


def pot_plan(inputs: dict, method: str, numpy: bool = False) -> Run:
    import ot
    import torch

    x, y = (inputs[name] if numpy else torch.tensor(inputs[name]) for name in ("x", "y"))
    a = np.full(len(x), 1 / len(x), np.float32)
    a = a if numpy else torch.tensor(a)
    iterations, epsilon = inputs["iterations"], inputs["epsilon"]

    def run():
        cost = _squared_distances(x, y)
        return (
            ot.sinkhorn(
                a, a, cost, epsilon, method=method, numItermax=iterations, stopThr=0, warn=False
            ),
        )

    return run


def geomloss_plan(inputs: dict) -> Run:
    import torch
    from geomloss import ot

    x, y = torch.tensor(inputs["x"]), torch.tensor(inputs["y"])

    def run():
        cost = _squared_distances(x, y)
        return (ot.solve(cost, reg=inputs["epsilon"], max_iter=inputs["iterations"]).plan,)

    return run


def pot_cost_gradients(inputs: dict) -> Run:
    import ot

    def cost(x, y):
        solution = ot.solve(
            _squared_distances(x, y),
            reg=inputs["epsilon"],
            grad="envelope",
            max_iter=inputs["iterations"],
            tol=0,
        )
        return solution.value, solution.plan.detach()

    return _without_warnings(with_gradients(cost, (inputs["x"], inputs["y"])))


def geomloss_cost_gradients(inputs: dict) -> Run:
    from geomloss import ot

    def cost(x, y):
        solution = ot.solve(
            _squared_distances(x, y), reg=inputs["epsilon"], max_iter=inputs["iterations"]
        )
        return solution.value, solution.plan.detach()

    return _without_warnings(with_gradients(cost, (inputs["x"], inputs["y"])))


def pot_plan_gradients(inputs: dict, method: str) -> Run:
    """Through every iteration, which keeps what each of them computed."""
    import ot
    import torch

    a = torch.full((len(inputs["x"]),), 1 / len(inputs["x"]))
    weights = torch.tensor(inputs["weights"])

    def loss(x, y):
        plan = ot.sinkhorn(
            a,
            a,
            _squared_distances(x, y),
            inputs["epsilon"],
            method=method,
            numItermax=inputs["iterations"],
            stopThr=0,
            warn=False,
        )
        return (plan * weights).sum(), plan.detach()

    return with_gradients(loss, (inputs["x"], inputs["y"]))


def _without_warnings(run: Run) -> Run:
    def quiet():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of no convergence, and of the peer's own making
            return run()

    return quiet


# --- codebook and metrics ------------------------------------------------------------------------


def vector_quantize(inputs: dict) -> Run:
    """Lookup, straight-through, commitment, their gradient, and the EMA update of the codebook."""
    import torch
    from vector_quantize_pytorch import VectorQuantize

    z = torch.tensor(inputs["z"], requires_grad=True)
    weights = torch.tensor(inputs["weights"])
    codes, dim = inputs["codebook"].shape
    layer = VectorQuantize(dim, codes, decay=inputs["decay"], rotation_trick=False)
    codebook = layer._codebook
    codebook.embed.copy_(torch.tensor(inputs["codebook"])[None])
    codebook.embed_avg.copy_(codebook.embed)
    layer.train()

    def run():
        quantized, indices, commitment = layer(z[None])
        value = commitment.sum() + (quantized[0] * weights).mean()
        return indices[0], codebook.embed[0], *torch.autograd.grad(value, [z])

    return run


def scikit_learn_metrics(inputs: dict) -> Run:
    from sklearn.metrics import average_precision_score, roc_auc_score

    known, unknown = inputs["known"], inputs["unknown"]
    labels = np.concatenate([np.ones(len(known)), np.zeros(len(unknown))])

    def run():
        scores = np.concatenate([known, unknown])
        return roc_auc_score(labels, scores), average_precision_score(labels, scores)

    return run


def pytorch_ood_metrics(inputs: dict) -> Run:
    import torch
    from pytorch_ood.metrics.functional import aupr, auroc, oscr_score

    known, unknown = (torch.tensor(inputs[name]) for name in ("known", "unknown"))
    labels = torch.cat([torch.zeros(len(known)), -torch.ones(len(unknown))]).long()
    wrong = torch.cat([torch.tensor(~inputs["correct"]), torch.ones(len(unknown), dtype=bool)])

    def run():
        outlier = -torch.cat([known, unknown])
        return (
            auroc(outlier, labels),
            aupr(outlier, labels, positive="id"),
            oscr_score(outlier, wrong.long(), labels),
        )

    return run
