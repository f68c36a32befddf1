"""Methods: hyper-parameters to modules, loss and readout. One file each, listed here by name."""

from unirep_jax.methods.micu import MICU
from unirep_jax.methods.mover import MOVER

# GRAM and pairwise InfoNCE are MOVER's terms in part: `MOVER.gram()`, `MOVER.pairwise()`.
METHODS = {"micu": MICU, "mover": MOVER, "gram": MOVER, "pairwise": MOVER}

__all__ = ["METHODS", "MICU", "MOVER"]
