"""Experiments: what training sees, what is measured, drawn and tabulated. Listed here by name."""

from typing import Any

from unirep_jax.protocols.connection import Connection
from unirep_jax.protocols.cross_modal import ClosedSet, OpenSet
from unirep_jax.protocols.out_of_modal import OutOfModal
from unirep_jax.protocols.recognition import Recognition
from unirep_jax.protocols.retrieval import Retrieval
from unirep_jax.protocols.transfer import Transfer

PROTOCOLS: dict[str, Any] = {
    "oscmg": OpenSet,
    "cmg": ClosedSet,
    "retrieval": Retrieval,
    "mmosr": Recognition,
    "connect": Connection,
    "oom": OutOfModal,
    "transfer": Transfer,
}
