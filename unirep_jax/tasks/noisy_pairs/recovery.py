"""How much of the truth about mispaired examples a plan between their embeddings knows."""

import itertools
from collections.abc import Iterator, Mapping

import numpy as np
from jaxtyping import Float, Int

from unirep_jax import losses
from unirep_jax.data.correspondence_noise import Mispaired
from unirep_jax.tasks.representation import Row

EXAMPLES, MOST = 64, 2048  # of a plan, where small blocks are joined; at most


def recovery(
    vectors: Mapping[str, Float[np.ndarray, "example dim"]],
    mispaired: Mispaired,
    near: Int[np.ndarray, "block row"],
    *,
    epsilon: float,
) -> Iterator[Row]:
    """Where the mass of plans between two modalities lies, for every pair of them.

    Args:
      vectors: unit vectors of the examples as they truly are.
      mispaired: which example stands in each row.
      near: rows between which a plan is made, a block at a time; small blocks are joined.
      epsilon: ε of the plans.

    Yields:
      The fields of a Measurement, chance (an even plan) beside: `mass_on_given`, the share of the
      mass on rows as they are paired; `mass_on_truth`, on what is of the same example; and
      `recovered`, the latter of the rows alone whose partner stands elsewhere, where there are any.
    """
    joined = max(1, EXAMPLES // near.shape[1])
    parts = [near[i : i + joined].reshape(-1)[:MOST] for i in range(0, len(near), joined)]
    for a, b in itertools.combinations(vectors, 2):
        found = [_masses(vectors, mispaired, rows, (a, b), epsilon) for rows in parts]
        total, even = (np.sum([f[i] for f in found], axis=0) for i in (0, 1))
        names = ("mass_on_given", "mass_on_truth", "recovered")
        for name, mass, chance in zip(names, total, even, strict=True):
            if mass[1] > 0:
                yield {
                    "source": a,
                    "target": b,
                    "metric": name,
                    "value": float(mass[0] / mass[1]),
                    "chance": float(chance[0] / chance[1]),
                    "num_examples": int(near.size),
                }


def _masses(vectors, mispaired: Mispaired, rows, pair: tuple[str, str], epsilon: float):
    """Of the plan and of an even one: mass on given pairs, true ones, recovered ones; and of all.

    Each [3, 2]. Of the third, the rows whose true partner is here, but in another row.
    """
    sources = [mispaired.source[m][rows] for m in pair]
    here = [mispaired.data.present[m][rows] for m in pair]
    x, y = (np.asarray(vectors[m])[s] for m, s in zip(pair, sources, strict=True))
    plan = losses.sinkhorn_plan(x, y, epsilon=epsilon, marginals=tuple(here)).plan
    plan = np.asarray(plan, np.float64)
    both = here[0][:, None] & here[1][None, :]
    truth = (sources[0][:, None] == sources[1][None, :]) & both
    given = np.eye(len(rows), dtype=bool) & both
    apart = truth.any(1) & ~np.diagonal(truth)

    def shares(p):
        return np.array(
            [
                [p[given].sum(), p.sum()],
                [p[truth].sum(), p.sum()],
                [p[truth & apart[:, None]].sum(), p[apart].sum()],
            ]
        )

    return shares(plan), shares(both / max(both.sum(), 1))
