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
from unirep_jax.losses.symmetric import symmetric_info_nce
from unirep_jax.losses.transport import SinkhornPlan, sinkhorn_plan
from unirep_jax.losses.transport_volume import (
    MultimarginalPlan,
    TransportGroups,
    multimarginal_plan,
    sample_groups,
    top_groups,
    transport_volume_loss,
)
from unirep_jax.losses.volume import VolumeInfoNCE, gram_volume, volume_info_nce, volume_matrix

__all__ = [
    "CodebookState",
    "FineCoarse",
    "MultimarginalPlan",
    "SinkhornPlan",
    "TransportGroups",
    "VolumeInfoNCE",
    "commitment_loss",
    "ema_codebook_update",
    "fine_coarse_info_nce",
    "gram_volume",
    "info_nce",
    "jigsaw_loss",
    "masked_mean",
    "multimarginal_plan",
    "nearest_code",
    "permutations_from_ranks",
    "perplexity",
    "restart_dead_codes",
    "sample_groups",
    "sample_ranks",
    "sinkhorn_plan",
    "straight_through",
    "symmetric_info_nce",
    "top_groups",
    "transport_volume_loss",
    "unit",
    "volume_info_nce",
    "volume_matrix",
]
