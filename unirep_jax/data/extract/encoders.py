"""Encoders of pictures, sound, video and texts: the contract, and the table of those there are.

An encoder is made by a function whose keyword arguments are its settings. On the command line it is

    --encode=MODALITY:NAME,setting=value             one of `ENCODERS`
    --encode=MODALITY:package.module:function,...    your own
    --encode=MODALITY@COLUMN:...                     of the files in another column of the manifest
"""

import dataclasses
import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from unirep_jax.data.kinds import Kind

_WEIGHT_FREE = "unirep_jax.data.extract.weight_free"
_PRETRAINED = "unirep_jax.models.pretrained.encoders"
# As those of users, they are imported when they are asked for.
ENCODERS = {
    "frames": f"{_WEIGHT_FREE}:frames",
    "log_mel": f"{_WEIGHT_FREE}:log_mel",
    "pixels": f"{_WEIGHT_FREE}:pixels",
    "speech_units": "unirep_jax.data.extract.speech_units:speech_units",
    "words": f"{_WEIGHT_FREE}:words",
    "bert": f"{_PRETRAINED}:bert",
    "clap_audio": f"{_PRETRAINED}:clap_audio",
    "clap_text": f"{_PRETRAINED}:clap_text",
    "clip_image": f"{_PRETRAINED}:clip_image",
    "clip_text": f"{_PRETRAINED}:clip_text",
    "efficientnet_lite0": f"{_PRETRAINED}:efficientnet_lite0",
    "minilm": f"{_PRETRAINED}:minilm",
    "vgg19": f"{_PRETRAINED}:vgg19",
    "vggish": f"{_PRETRAINED}:vggish",
    "vit": f"{_PRETRAINED}:vit",
    "wordllama": f"{_PRETRAINED}:wordllama",
}
DEFAULTS = {"image": "pixels", "audio": "log_mel", "video": "frames", "text": "words"}
_SPECIFICATION = re.compile(
    r"(?P<modality>[A-Za-z]\w*)(@(?P<column>[^:,]+))?:(?P<name>[\w.]+(:\w+)?)(?P<settings>(,.*)?)"
)


class EncoderError(ValueError):
    """No such encoder, or one that cannot be made with these settings; a line that says why."""


@dataclasses.dataclass(frozen=True)
class Encoder:
    """Features of files or texts.

    medium: "image", "audio", "video" or "text".
    prepare: what one file (a path) or text becomes, called on several threads; what it raises
      marks the file as damaged.
    encode: a list of what `prepare` gives, at most `batch_size` long -> [item, ...], the shape of
      an item always the same.
    fit: of an encoder that depends on the training examples; called with them, before the others;
      gives what the card says of it.
    about: for the data card; an encoder with weights has `weights` {file: SHA-256} and `licence`.
    kind: of the features, where type and shape do not tell it, or of word ids, which are kept as
      integers whatever the type of the others.
    """

    medium: str
    prepare: Callable[[Path | str], Any]
    encode: Callable[[list[Any]], Float[np.ndarray, "item ..."]]
    batch_size: int = 32
    fit: Callable[[Iterable[Path | str]], dict[str, Any]] | None = None
    about: dict[str, Any] = dataclasses.field(default_factory=dict)
    kind: Kind | None = None

    def __post_init__(self) -> None:
        if self.medium not in DEFAULTS:
            raise EncoderError(f"medium {self.medium!r} is none of {', '.join(DEFAULTS)}")


@dataclasses.dataclass(frozen=True)
class Specification:
    """What `--encode` asks for: a modality, the column of its files, an encoder, its settings."""

    modality: str
    column: str
    name: str
    settings: dict[str, str] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        column = "" if self.column == self.modality else f"@{self.column}"
        settings = "".join(f",{k}={v}" for k, v in self.settings.items())
        return f"{self.modality}{column}:{self.name}{settings}"


def parse_specification(text: str) -> Specification:
    """Raises EncoderError: the text is not MODALITY[@COLUMN]:ENCODER[,setting=value ...]."""
    found = _SPECIFICATION.fullmatch(text)
    parts = found["settings"].split(",")[1:] if found else []
    if not found or not all(re.fullmatch(r"\w+=.*", part) for part in parts):
        raise EncoderError(
            f"--encode={text}: expected MODALITY[@COLUMN]:ENCODER[,setting=value ...]"
        )
    settings = dict(part.split("=", 1) for part in parts)
    return Specification(
        found["modality"], found["column"] or found["modality"], found["name"], settings
    )


