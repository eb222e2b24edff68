"""Benchmarks by name: where their files lie, what is asked, how it is scored, what was published.

A benchmark is one or more parts, each of them one annotations file that a reader of
`boxrl.data.READERS` understands. Paths are those that the published archives unpack to, relative
to one data root.
"""

from __future__ import annotations

from dataclasses import replace

from boxrl.benchmarks import ovdeval
from boxrl.benchmarks.counting import COUNTING
from boxrl.benchmarks.lvis import LVIS
from boxrl.benchmarks.published import PUBLISHED
from boxrl.benchmarks.record import Benchmark, Mean, Part, Published
from boxrl.benchmarks.rex_pointing import REX_POINTING
from boxrl.benchmarks.rexomni import REXOMNI
from boxrl.benchmarks.rf_vl import RF_VL
from boxrl.errors import UsageError, did_you_mean

__all__ = ["BENCHMARKS", "Benchmark", "Part", "Published", "build_benchmark"]


COCO_VAL = (("annotations/instances_val2017.json",), ("val2017", "images/val2017"))
COCO_MODES = ("positive", "all", "one_box")
COCO_SUBSETS = {
    "coco_pos_1": ("pos_1", "without (image, label) pairs of more than 10 boxes"),
    "coco_pos_2": ("pos_2", "images in which every label has exactly one box"),
    "coco_pos_3": ("pos_3", "images of at most 10 boxes"),
}
OVDEVAL_FILES = tuple(name for files in ovdeval.ASPECTS.values() for name in files)
REFCOCO_SPLITS = {
    "refcoco": ("unc", ("val", "testA", "testB")),
    "refcoco+": ("unc", ("val", "testA", "testB")),
    "refcocog": ("umd", ("val", "test")),
}
ODINW13 = {
    "AerialMaritimeDrone": "AerialMaritimeDrone/large/valid/",
    "Aquarium": "Aquarium/Aquarium Combined.v2-raw-1024.coco/valid/",
    "CottontailRabbits": "CottontailRabbits/valid/",
    "EgoHands": "EgoHands/generic/valid/",
    "NorthAmericaMushrooms": (
        "NorthAmericaMushrooms/North American Mushrooms.v1-416x416.coco/valid/"
    ),
    "Packages": "Packages/Raw/valid/",
    "PascalVOC": "PascalVOC/valid/",
    "pistols": "pistols/export/val_",
    "pothole": "pothole/valid/",
    "Raccoon": "Raccoon/Raccoon.v2-raw.coco/valid/",
    "ShellfishOpenImages": "ShellfishOpenImages/raw/valid/",
    "thermalDogsAndPeople": "thermalDogsAndPeople/valid/",
    "VehiclesOpenImages": "VehiclesOpenImages/416x416/valid/",
}
"""What stands before `annotations_without_background.json`; images lie in the same folder."""


def _coco(name: str, subset: str | None, what: str) -> Benchmark:
    options = {"subset": (subset,)} if subset else {}
    return Benchmark(
        name,
        f"COCO val2017{', ' if what else ''}{what}",
        "coco",
        (Part(name, *COCO_VAL, options),),
        "mAP",
        "COCO AP, every confidence 1. Crowd regions are left out of subsets. Labels that a subset "
        "drops from an image are not asked for there. The VLM-R1-OVD blog does not say its "
        "mode; its base model's 23.6 suggests `positive`, the technical report's 14.2 is `all`.",
        COCO_MODES if subset else ("all", "positive", "one_box"),
    )


def _refcoco(name: str) -> Benchmark:
    split_by, splits = REFCOCO_SPLITS[name]
    options = {"dataset": name, "split_by": split_by}
    files = (f"{name}/refs({split_by}).p", f"{name}/instances.json")
    images = ("images/mscoco/images/train2014", "images/train2014", "train2014")
    return Benchmark(
        name,
        f"referring expressions, split by {split_by}",
        "refcoco",
        tuple(Part(split, (".",), images, options | {"split": split}, files) for split in splits),
        "mean.grounding_accuracy@0.5",
        "Share of expressions whose first box has IoU >= .5. VLM-R1 scores the first 2,000 (at "
        "the blog's time 500) of a shuffled split and asks for IoU > .5.",
        means={"mean.grounding_accuracy@0.5": Mean("grounding_accuracy@0.5", (splits,))},
    )


