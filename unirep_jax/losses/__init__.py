"""Pure loss kernels: arrays in, arrays out.

Every kernel returns one value per example in float32 or wider, checks its shapes while tracing,
is jitted, and states its degenerate cases. Nothing here imports Flax or TensorFlow.
"""

from unirep_jax.losses._kernel import masked_mean, unit
from unirep_jax.losses.contrastive import FineCoarse, fine_coarse_info_nce, info_nce
from unirep_jax.losses.jigsaw import jigsaw_loss, permutations_from_ranks, sample_ranks
from unirep_jax.losses.quantization import (
    CodebookState,
    commitment_loss,
    ema_codebook_update,
    nearest_code,
    perplexity,
    restart_dead_codes,
    straight_through,
)

__all__ = [
    "CodebookState",
    "FineCoarse",
    "commitment_loss",
    "ema_codebook_update",
    "fine_coarse_info_nce",
    "info_nce",
    "jigsaw_loss",
    "masked_mean",
    "nearest_code",
    "permutations_from_ranks",
    "perplexity",
    "restart_dead_codes",
    "sample_ranks",
    "straight_through",
    "unit",
]
