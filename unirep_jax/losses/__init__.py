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
from unirep_jax.losses.agreement import (
    Agreement,
    Chosen,
    Correspondence,
    agreement,
    most_confident,
    nearest_correspondence,
)
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
    reparameterize,
)
from unirep_jax.losses.jigsaw import jigsaw_loss, permutations_from_ranks, sample_ranks
from unirep_jax.losses.multimarginal import MultimarginalPlan, multimarginal_plan
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
    TransportGroups,
    sample_groups,
    top_groups,
    transport_volume_loss,
)
from unirep_jax.losses.volume import VolumeInfoNCE, gram_volume, volume_info_nce, volume_matrix

__all__ = [  # noqa: RUF022 (in the order and under the headings of docs/losses.md)
    # Contrast
    "info_nce",
    "symmetric_info_nce",
    "fine_coarse_info_nce",
    "FineCoarse",
    "momentum_contrast",
    "enqueue",
    # Vector quantisation
    "nearest_code",
    "straight_through",
    "commitment_loss",
    "ema_codebook_update",
    "CodebookState",
    "restart_dead_codes",
    "perplexity",
    # Jigsaw
    "jigsaw_loss",
    "sample_ranks",
    "permutations_from_ranks",
    # Volumes
    "gram_volume",
    "volume_matrix",
    "volume_info_nce",
    "VolumeInfoNCE",
    # Transport
    "sinkhorn_plan",
    "SinkhornPlan",
    "transport_volume_loss",
    "multimarginal_plan",
    "MultimarginalPlan",
    "top_groups",
    "sample_groups",
    "TransportGroups",
    # Memories
    "soft_aggregate",
    "argmax_aggregate",
    "random_aggregate",
    "mix_items",
    "Mixture",
    "pair_distance",
    # Codes and information
    "code_matching_loss",
    "code_prediction_loss",
    "log_code_distribution",
    "club_upper_bound",
    "gaussian_log_likelihood",
    "cross_predictive_coding",
    # Experts
    "noisy_top_k_gates",
    "top_k_gates",
    "Gates",
    "load_balance_loss",
    # Open-set heads
    "arpl_logits",
    "arpl_loss",
    "rpl_logits",
    "rpl_loss",
    "gcpl_logits",
    "gcpl_loss",
    "reciprocal_entropy",
    "open_auc_loss",
    "OpenAucLoss",
    "mix_classes",
    "MixedFeatures",
    "class_autoencoder_logits",
    "class_autoencoder_score",
    "averaged_softmax",
    "averaged_softmax_loss",
    # Late fusion
    "opinion",
    "Opinion",
    "combine_opinions",
    "evidential_loss",
    "fuse_by_certainty",
    "CertaintyFusion",
    "project_gradient",
    "update_projector",
    # Out-of-modal generalisation
    "agreement",
    "Agreement",
    "most_confident",
    "Chosen",
    "nearest_correspondence",
    "Correspondence",
    "maximum_mean_discrepancy",
    "candidate_pairs",
    "nearest_pairs",
    "anchor_divergence",
    "marginal_divergence",
    "reparameterize",
    # Semi-supervised learning
    "pseudo_labels",
    "PseudoLabels",
    "pseudo_label_loss",
    "AdaptiveThresholds",
    "update_thresholds",
    "fairness",
    "entropy",
    "sharpen",
    "target_divergence",
    # Building blocks
    "cross_entropy",
    "masked_mean",
    "unit",
]
