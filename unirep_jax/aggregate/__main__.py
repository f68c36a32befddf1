"""Command line: python -m unirep_jax.aggregate --queries=A --memory=B --out=C [--temperature=τ].

Computes for every query what the memory holds that is like it (C-MCR, eq. 2), as a bank. The same
command continues an interrupted job; docs/banks.md says more.
"""

from pathlib import Path

from unirep_jax.train import signals

if __name__ == "__main__":
    signals.end_at_once()  # first: importing takes seconds

from absl import flags

from unirep_jax import command_line

_QUERIES = flags.DEFINE_string("queries", None, "Bank of unit vectors.")
_MEMORY = flags.DEFINE_string("memory", None, "Bank of unit vectors, in the space of the queries.")
_OUT = flags.DEFINE_string("out", None, "The .npy file of the bank that is made.")
_CONSISTENCY = flags.DEFINE_enum(
    "consistency",
    "softmax",
    ["softmax", "argmax", "random"],
    "Eq. 2, the most similar item, or any item.",
)
_TEMPERATURE = flags.DEFINE_float("temperature", 0.01, "Of softmax.")
_SEED = flags.DEFINE_integer("seed", 0, "Of random.")
_SHARD_ROWS = flags.DEFINE_integer(
    "shard_rows", 65536, "Queries of a shard, which is what an interruption loses at most."
)
_MEMORY_ROWS = flags.DEFINE_integer(
    "memory_rows", 0, "Items on a device at a time; 0 takes as many as fit."
)
_MEMORY_BLOCK = flags.DEFINE_integer("memory_block", 2048, "Items handled at a time.")
_PROCESS_INDEX = flags.DEFINE_integer("process_index", 0, "Which of several processes this is.")
_PROCESS_COUNT = flags.DEFINE_integer("process_count", 1, "How many processes share the shards.")
_ESTIMATE_ONLY = flags.DEFINE_bool("estimate_only", False, "Print sizes and time; compute nothing.")


def main(_: list[str]) -> None:
    # After the flags are read, so that --help and a mistyped flag answer at once.
    from unirep_jax.aggregate.job import Job, run

    # A FeatureFileError is a ValueError.
    with command_line.answering((ValueError, OSError)):
        job = Job(
            queries=Path(_QUERIES.value),
            memory=Path(_MEMORY.value),
            out=Path(_OUT.value),
            consistency=_CONSISTENCY.value,
            temperature=_TEMPERATURE.value,
            seed=_SEED.value,
            shard_rows=_SHARD_ROWS.value,
            memory_rows=_MEMORY_ROWS.value,
            memory_block=_MEMORY_BLOCK.value,
            process_index=_PROCESS_INDEX.value,
            process_count=_PROCESS_COUNT.value,
        )
        run(job, estimate_only=_ESTIMATE_ONLY.value)


if __name__ == "__main__":
    flags.mark_flags_as_required(["queries", "memory", "out"])
    command_line.start(main)
