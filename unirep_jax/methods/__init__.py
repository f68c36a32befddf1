"""Methods: hyper-parameters to modules, loss and readout. One file each, listed here by name."""

from unirep_jax.methods.micu import MICU

METHODS = {"micu": MICU}

__all__ = ["METHODS", "MICU"]
