"""Methods: hyper-parameters to modules, loss and readout. One file each, listed here by name."""

from unirep_jax.methods.baselines import CCA, RawFeatures
from unirep_jax.methods.cmcm import CMCM
from unirep_jax.methods.cmcr import CMCR
from unirep_jax.methods.codis import CODIS
from unirep_jax.methods.cox import COX
from unirep_jax.methods.dcid import DCID
from unirep_jax.methods.method import Method
from unirep_jax.methods.micu import MICU
from unirep_jax.methods.mover import MOVER
from unirep_jax.methods.out_of_modal import BASELINES
from unirep_jax.methods.recognition import RECOGNIZERS, OpenSetClassifier
from unirep_jax.methods.released import Released
from unirep_jax.methods.turn import TURN

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
    **BASELINES,  # of out-of-modal generalisation
    **dict.fromkeys(RECOGNIZERS, OpenSetClassifier),
}

__all__ = [
    "BASELINES",
    "CCA",
    "CMCM",
    "CMCR",
    "CODIS",
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
