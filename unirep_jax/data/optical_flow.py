"""Optical flow of a clip (TV-L1), and its histograms per cell, as a further modality.

scikit-image is imported by the function that needs it.
"""

from itertools import pairwise

import numpy as np


def tv_l1_flow(clip: np.ndarray) -> np.ndarray:
    """How far everything moves from each frame to the next, by TV-L1.

        min over w:  ∫ λ |I(t+1, x + w(x)) − I(t, x)| + |∇w₁| + |∇w₂| dx

    coarse to fine, so that motions of several pixels are found, if what moves is larger than they
    are. Grey values of the clip are scaled to 0 … 1 by its least and largest; colours are averaged.
    A clip without any contrast does not move.

    Reference: Zach, Pock and Bischof, "A duality based approach for realtime TV-L1 optical flow",
    DAGM 2007, in scikit-image with its own settings.

    Args:
      clip: [time, height, width] or [time, height, width, channel], integers or floats; at least
        two frames of 2 × 2 pixels.

    Returns:
      float32 [time, height, width, 2]: pixels per frame to the right and downwards. What is at x in
      frame t is at x + flow[t, x] in frame t + 1. The last frame has no successor, and the flow of
      the one before it.

    Raises:
      ValueError: the clip has another shape, too few frames or pixels, or values not finite.
    """
    from skimage.registration import optical_flow_tvl1

    clip = _grey(np.asarray(clip))
    if not np.ptp(clip):
        return np.zeros((*clip.shape, 2), np.float32)
    flow = [optical_flow_tvl1(now, then) for now, then in pairwise(clip)]
    right_down = np.stack(flow)[:, ::-1].transpose(0, 2, 3, 1)
    return np.concatenate([right_down, right_down[-1:]])


def flow_histograms(flow: np.ndarray, *, cells: int = 4, orientations: int = 8) -> np.ndarray:
    """Per frame and cell, how much moves into which direction.

        h(t, c, o) = 1/|c| Σ_{x∈c} |flow(t, x)| · max(0, 1 − |angle(flow(t, x)) − o|)

    with angles in units of 2π/orientations, and around the circle: a direction between two
    orientations counts for both by its nearness, so the bins of a cell add up to its mean speed.

    Reference: Dalal, Triggs and Schmid, "Human detection using oriented histograms of flow and
    appearance", ECCV 2006. A stand-in for a network on flow; ≠ theirs, motion boundaries are not
    taken, and blocks are not normalised.

    Args:
      flow: [time, height, width, 2] as `tv_l1_flow` gives it.
      cells: along each side of the frame, which is divided as evenly as pixels allow.
      orientations: two or more; the first is to the right, the next follow clockwise on the screen.

    Returns:
      float32 [time, cells · cells · orientations], pixels per frame; rows of cells from the top.

    Raises:
      ValueError: the flow has another shape, or fewer pixels than cells along a side.
    """
    if flow.ndim != 4 or flow.shape[-1] != 2:
        raise ValueError(f"flow: expected [time, height, width, 2], found {flow.shape}")
    time, height, width, _ = flow.shape
    if cells < 1 or orientations < 2 or min(height, width) < cells:
        raise ValueError(
            f"cells={cells}, orientations={orientations}: of frames of {height} × {width} pixels"
        )
    right, down = np.moveaxis(flow.astype(np.float32), -1, 0)
    angle = np.arctan2(down, right) * (orientations / (2 * np.pi))
    away = np.abs((angle[..., None] - np.arange(orientations)) % orientations)
    share = np.maximum(0, 1 - np.minimum(away, orientations - away))
    moved = np.hypot(right, down)[..., None] * share
    histograms = np.einsum("ih,jw,thwo->tijo", _means(cells, height), _means(cells, width), moved)
    return histograms.reshape(time, -1).astype(np.float32)


def _grey(clip: np.ndarray) -> np.ndarray:
    """A checked clip as float32 [time, height, width] in 0 … 1."""
    if clip.ndim not in (3, 4) or clip.dtype.kind not in "iuf":
        expected = "numbers [time, height, width] or [time, height, width, channel]"
        raise ValueError(f"clip: expected {expected}, found {clip.dtype} {clip.shape}")
    if min(clip.shape[:3]) < 2 or 0 in clip.shape:
        raise ValueError(f"clip: expected two frames of 2 × 2 pixels or more, found {clip.shape}")
    clip = clip.astype(np.float64)
    finite = np.isfinite(clip)
    if not finite.all():
        frame = int(np.argmin(finite.reshape(len(clip), -1).all(axis=1)))
        raise ValueError(f"clip: expected finite values, found others in frame {frame}")
    grey = clip.mean(axis=-1) if clip.ndim == 4 else clip
    low, high = grey.min(), grey.max()
    return ((grey - low) / (high - low if high > low else 1)).astype(np.float32)


def _means(cells: int, pixels: int) -> np.ndarray:
    """float32 [cell, pixel] whose product with pixels is the mean of each cell."""
    member = np.arange(pixels) * cells // pixels == np.arange(cells)[:, None]
    return (member / member.sum(axis=1, keepdims=True)).astype(np.float32)
