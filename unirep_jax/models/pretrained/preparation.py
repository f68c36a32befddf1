"""Preprocessing of pictures, sound and texts for published encoders."""

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from unirep_jax.data.extract.mel import htk, mel_filters, slaney, spectrogram
from unirep_jax.models.pretrained.weights import Folder, WeightsError

if TYPE_CHECKING:
    from PIL.Image import Image

BILINEAR, BICUBIC = 2, 3  # Pillow's numbers, as published configurations have them
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP_MEAN = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@dataclasses.dataclass(frozen=True)
class Picture:
    """Resizing, cropping and scaling of a picture.

    resize: of the shorter side, or of both sides where `crop` is None.
    crop: side of the square that is cut from the middle.
    resample: Pillow's number of the filter.
    mean, std: of the channels, of values in 0 … 1.
    """

    resize: int
    crop: int | None
    resample: int = BICUBIC
    mean: tuple[float, float, float] = IMAGENET[0]
    std: tuple[float, float, float] = IMAGENET[1]

    @classmethod
    def from_config(cls, config: dict[str, Any], default: "Picture") -> "Picture":
        """What a published preprocessor_config.json says, or the default where there is none."""
        if not config:
            return default
        size, crop = config.get("size", default.resize), config.get("crop_size", default.crop)
        cut = bool(config.get("do_center_crop", default.crop is not None))
        if isinstance(size, dict):
            size = size.get("shortest_edge") or size["height"]
        crop = crop["height"] if isinstance(crop, dict) else crop
        return cls(
            size,
            (crop or size) if cut else None,
            config.get("resample", default.resample),
            tuple(config.get("image_mean", default.mean)),
            tuple(config.get("image_std", default.std)),
        )

    def __call__(self, image: "Image") -> Float[np.ndarray, "height width 3"]:
        side = self.resize
        if self.crop is None:
            image = image.resize((side, side), self.resample)
        else:
            short, long = sorted(image.size)
            longer = int(side * long / short)
            wide = image.width >= image.height
            image = image.resize((longer, side) if wide else (side, longer), self.resample)
            left, top = ((n - self.crop) // 2 for n in image.size)
            image = image.crop((left, top, left + self.crop, top + self.crop))
        values = np.asarray(image, np.float32) / 255
        return (values - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)


CLIP_PICTURE = Picture(224, 224, BICUBIC, *CLIP_MEAN)
VIT_PICTURE = Picture(224, None, BILINEAR, *_HALF)
VGG_PICTURE = Picture(256, 224, BILINEAR, *IMAGENET)


class Texts:
    """Texts to padded ids by the tokenizer.json of a folder.

    Attributes:
      length: tokens that longer texts are cut to, special ones included.
    """

    def __init__(self, folder: Folder, length: int, name: str = "tokenizer.json"):
        from tokenizers import Tokenizer

        path = folder.folder / name
        if not path.is_file():
            raise WeightsError(
                f"{path}: expected the tokenizer of the weights, found nothing there"
            )
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises nothing more special
            raise WeightsError(f"{path}: expected a tokenizer, found {error}") from error
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(length)
        self.length = length

    def ids(self, text: str, *, special: bool = True) -> list[int]:
        """The tokens of one text; no text has none, not even where no special ones are added."""
        return self._tokenizer.encode(text, add_special_tokens=special).ids

    def pad(
        self, texts: list[list[int]], padding: int
    ) -> tuple[Int[np.ndarray, "text token"], Float[np.ndarray, "text token"]]:
        """Ids and a mask that is 1 for tokens; few lengths, so that few programs are compiled."""
        longest = max(_SHORTEST, *map(len, texts))
        length = min(self.length, 1 << (longest - 1).bit_length())
        ids = np.full((len(texts), length), padding, np.int32)
        for row, text in zip(ids, texts, strict=True):
            row[: len(text)] = text
        count = np.array([len(text) for text in texts])
        return ids, (np.arange(length) < count[:, None]).astype(np.float32)


_SHORTEST = 16  # tokens, below which all texts are of one length
VGGISH_RATE, CLAP_RATE = 16000, 48000
_VGGISH_FRAMES = 96
_CLAP_SECONDS = 10


def vggish_patches(
    wave: Float[np.ndarray, "sample"], count: int
) -> Float[np.ndarray, "count 96 64"]:
    """Log-mel patches of 0.96 s, one after the other; silence follows a short sound.

    log(mel + 0.01) at 16 kHz, windows of 25 ms every 10 ms, 64 filters from 125 to 7500 Hz.
    """
    samples = VGGISH_RATE * (_VGGISH_FRAMES * count) // 100 + 240  # the last window ends later
    wave = np.pad(wave[:samples], (0, max(0, samples - len(wave))))
    filters = mel_filters(VGGISH_RATE, 512, 64, 125, 7500, scale=htk, over_mel=True)
    filters[0] = 0  # of the constant part
    magnitude = spectrogram(wave, window=400, hop=160, fft=512, centred=False)
    mel = np.log(magnitude @ filters + 0.01).astype(np.float32)
    return mel[: count * _VGGISH_FRAMES].reshape(count, _VGGISH_FRAMES, 64)


def clap_mel(
    wave: Float[np.ndarray, "sample"], config: dict[str, Any]
) -> Float[np.ndarray, "frame mel"]:
    """The spectrogram of ten seconds in decibels, as CLAP without feature fusion takes it.

    A short sound is repeated as often as it fits and followed by silence. ≠ the original, which
    cuts a random part of a long sound: here it is the beginning.

    Args:
      wave: at the sample rate of the configuration, 48 kHz.
      config: a published preprocessor_config.json, or {}.
    """
    rate, fft = config.get("sampling_rate", CLAP_RATE), config.get("fft_window_size", 1024)
    samples = rate * config.get("max_length_s", _CLAP_SECONDS)
    wave = wave[:samples]
    wave = np.tile(wave, samples // len(wave))
    wave = np.pad(wave, (0, samples - len(wave)))
    low, high = config.get("frequency_min", 50), config.get("frequency_max", 14000)
    filters = mel_filters(
        rate, fft, config.get("feature_size", 64), low, high, scale=slaney, unit_area=True
    )
    magnitude = spectrogram(
        wave, window=fft, hop=config.get("hop_length", 480), fft=fft, centred=True
    )
    return (10 * np.log10(np.maximum(magnitude**2 @ filters, 1e-10))).astype(np.float32)
