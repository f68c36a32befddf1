"""Pure functions of scores and labels; higher score = more known, label −1 = unknown class.

Exact in the presence of ties, in float64; a wrong input raises ValueError naming the culprit.
Nothing here imports Flax or TensorFlow. `metrics.published` has what other evaluators compute.
"""

from unirep_jax.metrics.classification import (
    accuracy,
    class_accuracy_gap,
    confusion_matrix,
    macro_accuracy,
    top_k_accuracy,
)
from unirep_jax.metrics.counterfactual import (
    CounterfactualCurve,
    CounterfactualRecognition,
    counterfactual_curve,
    counterfactual_recognition,
)
from unirep_jax.metrics.fitted_scores import mahalanobis, nearest_neighbour, virtual_logit
from unirep_jax.metrics.known_scores import (
    ash,
    energy,
    evidential_certainty,
    max_expected_probability,
    max_logit,
    max_softmax,
    maximum_concept_matching,
)
from unirep_jax.metrics.localization import (
    BestProposals,
    best_proposals,
    box_consensus_iou,
    box_maps,
    consensus_iou,
    consensus_map,
    localization_auc,
    localization_success,
)
from unirep_jax.metrics.open_set import (
    OpenSetAccuracy,
    ThresholdSweep,
    open_set_accuracy,
    openness,
    threshold_sweep,
)
from unirep_jax.metrics.operating_points import (
    ccr_at_fpr,
    detection_accuracy,
    fit_threshold,
    fpr_at_unknown_tpr,
    tnr_at_known_tpr,
)
from unirep_jax.metrics.ranking import OscrCurve, aupr, auroc, oscr, oscr_curve
from unirep_jax.metrics.retrieval import (
    Ranks,
    average_precision,
    mean_average_precision,
    median_rank,
    recall_at,
    retrieval_ranks,
)
from unirep_jax.metrics.segments import (
    Events,
    SegmentScores,
    active_segments,
    audio_visual_f1,
    event_f1,
    find_events,
    segment_f1,
    with_background,
)

__all__ = [
    "BestProposals",
    "CounterfactualCurve",
    "CounterfactualRecognition",
    "Events",
    "OpenSetAccuracy",
    "OscrCurve",
    "Ranks",
    "SegmentScores",
    "ThresholdSweep",
    "accuracy",
    "active_segments",
    "ash",
    "audio_visual_f1",
    "aupr",
    "auroc",
    "average_precision",
    "best_proposals",
    "box_consensus_iou",
    "box_maps",
    "ccr_at_fpr",
    "class_accuracy_gap",
    "confusion_matrix",
    "consensus_iou",
    "consensus_map",
    "counterfactual_curve",
    "counterfactual_recognition",
    "detection_accuracy",
    "energy",
    "event_f1",
    "evidential_certainty",
    "find_events",
    "fit_threshold",
    "fpr_at_unknown_tpr",
    "localization_auc",
    "localization_success",
    "macro_accuracy",
    "mahalanobis",
    "max_expected_probability",
    "max_logit",
    "max_softmax",
    "maximum_concept_matching",
    "mean_average_precision",
    "median_rank",
    "nearest_neighbour",
    "open_set_accuracy",
    "openness",
    "oscr",
    "oscr_curve",
    "recall_at",
    "retrieval_ranks",
    "segment_f1",
    "threshold_sweep",
    "tnr_at_known_tpr",
    "top_k_accuracy",
    "virtual_logit",
    "with_background",
]