def make_encoder(specification: Specification, weights: str | None = None) -> Encoder:
    """The encoder with its settings, read as the types of their defaults.

    Args:
      specification: what to make.
      weights: folder for an encoder that cannot do without one and was given none.

    Raises:
      EncoderError: there is no such encoder or setting, a value is of the wrong type, or the
        encoder itself refuses: weights that are missing, say.
    """
    function = _find(specification)
    known = inspect.signature(function).parameters
    given = dict(specification.settings)
    needed = {key for key, p in known.items() if p.default is inspect.Parameter.empty}
    if weights is not None and "weights" in needed:
        given.setdefault("weights", weights)
    for key in given:
        if key not in known:
            valid = ", ".join(known) or "none"
            raise EncoderError(f"--encode={specification}: no setting {key!r}; there is {valid}")
    if needed - given.keys():
        missing = ", ".join(f"{key}=..." for key in sorted(needed - given.keys()))
        raise EncoderError(f"--encode={specification}: needs {missing}")
    settings = {key: _read(specification, key, known[key], value) for key, value in given.items()}
    try:
        encoder = function(**settings)
    except ModuleNotFoundError as error:
        raise EncoderError(f"--encode={specification}: {error}{_hint(error)}") from error
    except (ValueError, OSError) as error:
        raise EncoderError(f"--encode={specification}: {error}") from error
    if not isinstance(encoder, Encoder):
        found = type(encoder).__name__
        raise EncoderError(f"--encode={specification}: gave {found}, not an Encoder")
    return encoder


def _hint(error: ModuleNotFoundError) -> str:
    return "; pip install 'unirep_jax[encoders]'" if error.name in ("tokenizers", "flax") else ""


def _find(specification: Specification) -> Callable[..., Encoder]:
    place = ENCODERS.get(specification.name, specification.name)
    module, _, name = place.partition(":")
    if not name:
        known = ", ".join(sorted(ENCODERS))
        raise EncoderError(
            f"--encode={specification}: no encoder {place!r}; there is {known}, and your own as "
            "package.module:function"
        )
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise EncoderError(f"--encode={specification}: {error}") from error


def _read(specification: Specification, key: str, parameter: inspect.Parameter, value: str) -> Any:
    """A setting as the type of its default; text where that is None or missing."""
    default = parameter.default
    if default is None or default is inspect.Parameter.empty or isinstance(default, str):
        return value
    booleans = {"true": True, "false": False}
    try:
        return booleans[value.lower()] if isinstance(default, bool) else type(default)(value)
    except (KeyError, ValueError) as error:
        expected = type(default).__name__
        raise EncoderError(
            f"--encode={specification}: {key} is of type {expected}, not {value!r}"
        ) from error


def choose_encoders(
    given: Sequence[str], columns: dict[str, str], modalities: Sequence[str] = ()
) -> list[Specification]:
    """A specification for each modality: those given first, then defaults for the other columns.

    Args:
      given: texts of `--encode`.
      columns: column of the manifest -> medium of what is in it.
      modalities: the ones to keep; all where none is named.

    Raises:
      EncoderError: a modality is given twice, or a column or modality is not there.
    """
    chosen = [parse_specification(text) for text in given]
    named = [s.modality for s in chosen]
    for s in chosen:
        if named.count(s.modality) > 1:
            raise EncoderError(f"--encode={s}: modality {s.modality} comes twice")
        if s.column not in columns:
            valid = ", ".join(columns)
            raise EncoderError(f"--encode={s}: no column {s.column!r}; there is {valid}")
    others = [c for c in columns if c not in named]
    chosen += [Specification(c, c, DEFAULTS[columns[c]]) for c in others]
    if not modalities:
        return chosen
    found = {s.modality: s for s in chosen}
    for modality in modalities:
        if modality not in found:
            valid = ", ".join(found)
            raise EncoderError(f"--modalities: no modality {modality!r}; there is {valid}")
    return [found[modality] for modality in modalities]
