"""Frozen encoders trained here: contrastive towers of some modalities, on some examples.

C-MCR starts from CLIP and CLAP, COX from ImageBind; without their weights, small ones stand for
them. An encoder sees only the modalities and the examples it is given.
"""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Bool
from ml_collections import ConfigDict

from unirep_jax.data import FeatureSet, standardization
from unirep_jax.data.fingerprint import fingerprint
from unirep_jax.data.resident import Pool
from unirep_jax.data.safe_text import file_name
from unirep_jax.identity import resolved
from unirep_jax.methods import MOVER
from unirep_jax.model import Model, Way
from unirep_jax.model_files import load_model, save_model
from unirep_jax.terminal import say
from unirep_jax.train.fit import fit, prepare
from unirep_jax.train.processes import is_first, wait_for_all


def pretrain(
    data: FeatureSet,
    modalities: Sequence[str],
    rows: Bool[np.ndarray, "example"],
    *,
    settings: ConfigDict,
    folder: Path,
    seed: int,
) -> Model:
    """Towers of each modality into one space, trained by InfoNCE between all pairs of them.

    What has been pretrained before with the same settings, data and seed is read from `folder`, so
    that the runs of a sweep share their encoders.

    Args:
      data: raw features.
      modalities: two or more.
      rows: the examples to train on.
      settings: `method` (of `MOVER`), `steps`, `batch_size`, `parallel` and `train`.
      folder: gets a folder for each encoder.
      seed: of the towers and of the order of the batches.

    Raises:
      ValueError: a setting is not possible for these data, or what was pretrained is damaged.
    """
    folder = folder / _name(data, modalities, rows, settings, seed)
    made = folder / "model"
    if not (made / "model.json").exists():
        part = dataclasses.replace(
            data,
            features={m: data.features[m] for m in modalities},
            present={m: data.present[m] for m in modalities},
            train=rows,
        )
        pool = Pool(np.flatnonzero(rows), min(settings.batch_size, int(rows.sum())), (*modalities,))
        method = MOVER(**settings.method.to_dict())
        fitting = prepare(method, part, settings, seed=seed, pools=pool, section="pretrain")
        say(f"pretraining {', '.join(modalities)}: {rows.sum()} examples")
        state = fit(fitting, settings, folder)
        shapes = {m: tuple(x.shape[1:]) for m, x in part.features.items()}
        ways = {m: (Way(None, m),) for m in modalities}
        model = Model("mover", fitting.method, state.params, state.state, shapes, shapes, ways)
        if is_first():
            save_model(model, made)
        wait_for_all(str(made))
    return load_model(made)


def untrained(
    data: FeatureSet,
    modalities: Sequence[str],
    rows: Bool[np.ndarray, "example"],
    *,
    settings: ConfigDict,
    folder: Path,
    seed: int,
) -> Model:
    """An encoder as `pretrain` makes it, without training."""
    shapes = {m: tuple(data.features[m].shape[1:]) for m in modalities}
    method = MOVER(**settings.method.to_dict()).for_data(shapes, 0)
    params, state = method.init(jax.random.key(seed), shapes, standardization(data))
    ways = {m: (Way(None, m),) for m in modalities}
    return Model("mover", method, params, state, shapes, shapes, ways)


def _name(data, modalities, rows, settings, seed) -> str:
    known = {k: v for k, v in resolved(settings).items() if k != "path"}
    shapes = {m: data.features[m].shape for m in modalities}
    content = fingerprint(data)
    text = json.dumps([data.name, content, shapes, known, seed], sort_keys=True, default=list)
    digest = hashlib.sha256(text.encode() + np.packbits(rows).tobytes())
    return f"{file_name('-'.join(modalities))}-seed{seed}-{digest.hexdigest()[:8]}"
