"""Table 2 of Huang et al., ICCV 2025: MICU and its baselines on one data set, 95 % intervals.

    python -m unirep_jax.sweep --config=configs/oscmg.py:utd_mhad --config.data.path=utd_mhad.npz \\
      --variants=configs/tables/oscmg.py:table2 --seeds=5 --workdir=runs/table2

One command for all methods and seeds; the same one continues it where it was interrupted, and
writes runs/table2/results.md in the layout of the table. `table3` has the same rows for
configs/cmg.py. All have the encoders, augmentation, optimiser and number of steps of MICU; the
probe never sees which method it evaluates. The untrained control is MICU's network.

Table 2 is of AVE, UCF and UCF ↔ VGG; its rows of CODIS, TURN and CMCM are no single runs on the
splits published, so only MICU's and DCID's are comparable with a run of one seed.

`combinations:video,audio,flow` has MICU trained and evaluated on these three modalities, and on
each two of them: the combinations of Table 6, of which the paper does not say whether a codebook is
of a pair or of all three. Any other modalities can be named (docs/features.md adds flow). The
baselines in Table 6 are the rows of `table2` with --config.data.flow or --config.data.modalities.
"""

import dataclasses
import runpy
from itertools import combinations
from pathlib import Path

TITLES = {
    "MICU": "micu", "DCID": "dcid", "CMCM": "cmcm", "TURN": "turn", "CODIS": "codis",
    "MMJP6": "mmjp",
}  # fmt: skip
METHODS = runpy.run_path(str(Path(__file__).parents[1] / "oscmg.py"))["METHODS"]
TABLES = ("table2", "table3")


def get_variants(name: str) -> dict[str, dict]:
    """Rows of a table, for `python -m unirep_jax.sweep --variants=configs/tables/oscmg.py:NAME`."""
    table, _, modalities = name.partition(":")
    if table == "combinations" and "," in modalities:
        return _combinations(modalities.split(","))
    if name not in TABLES:
        names = ", ".join((*TABLES, "combinations:MODALITY,MODALITY,..."))
        raise ValueError(f"{name!r} is none of {names}")
    return {
        title: {"method": {"name": method, **dataclasses.asdict(METHODS[method]["default"])}}
        for title, method in TITLES.items()
    }


def _combinations(modalities: list[str]) -> dict[str, dict]:
    """All of them first, whose untrained control then has every pair; then ever fewer."""
    chosen = [c for size in range(len(modalities), 1, -1) for c in combinations(modalities, size)]
    return {"+".join(names): {"data.modalities": names} for names in chosen}
