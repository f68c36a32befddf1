"""Tables 2 to 9 and Figures 3 to 6 of Huang et al., ICCV 2025, a command for each.

    python -m unirep_jax.sweep --config=configs/oscmg.py:utd_mhad --config.data.path=utd_mhad.npz \\
      --variants=configs/tables/oscmg.py:table2 --seeds=5 --workdir=runs/table2

One command for all rows and seeds; the same one continues it where it was interrupted, and
writes runs/table2/results.md in the layout of the table. NAME and the configuration that it varies:

    table2            all methods, open set                  oscmg or transfer
    table3            all methods, closed set                cmg or transfer
    table4            all methods, zero-shot retrieval       transfer, task.sets of MSVD and Clotho
    table5            all methods; data.path is a folder of features of other backbones, whose
                      shapes every method takes              oscmg or transfer
    table6:V,A,F      MICU on these modalities, and on each two of them; oscmg or transfer
    table7, table8    each of L_fine, L_coarse, L_cujp on and off; oscmg, cmg or transfer
    table9            parameters, arithmetic, memory, time: with --costs, which trains nothing
    figure3           no jigsaw, MMJP6, CUJP2, CUJP4, CUJP8
    figure4           what is masked, shared by the modalities or drawn for each
    figure5           256 to 1024 codes
    benchmark         no table of the paper: MICU and two baselines, InfoNCE with and without codes
    figure6           DCID and MICU; each run draws figures/codebook_usage*.png

Rows have the presets of the configuration that they vary: the paper's under configs/transfer.py,
elsewhere those found on small data. MICU has another row, what its authors' code optimises, with
the optimiser that belongs to it. `table2:paper`, `table2:official` and `table2:default` name the
preset of all rows, optimiser included; a method without it has the one nearest to it.

Others have the encoders, augmentation, optimiser and number of steps of MICU; the probe never sees
which method it evaluates. The untrained control is MICU's network. Table 2 is of AVE, UCF and
UCF ↔ VGG; its rows of CODIS, TURN and CMCM are no single runs on the splits published, so only
MICU's and DCID's are comparable with a run of one seed. Of Table 6 the paper does not say whether
a codebook is of a pair or of all three; its baselines are the rows of `table2` with
--config.data.flow or --config.data.modalities (docs/features.md adds flow).
"""

import dataclasses
import runpy
from collections.abc import Callable
from functools import partial
from itertools import combinations
from pathlib import Path

from ml_collections import ConfigDict

TITLES = {
    "MICU": "micu",
    "DCID": "dcid",
    "CMCM": "cmcm",
    "TURN": "turn",
    "CODIS": "codis",
    "MMJP6": "mmjp",
}
CONFIGS = Path(__file__).parents[1]
SHARED = runpy.run_path(str(CONFIGS / "methods.py"))
METHODS, PRESETS = SHARED["METHODS"], SHARED["PRESETS"]
ABLATIONS = runpy.run_path(str(CONFIGS / "ablations.py"))["VARIANTS"]
NEAREST = {"official": ("official", "paper"), "paper": ("paper",), "default": ("default",)}
METHOD_TABLES = {
    **dict.fromkeys(("table2", "table3", "table4", "table5"), TITLES),
    "table9": TITLES,
    "figure6": {"DCID": "dcid", "MICU": "micu"},
}
ABLATION_TABLES = {
    "table7": "losses",
    "table8": "losses",
    "figure3": "jigsaw",
    "figure4": "mask",
    "figure5": "codebook",
}
TABLES = (*METHOD_TABLES, *ABLATION_TABLES)
TRANSFER = "transfer"  # the experiment that is on the features of the papers

CODES_ALONE = {"weight_fine": 0.0, "weight_jigsaw": 0.0}  # of MICU: InfoNCE + VQ

Row = dict | Callable[[ConfigDict], dict]  # settings, or what makes them of the configuration


def get_variants(name: str) -> dict[str, Row]:
    """Rows of a table, for `python -m unirep_jax.sweep --variants=configs/tables/oscmg.py:NAME`."""
    table, _, rest = name.partition(":")
    if table in ("table6", "combinations") and "," in rest:
        return _combinations(rest.split(","))
    if table in METHOD_TABLES and rest in ("", *PRESETS):
        return _methods(METHOD_TABLES[table], rest) | (_jigsaws() if table == "table9" else {})
    if name == "benchmark":
        return _benchmark()
    if name in ABLATION_TABLES:
        return dict(ABLATIONS[ABLATION_TABLES[name]])
    names = ", ".join((*TABLES, "benchmark", "table6:MODALITY,MODALITY,..."))
    raise ValueError(f"{name!r} is none of {names}; presets after a colon: {', '.join(PRESETS)}")


def _methods(titles: dict[str, str], preset: str) -> dict[str, Row]:
    rows: dict[str, Row] = {title: partial(_row, m, preset) for title, m in titles.items()}
    if not preset and "MMJP6" in titles:
        rows["MICU, the authors' code"] = partial(_row, "micu", "official")
    return rows


def _row(method: str, preset: str, config: ConfigDict, **changes: float) -> dict:
    """The section `method`; with another preset than the configuration has, its training too."""
    own = "paper" if config.experiment == TRANSFER else "default"
    wanted = NEAREST[preset or own]
    chosen = next(p for p in (*wanted, "default") if p in METHODS[method])
    searched = SHARED["SPACES"]["METHODS"].get(method, {})  # what --config.search may vary
    settings = {
        "method": {"name": method, **dataclasses.asdict(METHODS[method][chosen]), **changes},
        "space": config.space.to_dict() | {"method": searched},
    }
    if preset in ("", own):
        return settings
    training = SHARED["training"](method, preset)
    return settings | {f"train.{name}": value for name, value in training.items()}


def _benchmark() -> dict[str, Row]:
    """Whether MICU's terms are worth more than a contrast, and whether codes are."""
    rows = {"MICU": "micu", "DCID": "dcid", "CMCM": "cmcm", "InfoNCE": "pairwise"}
    return _methods(rows, "default") | {
        "InfoNCE + VQ": partial(_row, "micu", "default", **CODES_ALONE)
    }


def _jigsaws() -> dict[str, Row]:
    """Rows of Table 9 beside those of the methods."""
    return {title: ABLATIONS["jigsaw"][title] for title in ("CUJP2", "CUJP4", "CUJP8")}


def _combinations(modalities: list[str]) -> dict[str, Row]:
    """All of them first, whose untrained control then has every pair; then ever fewer."""
    chosen = [c for size in range(len(modalities), 1, -1) for c in combinations(modalities, size)]
    return {"+".join(names): {"data.modalities": names} for names in chosen}
