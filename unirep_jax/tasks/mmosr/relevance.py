"""Picture of the tokens that speak for the class that a classifier names: Figures 7, 12 of MRN."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from unirep_jax.data.kinds import Kind
from unirep_jax.data.safe_text import figure_text
from unirep_jax.evaluation.embedding import map_examples
from unirep_jax.evaluation.figures import write_title
from unirep_jax.methods.recognition import OpenSetClassifier
from unirep_jax.methods.relevance import token_relevance
from unirep_jax.models.recognizer import PICTURE_CHANNELS
from unirep_jax.tasks.mmosr.decisions import Part
from unirep_jax.tasks.task import Trained

PICTURES = (Kind.IMAGE, Kind.VIDEO, Kind.SPECTROGRAM)


class Explained(NamedTuple):
    """One example. features, relevance: by modality, as it was read, and [position] of its tokens;
    named: the class given to it; true: its own."""

    features: Mapping[str, np.ndarray]
    relevance: Mapping[str, Float[np.ndarray, "position"]]
    named: str
    true: str


def draw_relevance(
    path: Path, examples: Sequence[Explained], kinds: Mapping[str, Kind], *, title: str
) -> None:
    """A row an example, a column a modality; warm where its tokens speak for the class named.

    Pictures and spectrograms lie in grey below a heat map of the last map's positions (of a video:
    of the frame with the most); sequences in grey, time to the right; words and vectors are a strip
    of their tokens. All of a row has one scale, so that its modalities can be compared.
    """
    names = sorted(kinds)
    size = (2.6 * len(names) + 0.6, 2.3 * len(examples) + 0.6)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(examples), len(names), squeeze=False)
    for row, example in zip(axes, examples, strict=True):
        most = max(float(r.max()) for r in example.relevance.values())
        for axis, m in zip(row, names, strict=True):
            _panel(axis, kinds[m], example.features[m], example.relevance[m] / max(most, 1e-12))
        row[0].set_ylabel(figure_text(f"{example.named} ({example.true})"), fontsize=8)
    for axis, m in zip(axes[0], names, strict=True):
        axis.set_title(figure_text(m), fontsize=9)
    write_title(figure, f"{title}: class named (true class)")
    figure.savefig(path, dpi=120)


def relevance_figure(trained: Trained, part: Part, names: Sequence[str], count: int) -> None:
    """Draws the first of the chosen examples of each of `count` known classes at most.

    Args:
      part: a feature set, its labels numbering `names` with −1 for unknown, and which examples.

    Raises:
      ValueError: as `token_relevance`.
    """
    method, (data, chosen) = trained.method, part
    assert isinstance(method, OpenSetClassifier)
    firsts = [np.flatnonzero(chosen & (data.label == c))[:1] for c in range(len(names))]
    rows = np.concatenate(firsts)[:count]

    def compute(variables, batch):
        given = batch["features"], batch["present"]
        (decision,) = method.classify(*variables, *given).values()
        return token_relevance(method, *variables, *given), decision.logits

    variables = trained.state.params, trained.state.state
    relevance, logits = map_examples(compute, variables, data, rows=rows, batch_size=len(rows))
    examples = [
        Explained(
            {m: np.asarray(x[row]) for m, x in data.features.items()},
            {m: r[place] for m, r in relevance.items()},
            names[int(logits[place].argmax())],
            names[int(data.label[row])],
        )
        for place, row in enumerate(rows)
    ]
    kinds = {m: Kind(name) for m, name in method.kinds}
    title = f"{figure_text(trained.data.name)}, {trained.name}"
    draw_relevance(trained.figures / "relevance.png", examples, kinds, title=title)


def grid(shape: tuple[int, ...], positions: int) -> tuple[int, int, int]:
    """Frames, rows and columns of the map that a ResNet makes of a picture of this shape.

    Args:
      shape: [*frames, height, width, channel].
      positions: of all frames together.

    Raises:
      ValueError: halving the picture gives no such number.
    """
    frames, (height, width) = int(np.prod(shape[:-3])), shape[-3:-1]
    for halvings in range(max(height, width).bit_length() + 1):
        rows, columns = (-(-side // 2**halvings) for side in (height, width))
        if frames * rows * columns == positions:
            return frames, rows, columns
    raise ValueError(f"a picture {shape} has no map of {positions} positions")


def _panel(axis: Axes, kind: Kind, x: np.ndarray, relevance: Float[np.ndarray, "position"]) -> None:
    picture, heat = _layers(kind, x, relevance)
    extent = (0.0, heat.shape[1], heat.shape[0], 0.0)
    if picture is not None:
        extent = (0.0, picture.shape[1], picture.shape[0], 0.0)
        axis.imshow(picture, cmap="gray", extent=extent, aspect="auto")
    smooth = "bilinear" if picture is not None else "nearest"
    axis.imshow(
        heat,
        cmap="inferno",
        extent=extent,
        aspect="auto",
        vmin=0,
        vmax=1,
        alpha=1.0 if picture is None else 0.55,
        interpolation=smooth,
    )
    axis.set(xticks=(), yticks=())


def _layers(kind: Kind, x: np.ndarray, relevance) -> tuple[np.ndarray | None, np.ndarray]:
    """What lies below, in grey, and the heat map over it, both [row, column]."""
    if kind in PICTURES and (kind is Kind.SPECTROGRAM or x.shape[-1] <= PICTURE_CHANNELS):
        x = x[..., None] if kind is Kind.SPECTROGRAM else x
        maps = relevance.reshape(grid(x.shape, len(relevance)))
        frame = int(maps.max((1, 2)).argmax())
        return x.reshape(-1, *x.shape[-3:])[frame].mean(-1), maps[frame]
    below = kind in (Kind.SEQUENCE, *PICTURES)
    return (x.reshape(len(x), -1).T if below else None), relevance[None]
