"""Pure loss kernels: arrays in, arrays out.

Every kernel returns one value per example in float32 or wider, checks its shapes while tracing,
is jitted, and states its degenerate cases. Nothing here imports Flax or TensorFlow.
"""

from unirep_jax.losses._kernel import cross_entropy, masked_mean, unit
from unirep_jax.losses.aggregation import (
    Mixture,
    argmax_aggregate,
    mix_items,
    random_aggregate,
    soft_aggregate,
)
from unirep_jax.losses.agreement import Agreement, Chosen, agreement, most_confident
from unirep_jax.losses.alignment import pair_distance
from unirep_jax.losses.alternating import (
    CertaintyFusion,
    fuse_by_certainty,
    project_gradient,
    update_projector,
)
from unirep_jax.losses.class_autoencoders import (
    averaged_softmax,
    averaged_softmax_loss,
    class_autoencoder_logits,
    class_autoencoder_score,
)
from unirep_jax.losses.code_matching import (
    code_matching_loss,
    code_prediction_loss,
    log_code_distribution,
)
from unirep_jax.losses.consistency import (
    AdaptiveThresholds,
    PseudoLabels,
    enqueue,
    entropy,
    fairness,
    momentum_contrast,
    pseudo_label_loss,
    pseudo_labels,
    sharpen,
    target_divergence,
    update_thresholds,
)
from unirep_jax.losses.contrastive import FineCoarse, fine_coarse_info_nce, info_nce
from unirep_jax.losses.correspondence import Correspondence, nearest_correspondence
from unirep_jax.losses.discrepancy import maximum_mean_discrepancy
from unirep_jax.losses.evidential import (
    Opinion,
    combine_opinions,
    evidential_loss,
    opinion,
)
from unirep_jax.losses.experts import Gates, load_balance_loss, noisy_top_k_gates, top_k_gates
from unirep_jax.losses.exploration import (
    anchor_divergence,
    candidate_pairs,
    marginal_divergence,
    nearest_pairs,
)
from unirep_jax.losses.information import (
    club_upper_bound,
    cross_predictive_coding,
    gaussian_log_likelihood,
)
from unirep_jax.losses.jigsaw import jigsaw_loss, permutations_from_ranks, sample_ranks
from unirep_jax.losses.open_auc import MixedFeatures, OpenAucLoss, mix_classes, open_auc_loss
from unirep_jax.losses.prototypes import (
    arpl_logits,
    arpl_loss,
    gcpl_logits,
    gcpl_loss,
    reciprocal_entropy,
    rpl_logits,
    rpl_loss,
)
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
from unirep_jax.losses.variational import reparameterize
from unirep_jax.losses.volume import VolumeInfoNCE, gram_volume, volume_info_nce, volume_matrix

__all__ = [
    "AdaptiveThresholds",
    "Agreement",
    "CertaintyFusion",
    "Chosen",
    "CodebookState",
    "Correspondence",
    "FineCoarse",
    "Gates",
    "MixedFeatures",
    "Mixture",
    "MultimarginalPlan",
    "OpenAucLoss",
    "Opinion",
    "PseudoLabels",
    "SinkhornPlan",
    "TransportGroups",
    "VolumeInfoNCE",
    "agreement",
    "anchor_divergence",
    "argmax_aggregate",
    "arpl_logits",
    "arpl_loss",
    "averaged_softmax",
    "averaged_softmax_loss",
    "candidate_pairs",
    "class_autoencoder_logits",
    "class_autoencoder_score",
    "club_upper_bound",
    "code_matching_loss",
    "code_prediction_loss",
    "combine_opinions",
    "commitment_loss",
    "cross_entropy",
    "cross_predictive_coding",
    "ema_codebook_update",
    "enqueue",
    "entropy",
    "evidential_loss",
    "fairness",
    "fine_coarse_info_nce",
    "fuse_by_certainty",
    "gaussian_log_likelihood",
    "gcpl_logits",
    "gcpl_loss",
    "gram_volume",
    "info_nce",
    "jigsaw_loss",
    "load_balance_loss",
    "log_code_distribution",
    "marginal_divergence",
    "masked_mean",
    "maximum_mean_discrepancy",
    "mix_classes",
    "mix_items",
    "momentum_contrast",
    "most_confident",
    "multimarginal_plan",
    "nearest_code",
    "nearest_correspondence",
    "nearest_pairs",
    "noisy_top_k_gates",
    "open_auc_loss",
    "opinion",
    "pair_distance",
    "permutations_from_ranks",
    "perplexity",
    "project_gradient",
    "pseudo_label_loss",
    "pseudo_labels",
    "random_aggregate",
    "reciprocal_entropy",
    "reparameterize",
    "restart_dead_codes",
    "rpl_logits",
    "rpl_loss",
    "sample_groups",
    "sample_ranks",
    "sharpen",
    "sinkhorn_plan",
    "soft_aggregate",
    "straight_through",
    "symmetric_info_nce",
    "target_divergence",
    "top_groups",
    "top_k_gates",
    "transport_volume_loss",
    "unit",
    "update_projector",
    "update_thresholds",
    "volume_info_nce",
    "volume_matrix",
]
