"""Methods: hyper-parameters to modules, loss and readout. One file each, listed here by name."""

from unirep_jax.methods.cmcr import CMCR
from unirep_jax.methods.micu import MICU
from unirep_jax.methods.mover import MOVER
from unirep_jax.methods.recognition import RECOGNIZERS, OpenSetClassifier

# Several names, one class: GRAM and pairwise InfoNCE are MOVER's terms in part, and MRN and its
# rivals differ in fusion and head. Their settings are `MOVER.gram()`, `RECOGNIZERS["mrn"]`, ...
METHODS = {
    "cmcr": CMCR,
    "micu": MICU,
    **dict.fromkeys(("mover", "gram", "pairwise"), MOVER),
    **dict.fromkeys(RECOGNIZERS, OpenSetClassifier),
}

__all__ = ["CMCR", "METHODS", "MICU", "MOVER", "RECOGNIZERS", "OpenSetClassifier"]
