"""Tiny folders in the true layout and formats of the published features: h5, zip and tables."""

import csv
import json
import pickle
import zipfile

import h5py
import numpy as np

from unirep_jax.data.builders import (
    Ave,
    AveAvvp,
    Avvp,
    ClothoFeatures,
    FlickrSoundnet,
    MscocoFeatures,
    MsvdFeatures,
    Ucf51,
    UcfVggsound,
    Valor32k,
    VggsoundAvel40k,
    _features,
    ave_avvp,
    avvp,
)

VIDEO = (10, 2, 2, 3)  # in place of [10, 7, 7, 512], to be quick; tests of true shapes say so


def feature(name, modality, steps=10):
    """A sequence of its own for every clip and modality, float64 as published."""
    seed = int.from_bytes(f"{name} {modality}".encode()[-8:], "little")
    shape = (128,) if modality == "audio" else VIDEO[1:]
    return np.random.default_rng(seed).standard_normal((steps, *shape))


def put_zip(path, array, member=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member or f"{path.stem}.pkl", pickle.dumps(array))


def put_h5(path, key, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file[key] = array


def put_table(path, rows, delimiter=","):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)


def put_lines(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")


def vectors_of(texts):
    """[text, 10, 768]: as many vectors as a text has words, then zeros."""
    made = np.zeros((len(texts), 10, 768), np.float32)
    for place, text in enumerate(texts):
        words = len(text.split())
        made[place, :words] = np.random.default_rng(len(text)).standard_normal((words, 768))
    return made


def put_vectors(folder, texts):
    np.savez(folder / "text_vectors.npz", text=np.array(texts), vector=vectors_of(texts))


# -- VGGSound-AVEL40K ------------------------------------------------------------------------------

EVENTS = [f"event {i}, of a kind" for i in range(141)]
AVEL = {
    "aaaaaaaaaaa": (3, "train", 10),
    "bbbbbbbbbbb": (140, "train", 8),  # seconds of sound
    "-c_ccccccc-": (3, "val", 10),
    "ddddddddddd": (0, "test", 12),
}


def avel40k(folder):
    rows = [[EVENTS[c], name, split] for name, (c, split, _) in AVEL.items()]
    put_table(folder / "vggsound-avel40k.csv", [["category", "video_id", "split"], *rows])
    put_lines(folder / "VggsoundAVEL40kCategories.txt", EVENTS)
    prompts = [[event, f"the sound of {event}"] for event in EVENTS]
    put_table(folder / "vggsoundCategories2Prompts.csv", [["label", "prompt"], *prompts])
    put_vectors(folder, [prompt for _, prompt in prompts])
    for name, (_, _, seconds) in AVEL.items():
        put_zip(folder / f"feature/audio/zip/{name}.zip", feature(name, "audio", seconds))
        put_zip(folder / f"feature/video/zip/{name}.zip", feature(name, "video"))


# -- AVE -------------------------------------------------------------------------------------------

AVE_CLASSES = [f"Sound {i}, loud" for i in range(28)]
AVE_CLIPS = 31  # the last three are of classes 0, 1 and 2 again
AVE_ORDERS = {"train": [28, *range(27)], "val": [29, 27], "test": [30]}


def ave_events():
    """bool [clip, second, class]: each clip from its number modulo 4 to second 7, but one."""
    events = np.zeros((AVE_CLIPS, 10, 28), bool)
    for clip in range(AVE_CLIPS):
        events[clip, clip % 4 : 7, clip % 28] = clip != 26
    return events


def put_ave_features(folder):
    for name, modality in (("audio_feature", "audio"), ("visual_feature", "video")):
        rows = np.stack([feature(f"{i:04d}", modality) for i in range(AVE_CLIPS)])
        put_h5(folder / f"{name}.h5", "avadataset", rows)


def background(events):
    return np.concatenate([events, ~events.any(-1, keepdims=True)], -1)


def ave(folder):
    put_ave_features(folder)
    put_h5(folder / "labels.h5", "avadataset", background(ave_events()).astype(np.int64))
    for split, rows in AVE_ORDERS.items():
        put_h5(folder / f"{split}_order.h5", "order", np.array(rows))
    video = lambda i: f"video{(0 if i == 30 else i):06d}"  # the last clip is of the first video
    rows = [f"{AVE_CLASSES[i % 28]}&{video(i)}&good&{i % 4}&7" for i in range(AVE_CLIPS)]
    put_lines(folder / "Annotations.txt", ["Category&VideoID&Quality&StartTime&EndTime", *rows])


# -- UCF -------------------------------------------------------------------------------------------

UCF_CLASSES = [f"Action{i}" for i in range(51)]
UCF = {
    "v_Action0_g01_c01": 0,
    "v_Action0_g08_c02": 0,
    "v_Action17_g07_c01": 17,
    "v_Action50_g25_c04": 50,
}


def ucf51(folder):
    rows = [[UCF_CLASSES[c], name] for name, c in UCF.items()]
    put_table(folder / "ucf51checked.csv", [["category", "video_id"], *rows])
    put_lines(folder / "UCF51Categories.txt", UCF_CLASSES)
    for i, name in enumerate(UCF):
        put_zip(folder / f"feature/audio/zip/{name}.zip", feature(name, "audio", 4 + i))
        put_zip(folder / f"feature/video/zip/{name}.zip", feature(name, "video", 9 + i))


SHARED_UCF = {"v_Guitar_g01_c01": 0, "v_Bowl_g01_c02": 9}
SHARED_VGG = {"eeeeeeeeeee": 0, "fffffffffff": 10, "ggggggggggg": 15}


def ucf_vggsound(folder):
    ucf = [f"Ucf{i}" for i in range(16)]
    vgg = [f"doing, {i}" for i in range(16)]
    broken = [*ucf[:10], "Ucf10\tbowling", *ucf[11:]]  # as the published file is
    put_lines(folder / "UCF101sameVGGSound.txt", broken)
    put_lines(folder / "VGGSoundsameUCF101.txt", vgg)
    rows = [[ucf[c], name] for name, c in SHARED_UCF.items()]
    put_table(folder / "ucf2vggsound.csv", [["category", "video_id"], *rows])
    rows = [[vgg[c], name, "val"] for name, c in SHARED_VGG.items()]
    put_table(folder / "vggsound2ucf.csv", [["category", "video_id", "split"], *rows])
    for name in SHARED_UCF:
        put_zip(folder / f"ucf/feature/video/zip/{name}.zip", feature(name, "video", 7))
    for name in SHARED_VGG:
        put_zip(folder / f"vggsound/feature/audio/zip/{name}.zip", feature(name, "audio"))


# -- AVVP ------------------------------------------------------------------------------------------

HEADER = ["filename", "onset", "offset", "event_labels"]
LLP_CLASSES = [f"Event_{i}" for i in range(24)] + ["Frying_(food)"]
HEARD = [
    ["hhhhhhhhhhh_10_20", "0,5,0", "1,9,10", "Event_3,Event_3,Frying_(food)"],
    ["iiiiiiiiiii_0_10", "9", "9", "Event_0"],  # ends where it starts
]
SEEN = [["hhhhhhhhhhh_10_20", "2", "4", "Event_3"], ["jjjjjjjjjjj_5_15", "0", "10", "Event_1"]]


def put_llp_features(folder):
    for name in ("hhhhhhhhhhh", "iiiiiiiiiii", "jjjjjjjjjjj"):
        put_zip(folder / f"feature/audio/zip/{name}.zip", feature(name, "audio", 9))
        put_zip(folder / f"feature/video/zip/{name}.zip", feature(name, "video"))


def llp(folder):
    put_lines(folder / "AVVP_Categories.txt", LLP_CLASSES)
    put_table(folder / "AVVP_eval_audio_checked_combined.csv", [HEADER, *HEARD], "\t")
    put_table(folder / "AVVP_eval_visual_checked_combined.csv", [HEADER, *SEEN], "\t")
    test = [["filename", "event_labels"], ["jjjjjjjjjjj_5_15", "Event_1"]]
    put_table(folder / "AVVP_test_pd.csv", test, "\t")
    put_llp_features(folder)


def to_llp(folder):
    put_ave_features(folder / "ave")
    events = np.zeros((AVE_CLIPS, 10, 12), bool)
    events[4, 2:5, 7] = events[4, 3:9, 1] = True  # two at once
    put_h5(folder / "ave_avvp_labels.h5", "avadataset", background(events).astype(np.float32))
    put_h5(folder / "ave_avvp_order.h5", "order", np.array([4, 30]))
    put_lines(folder / "AVE_AVVP_Categories.txt", LLP_CLASSES[:12])
    heard = [["hhhhhhhhhhh_10_20", "0", "3", "Event_3"]]
    for kind, rows in (("audio", heard), ("visual", SEEN)):
        put_table(folder / f"AVE_AVVP_eval_{kind}_checked_combined.csv", [HEADER, *rows], "\t")
    put_llp_features(folder)


# -- captions --------------------------------------------------------------------------------------


def clotho(folder):
    columns = ["file_name", *(f"caption_{i}" for i in range(1, 6))]
    rows = [[f"{name}.wav", *(f'{name} says, "{i}"' for i in range(5))] for name in ("a.b", "c d")]
    put_table(folder / "clotho_captions_evaluation.csv", [columns, *rows])
    put_vectors(folder, [caption for row in rows for caption in row[1:]])
    for name, steps in (("a.b", 21), ("c d", 4)):
        put_zip(folder / f"feature/zip/{name}.zip", feature(name, "audio", steps))


def msvd(folder):
    rows = [["clip_1", "a cat runs"], ["clip_2", "a dog, too"]]
    put_table(folder / "msvd.csv", [["video_name", "caption"], *rows])
    put_vectors(folder, [caption for _, caption in rows])
    for name, _ in rows:
        put_zip(folder / f"feature/zip/{name}.zip", feature(name, "video", 6))


def mscoco(folder):
    rows = [(139, "a room"), (42, "a shoe"), (139, "chairs in a room")]
    folder.mkdir(exist_ok=True)
    content = {"annotations": [{"image_id": i, "id": 7, "caption": text} for i, text in rows]}
    (folder / "val_part_1.json").write_text(json.dumps(content))
    put_vectors(folder, [text for _, text in rows])
    for name in ("000000000139", "000000000042"):
        put_zip(folder / f"feature/zip/{name}.zip", feature(name, "video", 1))


def valor(folder):
    parts = {"desc_train": ["k", "l"], "desc_val": ["m"], "desc_test": ["n", "o"]}
    folder.mkdir(exist_ok=True)
    for part, names in parts.items():
        content = [{"video_id": name, "desc": f"clip {name}"} for name in names]
        (folder / f"{part}.json").write_text(json.dumps(content))
        for name in names:
            for modality in ("audio", "video"):
                path = folder / f"feature/{modality}/zip/{name}.zip"
                put_zip(path, feature(name, modality, 11))
    put_vectors(folder, [f"clip {name}" for names in parts.values() for name in names])


def flickr(folder):
    put_table(folder / "test.csv", [["filename"], ["1001.mp4"], ["1002.mp4"]])
    for name in ("1001", "1002"):
        put_zip(folder / f"feature/audio/zip/{name}.zip", feature(name, "audio", 20))
        put_zip(folder / f"feature/image/zip/{name}.zip", feature(name, "video", 1))


# name -> how to write it, its builder, and how many examples its splits have
TREES = {
    "avel40k": (avel40k, VggsoundAvel40k, {"train": 2, "validation": 1, "test": 1}),
    "ave": (ave, Ave, {"train": 28, "validation": 2, "test": 1}),
    "ucf51": (ucf51, Ucf51, {"train": 2, "test": 2}),
    "ucf_vggsound": (ucf_vggsound, UcfVggsound, {"ucf": 2, "vggsound": 3}),
    "avvp": (llp, Avvp, {"validation": 2, "test": 1}),
    "ave_avvp": (to_llp, AveAvvp, {"train": 2, "test": 2}),
    "clotho": (clotho, ClothoFeatures, {"test": 10}),
    "msvd": (msvd, MsvdFeatures, {"test": 2}),
    "mscoco": (mscoco, MscocoFeatures, {"test": 3}),
    "valor": (valor, Valor32k, {"train": 2, "validation": 1, "test": 2}),
    "flickr": (flickr, FlickrSoundnet, {"test": 2}),
}


def shrink(patch):
    """Small video, and the published numbers of rows become those of the trees."""
    patch.setitem(_features.ANNOTATED, "video", VIDEO)
    for builder in (MsvdFeatures, MscocoFeatures, Valor32k):
        patch.setitem(builder.SHAPES, "video", VIDEO)
    for _, builder, sizes in TREES.values():
        patch.setattr(builder, "expected", lambda self, sizes=sizes: sizes)
        patch.setattr(builder, "OPEN_SETS", {})
    for modality, rows in (("audio", HEARD), ("video", SEEN)):
        for name in avvp._FILES[modality]:
            patch.setitem(avvp._FILES[modality], name, len(rows))
        name, _ = ave_avvp._FILES[modality]
        patch.setitem(ave_avvp._FILES, modality, (name, 1 if modality == "audio" else len(SEEN)))
    patch.setattr(ave_avvp, "CLIPS", AVE_CLIPS)
