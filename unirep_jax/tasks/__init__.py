"""Tasks: what training sees, what is measured, drawn and tabulated. Listed here by name."""

from unirep_jax.tasks.connect.task import Connection
from unirep_jax.tasks.few_label.task import FewLabel
from unirep_jax.tasks.generalization.task import ClosedSet, OpenSet
from unirep_jax.tasks.matrix import Matrix
from unirep_jax.tasks.mmosr.task import Recognition
from unirep_jax.tasks.noisy_pairs.task import NoisyPairs
from unirep_jax.tasks.oom.known import KnownInformation
from unirep_jax.tasks.oom.task import OutOfModal
from unirep_jax.tasks.retrieval.task import Retrieval
from unirep_jax.tasks.task import Task
from unirep_jax.tasks.transfer.task import Transfer

TASKS: dict[str, type[Task]] = {
    "oscmg": OpenSet,
    "cmg": ClosedSet,
    "retrieval": Retrieval,
    "few_label": FewLabel,
    "matrix": Matrix,
    "mmosr": Recognition,
    "connect": Connection,
    "noisy_pairs": NoisyPairs,
    "oom": OutOfModal,
    "known_information": KnownInformation,
    "transfer": Transfer,
}