_FIRST: dict[str, Benchmark] = {
    **{name: _coco(name, *what) for name, what in COCO_SUBSETS.items()},
    "coco": _coco("coco", None, ""),
    "ovdeval": Benchmark(
        "ovdeval",
        "OVDEval: eight files of hard negatives",
        "ovdeval",
        tuple(Part(f, (f"annotations/{f}.json",), (f"images/{f}",)) for f in OVDEVAL_FILES),
        "five_aspect_mean.NMS-AP",
        "AP and NMS-AP per file, every confidence 1: of boxes on one target the last one is kept. "
        "`five_aspect_mean` averages proper noun, attribute, position, relationship and negation, "
        "as VLM-R1's average does; `eight_file_mean` averages the files. Annotation ids count "
        "from 1; the official script loses the annotation of id 0 (see coco-eval --nms-ap).",
        ("all", "positive"),
        headline=ovdeval.HEADLINE,
        means=ovdeval.MEANS,
    ),
    "d3": Benchmark(
        "d3",
        "D3: 422 descriptions of presence and absence",
        "d3",
        (Part("d3", ("d3_pkl", "d3_json/d3_full_annotations.json"), ("d3_images",)),),
        "full.mAP",
        "COCO AP over all descriptions (full), those of presence (pres) and of absence (abs); of "
        "each, by length in words and by boxes per (image, description) pair as d-cube's script "
        "parts them; every confidence 1. `intra` asks for the descriptions of the image's group, "
        "`inter` for all 422.",
        ("intra", "inter"),
        "setting",
        headline=(("FULL", "full.mAP"), ("PRES", "pres.mAP"), ("ABS", "abs.mAP")),
    ),
    **{name: _refcoco(name) for name in REFCOCO_SPLITS},
    "refgta": Benchmark(
        "refgta",
        "expressions for people in a computer game, outside the training domain",
        "refgta",
        (
            Part(
                "test",
                (".",),
                ("gta_image/gtav_cv_mod_data", "ref2/refgta/used_images"),
                {"split": "test"},
                ("ref2/refgta/refs(utokyo).p", "ref2/refgta/instances.json"),
            ),
        ),
        "grounding_accuracy@0.5",
        "As refcoco. The blog's numbers are of a private subsample of 500.",
    ),
    "lisa": Benchmark(
        "lisa",
        "LISA-Grounding: reasoning about one object (ReasonSeg test)",
        "lisa",
        (Part("test", ("ReasonSeg/test", "test"), ("ReasonSeg/test", "test")),),
        "grounding_accuracy@0.5",
        "As refcoco; the box is the hull of the target's polygon.",
    ),
    "superclevr": Benchmark(
        "superclevr",
        "SuperCLEVR-200: how many items",
        "clevr",
        (Part("test", ("superclevr_test200_counting_problems.jsonl", "*.jsonl"), (".",)),),
        "accuracy",
        "Share of counts that are exactly right.",
    ),
    "odinw13": Benchmark(
        "odinw13",
        "ODinW: thirteen small domains",
        "coco",
        tuple(
            Part(
                name,
                (f"{start}annotations_without_background.json",),
                (start.rpartition("/")[0],),
                {"mode": "all"},
            )
            for name, start in ODINW13.items()
        ),
        "mean.mAP",
        "Unweighted mean of thirteen COCO APs on the validation splits, all names of a domain in "
        "the prompt, every confidence 1. At most 100 boxes per image and label count. `--protocol "
        "qwen` reads answers and counts as Qwen's own script does: its prompt, the whole answer as "
        "one literal or nothing, labels of other names passed over, mAP at 100 boxes and the rest "
        "at 1,000, every figure rounded to three digits; its numbers were sampled (temperature .7, "
        "top_p .8, top_k 20, presence penalty 1.5) at 768 to 12,800 tokens per image.",
        protocols=("qwen",),
        means={"mean.mAP": Mean("mAP", (tuple(ODINW13),))},
    ),
}

BENCHMARKS: dict[str, Benchmark] = {
    **{name: replace(item, published=PUBLISHED.get(name, ())) for name, item in _FIRST.items()},
    **{item.name: item for item in (*RF_VL, REXOMNI, REX_POINTING, LVIS, *COUNTING)},
}
"""Every benchmark by name."""


def build_benchmark(name: str) -> Benchmark:
    """The benchmark of that name.

    Raises:
        UsageError: unknown name; the message lists the known ones.
    """
    if name not in BENCHMARKS:
        raise UsageError(
            f"unknown benchmark {name!r}; benchmarks: {', '.join(BENCHMARKS)}"
            f"{did_you_mean(BENCHMARKS, name)}"
        )
    return BENCHMARKS[name]
