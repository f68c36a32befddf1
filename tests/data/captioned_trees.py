"""Tiny folders in the true formats of MSR-VTT, AudioCaps, VATEX and Clotho, with own features."""

import csv
import json

import numpy as np


def vector(name, dim):
    seed = int.from_bytes(name.encode()[-8:], "little")
    return np.random.default_rng(seed).standard_normal(dim)


def put_table(path, *rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


def put_features(folder, clips, texts, *, video=(12,), audio=(4, 3), absent=()):
    """Vectors of sight, sequences of sound, vectors of captions."""
    for modality, shape in (("video", video), ("audio", audio)):
        place = folder / f"feature/{modality}"
        place.mkdir(parents=True)
        for clip in clips:
            if modality == "audio" and clip in absent:
                continue
            np.save(place / f"{clip}.npy", vector(clip + modality, shape).astype(np.float32))
        if modality == "audio" and absent:
            (place / "absent.txt").write_text("".join(f"{clip}\n" for clip in absent))
    vectors = np.stack([vector(text, 5) for text in texts]).astype(np.float16)
    np.savez(folder / "text_vectors.npz", text=np.array(texts), vector=vectors)


def msrvtt(folder, **changes):
    """Two training clips of three captions, two for the test, and one that 1k-A leaves out."""
    split = {"video0": "train", "video1": "train", "video6513": "validate"}
    split |= {"video9770": "test", "video9771": "test"}
    sentences = [
        {"caption": f"{video} seen, {i}", "video_id": video, "sen_id": 3 * place + i}
        for i in range(3)
        for place, video in enumerate(split)
    ]
    videos = [
        {
            "category": 9,
            "url": "https://www.youtube.com/watch?v=9lZi22qLlEo",
            "video_id": video,
            "start time": 137.72,
            "end time": 149.44,
            "split": part,
            "id": place,
        }
        for place, (video, part) in enumerate(split.items())
    ]
    content = {"info": {"version": "1.0"}, "videos": videos, "sentences": sentences}
    (folder / "MSRVTT_data.json").write_text(json.dumps(content))
    put_table(folder / "MSRVTT_train.9k.csv", ["video_id"], ["video1"], ["video0"])
    put_table(folder / "MSRVTT_train.7k.csv", ["video_id"], ["video0"])
    put_table(
        folder / "MSRVTT_JSFUSION_test.csv",
        ["key", "vid_key", "video_id", "sentence"],
        ["ret0", "msr9770", "video9770", "a person is connecting something to system"],
        ["ret1", "msr9771", "video9771", "a little girl does gymnastics"],
    )
    texts = ["a person is connecting something to system", "a little girl does gymnastics"]
    texts += [sentence["caption"] for sentence in sentences]
    put_features(folder, split, texts, **changes)


def audiocaps(folder, **changes):
    header = ["audiocap_id", "youtube_id", "start_time", "caption"]
    train = [["91139", "r1nicOVtvkQ", "130", "A woman talks nearby, as water pours"]]
    train += [["11542", "-3eJ9RynJzP", "80", "The wind is blowing"]]
    tests = {
        split: [[str(i), clip, "20", f"{clip} sounds like {i}"] for i in range(5)]
        for split, clip in (("val", "vfY_TJq7n_U"), ("test", "7fmOlUlwoNg"))
    }
    for split, rows in ({"train": train} | tests).items():
        put_table(folder / f"{split}.csv", header, *rows)
    rows = [*train, *tests["val"], *tests["test"]]
    put_features(folder, dict.fromkeys(r[1] for r in rows), [r[3] for r in rows], **changes)


def vatex(folder, **changes):
    clips = {
        "vatex_training_v1.0.json": ["Ptf_2VRj-V0_000122_000132", "cbwZh-pZ6xA_000030_000040"],
        "vatex_validation_v1.0.json": ["_1jKqkSaCXs_000007_000017"],
        "vatex_public_test_english_v1.1.json": ["G9zN5TTuGO4_000179_000189"],
    }
    texts = []
    for file, names in clips.items():
        each = {name: [f"{name} shows {i}" for i in range(10)] for name in names}
        content = [{"videoID": n, "enCap": c, "chCap": ["人"] * 10} for n, c in each.items()]
        (folder / file).write_text(json.dumps(content, ensure_ascii=False), "utf-8")
        texts += [caption for captions in each.values() for caption in captions]
    names = [name for each in clips.values() for name in each]
    described = [{"video_id": names[-1], "desc": texts[-10:], "subtitle": " Well. "}]
    (folder / "descs_ret_test.json").write_text(json.dumps(described))
    put_features(folder, names, texts, **changes)


def clotho(folder, **changes):
    columns = ["file_name", *(f"caption_{i}" for i in range(1, 6))]
    texts, names = [], []
    for split in ("development", "validation", "evaluation"):
        name = f"{split} at 5.30, wet"
        captions = [f"{split}: {i}, and so on" for i in range(5)]
        file = folder / f"clotho_captions_{split}.csv"
        put_table(file, columns, [f"{name}.wav", *captions])
        texts, names = texts + captions, [*names, name]
    put_features(folder, names, texts, **changes)


TREES = {"msrvtt": msrvtt, "audiocaps": audiocaps, "vatex": vatex, "clotho": clotho}
