"""Methods: hyper-parameters to modules, loss and readout. One file each, listed here by name."""

from unirep_jax.methods.baselines import CCA, RawFeatures
from unirep_jax.methods.cmcm import CMCM
from unirep_jax.methods.cmcr import CMCR
from unirep_jax.methods.codis import CODIS
from unirep_jax.methods.cox import COX
from unirep_jax.methods.cox_combined import COMBINED
from unirep_jax.methods.dcid import DCID
from unirep_jax.methods.distillation import Distillation
from unirep_jax.methods.method import Method
from unirep_jax.methods.micu import MICU
from unirep_jax.methods.mover import MOVER
from unirep_jax.methods.out_of_modal import BASELINES as UNIMODAL
from unirep_jax.methods.recognition import OpenSetClassifier
from unirep_jax.methods.recognizers import RECOGNIZERS
from unirep_jax.methods.released import Released
from unirep_jax.methods.turn import TURN

# Of out-of-modal generalisation: what COX is compared with.
BASELINES = UNIMODAL | {"distillation": Distillation}
# Several names, one class: GRAM and pairwise InfoNCE are MOVER's terms in part, and MRN and its
# baselines differ in fusion and head. Their settings are `MOVER.gram()`, `RECOGNIZERS["mrn"]`, ...
# MMJP is MICU with another jigsaw, `MICU.mmjp()`.
METHODS: dict[str, type[Method]] = {
    "cca": CCA,
    "raw": RawFeatures,
    "cmcm": CMCM,
    "cmcr": CMCR,
    "codis": CODIS,
    "cox": COX,
    "dcid": DCID,
    **dict.fromkeys(("micu", "mmjp"), MICU),
    **dict.fromkeys(("micu_released", "dcid_released"), Released),
    "turn": TURN,
    **dict.fromkeys(("mover", "gram", "pairwise"), MOVER),
    **COMBINED,
    **BASELINES,
    **dict.fromkeys(RECOGNIZERS, OpenSetClassifier),
}

__all__ = [
    "BASELINES",
    "CCA",
    "CMCM",
    "CMCR",
    "CODIS",
    "COMBINED",
    "COX",
    "DCID",
    "METHODS",
    "MICU",
    "MOVER",
    "RECOGNIZERS",
    "TURN",
    "Method",
    "OpenSetClassifier",
    "RawFeatures",
    "Released",
]
