"""What is compared: pairs of one of our sides and a peer's, how far apart they may be, targets."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import ours
import peers
from peers import Run

SIZES = (256, 1024, 4096)
CACHE = 2**25  # bytes; a matrix no larger is not read from memory in every iteration


class Pair(NamedTuple):
    """Our side against one peer's.

    needs: the package without which the peer is absent; ours: call made from the inputs and what
    the peer gave (None where it did not run); theirs: call made from the inputs; compare: numbers
    that say how far the outputs of both are apart, "difference" being held against `tolerance`;
    target: the least ratio of the peer's time to ours, of a size.
    """

    peer: str
    needs: str
    ours: Callable[[dict, tuple | None], Run]
    theirs: Callable[[dict], Run]
    compare: Callable[[tuple, tuple], dict]
    tolerance: float
    target: Callable[[int], float] = lambda size: 1


class Case(NamedTuple):
    """Pairs on the same inputs.

    work: of a size, the operations in matrix products and the bytes read that no method avoids;
    bound: what keeps our side from being faster; memory_target: how many times less memory than
    the peer's ours should take, of a size; light: inputs for less time and as much memory.
    """

    title: str
    sizes: tuple[int, ...]
    inputs: Callable[[int], dict]
    pairs: tuple[Pair, ...]
    work: Callable[[int], tuple[float, float]]
    bound: str
    memory_target: Callable[[int], float | None] = lambda size: None
    light: tuple[tuple[str, int], ...] = ()


def largest_difference(ours: tuple, theirs: tuple) -> dict:
    """Of any entry of any output, relative to the largest entry of that output."""
    apart = []
    for a, b in zip(ours, theirs, strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        apart.append(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30))
    return {"difference": float(max(apart))}


def transport_difference(our_side: tuple, theirs: tuple) -> dict:
    """1 − cosine of the plans, and of the gradients; and the marginal errors of both plans."""
    apart = []
    for a, b in zip(our_side, theirs, strict=True):
        a, b = (np.asarray(v, np.float64).ravel() for v in (a, b))
        apart.append(1 - a @ b / np.sqrt((a @ a) * (b @ b)))
    return {
        "difference": float(max(apart)),
        "our_marginal_error": ours.marginal_error(our_side[0]),
        "peer_marginal_error": ours.marginal_error(theirs[0]),
    }


def _published_and_written_out(our_side, theirs, target) -> tuple[Pair, Pair]:
    compare = {"needs": "torch", "ours": our_side, "compare": largest_difference, "tolerance": 1e-4}
    determinants = partial(theirs, volumes=peers.determinant_volumes)
    polynomial = partial(theirs, volumes=peers.written_out_volumes)
    return (
        Pair("PyTorch, det as published", theirs=determinants, target=target, **compare),
        Pair("PyTorch, det written out", theirs=polynomial, **compare),
    )


def _transport(peer, needs, our_side, theirs, target) -> Pair:
    return Pair(peer, needs, our_side, theirs, transport_difference, 1e-3, lambda size: target)


def _log_domain(peer, needs, our_side, theirs) -> Pair:
    return _transport(f"{peer}, log domain", needs, our_side, theirs, 3)


def _kernel_domain(peer, needs, our_side, theirs) -> Pair:
    return _transport(f"{peer}, kernel domain", needs, our_side, theirs, 1)


def _aggregate(peer, theirs) -> Pair:
    return Pair(peer, "torch", ours.aggregate, theirs, largest_difference, 1e-4)


def _products(count):
    return lambda size: (count * 2.0 * size * size * ours.DIM, 0.0)


def _iterations(count):
    """The cost once, and one reading of the matrix in each iteration, unless it is in the cache."""

    def work(size):
        matrix = 4.0 * size * size
        return 2.0 * size * size * ours.DIM, count * matrix if matrix > CACHE else 0.0

    return work


POT_LOG = partial(peers.pot_plan, method="sinkhorn_log")
POT_KERNEL = partial(peers.pot_plan, method="sinkhorn")
READING = "reading the plan twice in each iteration, from memory where the cache does not hold it."
PRODUCTS = "the matrix products, of which there are as many on both sides."

CASES = {
    "volume": Case(
        "Volume matrix, k = 3, forward",
        SIZES,
        ours.volume_inputs,
        _published_and_written_out(ours.volumes, peers.volume_matrix, lambda size: 10),
        _products(2),
        PRODUCTS,
    ),
    "volume_gradient": Case(
        "Mean of the volume matrix, k = 3, forward + backward",
        SIZES,
        ours.volume_inputs,
        _published_and_written_out(
            ours.mean_volume_gradients, peers.mean_volume_gradients, lambda size: 10
        ),
        _products(6),
        PRODUCTS,
    ),
    "volume_info_nce": Case(
        "Volume InfoNCE, both directions, k = 3, forward + backward",
        SIZES,
        ours.volume_inputs,
        _published_and_written_out(ours.volume_loss, peers.volume_info_nce, lambda size: 1),
        _products(6),
        "the matrix products, with those of the forward pass made twice in exchange for memory.",
    ),
    "sinkhorn": Case(
        "Sinkhorn plan, ε = 0.05, forward, to the error that 100 iterations of the peer reach",
        SIZES,
        ours.transport_inputs,
        (
            _log_domain("POT (PyTorch)", "ot", ours.plan, POT_LOG),
            _log_domain("geomloss", "geomloss", ours.plan, peers.geomloss_plan),
            _log_domain("POT (PyTorch), 100 iterations each", "ot", ours.fixed_plan, POT_LOG),
            _kernel_domain("POT (PyTorch)", "ot", ours.plan, POT_KERNEL),
            _kernel_domain("POT (NumPy)", "ot", ours.plan, partial(POT_KERNEL, numpy=True)),
        ),
        _iterations(100),
        READING,
        light=(("iterations", 3),),
    ),
    "sinkhorn_cost_gradient": Case(
        "Gradient of the entropic transport cost, ε = 0.05, forward + backward, the same errors",
        SIZES,
        ours.transport_inputs,
        (
            _log_domain("POT, envelope", "ot", ours.cost_gradients, peers.pot_cost_gradients),
            _log_domain("geomloss", "geomloss", ours.cost_gradients, peers.geomloss_cost_gradients),
        ),
        _iterations(100),
        READING,
        light=(("iterations", 3),),
    ),
    "sinkhorn_plan_gradient": Case(
        "Gradient of ⟨plan, W⟩, ε = 0.05, forward + backward, to the error of 30 iterations",
        SIZES,
        ours.converging_inputs,
        (
            _log_domain(
                "POT, autodiff",
                "ot",
                ours.plan_gradients,
                partial(peers.pot_plan_gradients, method="sinkhorn_log"),
            ),
            _kernel_domain(
                "POT, autodiff",
                "ot",
                ours.plan_gradients,
                partial(peers.pot_plan_gradients, method="sinkhorn"),
            ),
        ),
        _iterations(30),
        "reading the plan, and in the conjugate gradients as often again.",
    ),
    "info_nce": Case(
        "Symmetric InfoNCE, τ = 0.01, forward + backward",
        (*SIZES, 10240),
        ours.pair_inputs,
        (
            Pair(
                "PyTorch, dense",
                "torch",
                ours.info_nce,
                peers.symmetric_info_nce,
                largest_difference,
                1e-3,
                lambda size: 1.3 if size >= 10240 else 1,
            ),
        ),
        _products(3),
        "the matrix products, with that of the forward pass made twice in exchange for memory.",
        memory_target=lambda size: 4 if size >= 10240 else None,
    ),
    "soft_aggregate": Case(
        f"Aggregation of a memory of B items for {ours.QUERIES} queries, τ = 0.01, forward",
        (10_000, 100_000),
        ours.memory_inputs,
        (
            _aggregate("PyTorch, dense", peers.dense_aggregate),
            _aggregate("PyTorch, scaled_dot_product_attention", peers.attention_aggregate),
        ),
        lambda size: (4.0 * ours.QUERIES * size * ours.DIM, 0.0),
        PRODUCTS,
    ),
    "codebook": Case(
        f"Codebook of {ours.CODES}: lookup, straight-through, commitment, backward, EMA update",
        SIZES,
        ours.codebook_inputs,
        (
            Pair(
                "vector-quantize-pytorch",
                "vector_quantize_pytorch",
                ours.quantize,
                peers.vector_quantize,
                largest_difference,
                1e-4,
            ),
        ),
        lambda size: (2.0 * size * ours.CODES * ours.DIM, 0.0),
        "the lookup's matrix product, and sums over the features of each code.",
    ),
    "metrics": Case(
        "AUROC and AUPR (scikit-learn), with OSCR (pytorch-ood)",
        (*SIZES, 100_000),
        ours.score_inputs,
        (
            Pair(
                "scikit-learn",
                "sklearn",
                ours.auroc_and_aupr,
                peers.scikit_learn_metrics,
                largest_difference,
                1e-9,
            ),
            Pair(
                "pytorch-ood",
                "pytorch_ood",
                ours.open_set_metrics,
                peers.pytorch_ood_metrics,
                largest_difference,
                1e-9,
            ),
        ),
        lambda size: (0.0, 0.0),
        "sorting the scores, in float64.",
    ),
}
