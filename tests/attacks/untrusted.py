"""What untrusted files are made of: a pickle that leaves a trace, damage of bytes, small disks."""

import contextlib
import pickle
import random
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from unirep_jax.data import FeatureSet


class Trap:
    """Makes the file `trace` when it is unpickled."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return (open, (str(self.trace), "w"))


def objects(trace: Path, shape: tuple[int, ...] = (4, 3)) -> np.ndarray:
    """An object array every element of which is a trap."""
    return np.full(shape, Trap(trace), object)


def pickled(trace: Path) -> bytes:
    return pickle.dumps(Trap(trace))


def npy(path: Path, array: np.ndarray) -> None:
    """As the attacker writes it: objects are pickled."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array, allow_pickle=True)


def feature_arrays(count: int = 4) -> dict[str, np.ndarray]:
    """Content of a right feature file."""
    rng = np.random.default_rng(0)
    return {
        "modality/sight": rng.standard_normal((count, 2, 3)).astype(np.float32),
        "modality/sound": rng.standard_normal((count, 3)).astype(np.float32),
        "label": np.arange(count) % 2,
        "split": np.where(np.arange(count) < 2, "train", "test"),
        "class_name": np.array(["dog", "cat"]),
    }


def feature_set(count: int = 4) -> FeatureSet:
    arrays = feature_arrays(count)
    features = {m: arrays[f"modality/{m}"] for m in ("sight", "sound")}
    return FeatureSet.from_arrays("set", features, arrays["label"], arrays["split"] == "train")


def feature_folder(path: Path, **changes: np.ndarray) -> Path:
    """The same as a folder; keys are spelled with __ for /."""
    changed = {key.replace("__", "/"): array for key, array in changes.items()}
    for key, array in (feature_arrays() | changed).items():
        npy(path / f"{key}.npy", array)
    return path


def feature_file(path: Path, **changes: np.ndarray) -> Path:
    changed = {key.replace("__", "/"): array for key, array in changes.items()}
    np.savez(path, **(feature_arrays() | changed))
    return path


def zip_bomb(path: Path, member: str, size: int, header: bytes = b"") -> Path:
    """A zip file of a few bytes whose member says that it has `size` of them."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, header + bytes(1 << 16))
    content, real = path.read_bytes(), len(header) + (1 << 16)
    assert content.count(real.to_bytes(4, "little")) == 2, "once in each header"
    path.write_bytes(content.replace(real.to_bytes(4, "little"), size.to_bytes(4, "little")))
    return path


def damaged(content: bytes, rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """Truncations and flipped bits of a file, each with what was done."""
    for length in (0, 1, len(content) // 2, len(content) - 1):
        if length < len(content):
            yield f"cut to {length} bytes", content[:length]
    for _ in range(4):
        place, bit = rng.randrange(len(content)), rng.randrange(8)
        flipped = bytearray(content)
        flipped[place] ^= 1 << bit
        yield f"bit {bit} of byte {place} flipped", bytes(flipped)


def fill(folder: Path) -> None:
    """Takes all that is free of a small disk."""
    with (folder / "filling").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(1 << 12)):
            pass


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder, with the content of files."""
    return {
        str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None
        for p in sorted(folder.rglob("*"))
    }
