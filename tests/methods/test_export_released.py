"""A network of the authors' layers goes out under their names and embeds as before."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unirep_jax import export
from unirep_jax.data.published_shapes import SHAPES
from unirep_jax.methods import MICU, Released
from unirep_jax.model import Model, Way
from unirep_jax.model_files import load_run, save_model

SHORT = {m: (2, *shape[1:]) for m, shape in SHAPES.items()}  # two seconds of the ten


def drawn_model(method):
    """A model with the parts of a published network that embed, a tenth of its size."""
    shapes = jax.eval_shape(lambda k: method.init(k, SHORT, {}), jax.random.key(0))[0]["network"]
    rng = np.random.default_rng(0)

    def draw(path, x):
        if path[-1].key == "scale":
            return rng.uniform(0.5, 1.5, x.shape).astype(np.float32)
        return (rng.normal(size=x.shape) / (len(x) if x.ndim > 1 else 9) ** 0.5).astype(np.float32)

    parts = [name for name in shapes if name.startswith("encoders_") or name == "words"]
    network = jax.tree.map_with_path(draw, {name: shapes[name] for name in parts})
    codebook = method.init_codebook(jax.random.key(1))
    # Short codes: directions decide which is the nearest.
    codes = jnp.asarray(0.1 * rng.normal(size=codebook.codebook.shape), jnp.float32)
    state = {"codebook": codebook._replace(codebook=codes), "statistics": {}}
    through = {m: (Way(None, m),) for m in SHORT}
    return Model("micu", method, {"network": network}, state, SHORT, SHORT, through)


def assert_embeds_alike(run, released, rng):
    """The reader of released weights finds the sequences and codes of the model; those codes."""
    found = {}
    model, reader = load_run(run), Released.dcid(str(released)).for_data(SHORT, 0)
    params, state = reader.solve(None)
    for m, shape in SHORT.items():
        step = rng.standard_normal((3, shape[0], *[1] * (len(shape) - 2), shape[-1]))
        x = (step + 0.1 * rng.standard_normal((3, *shape))).astype(np.float32)
        ours = model.represent(m, x, batch_size=3)
        theirs = reader.embed(params, state, m, jnp.asarray(x))
        np.testing.assert_array_equal(ours.codes, theirs.codes)
        np.testing.assert_allclose(ours.sequence, theirs.sequence, rtol=1e-6)
        found[m] = np.unique(ours.codes)
    return found


def test_an_export_under_the_authors_names_embeds_as_the_model(tmp_path, rng, capsys):
    save_model(drawn_model(MICU.official().for_data(SHORT, 0)), tmp_path / "run")
    file = tmp_path / "mine.safetensors"
    export.main([str(tmp_path / "run"), f"--out={tmp_path / 'given'}", f"--released={file}"])
    assert capsys.readouterr().out.splitlines()[0] == str(file)
    codes = assert_embeds_alike(tmp_path / "given", file, rng)
    assert min(map(len, codes.values())) > 1, "steps are told apart in every modality"


def test_a_network_of_ours_has_no_export_under_the_authors_names(tmp_path):
    model = drawn_model(MICU.official().for_data(SHORT, 0))
    ours = dataclasses.replace(model, method=dataclasses.replace(model.method, published=False))
    save_model(ours, tmp_path / "run")
    file = tmp_path / "mine.safetensors"
    with pytest.raises(SystemExit, match="micu has not the network of MICU's authors"):
        export.main([str(tmp_path / "run"), f"--out={tmp_path / 'o'}", f"--released={file}"])
    assert not file.exists() and not (tmp_path / "o").exists()
