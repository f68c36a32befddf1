"""Multimodal unified representation learning in JAX."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unirep_jax.model_files import load_run as load_run

__version__ = "0.1.0"
__all__ = ["__version__", "load_run"]


def __getattr__(name: str) -> Any:
    # Imported at first use: whoever wants a loss kernel does not pay for Flax.
    if name == "load_run":
        from unirep_jax.model_files import load_run

        return load_run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
