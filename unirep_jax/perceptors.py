"""Frozen perceptors made here: contrastive towers of some modalities, trained on some examples.

C-MCR starts from CLIP and CLAP, COX from ImageBind; without their weights, small ones stand for
them. A perceptor sees only the modalities and the examples it is given.
"""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from ml_collections import ConfigDict

from unirep_jax.data import FeatureSet
from unirep_jax.data.features import Archive
from unirep_jax.data.fingerprint import fingerprint
from unirep_jax.data.mapped import replace_file
from unirep_jax.data.resident import Pool
from unirep_jax.evaluation.embedding import embed_examples
from unirep_jax.identity import resolved
from unirep_jax.methods import MOVER
from unirep_jax.train.fit import fit, prepare
from unirep_jax.train.processes import is_first, wait_for_all


def perceive(
    data: FeatureSet,
    modalities: Sequence[str],
    rows: Bool[np.ndarray, "example"],
    *,
    settings: ConfigDict,
    folder: Path,
    seed: int,
) -> dict[str, Float[np.ndarray, "example dim"]]:
    """Unit vectors of every example in each of the modalities.

    They come from towers trained by InfoNCE between all pairs of the modalities. What has been
    perceived before with the same settings, data and seed is read from `folder`, so that the runs
    of a sweep share their perceptors.

    Args:
      data: raw features.
      modalities: two or more.
      rows: the examples to train on.
      settings: `method` (of `MOVER`), `steps`, `batch_size`, `parallel` and `train`.
      folder: gets a folder for each perceptor.
      seed: of the towers and of the order of the batches.

    Raises:
      ValueError: a setting is not possible for these data, or what was perceived is damaged.
    """
    folder = folder / _name(data, modalities, rows, settings, seed)
    found = folder / "embeddings.npz"
    if not found.exists():
        part = dataclasses.replace(
            data,
            features={m: data.features[m] for m in modalities},
            present={m: data.present[m] for m in modalities},
            train=rows,
        )
        pool = Pool(np.flatnonzero(rows), min(settings.batch_size, int(rows.sum())), (*modalities,))
        method = MOVER(**settings.method.to_dict())
        fitting = prepare(
            method, part, settings, seed=seed, pools=pool, section="perceptors"
        )  # fmt: skip
        print(f"perceptor of {', '.join(modalities)}: {rows.sum()} examples", flush=True)
        state = fit(fitting, settings, folder)
        embeddings = embed_examples(fitting.method, state.params, state.state, part)
        if is_first():
            replace_file(found, lambda stream: np.savez(stream, **embeddings))
        wait_for_all(str(found))
    with Archive(found) as archive:
        return {m: archive.read(m, "float", (len(data.label), None)) for m in modalities}


def _name(data, modalities, rows, settings, seed) -> str:
    known = {k: v for k, v in resolved(settings).items() if k != "path"}
    shapes = {m: data.features[m].shape for m in modalities}
    content = fingerprint(data)
    text = json.dumps([data.name, content, shapes, known, seed], sort_keys=True, default=list)
    digest = hashlib.sha256(text.encode() + np.packbits(rows).tobytes())
    return f"{'-'.join(modalities)}-seed{seed}-{digest.hexdigest()[:8]}"
