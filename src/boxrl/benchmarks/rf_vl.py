"""RF20-VL and RF100-VL: many small domains, as the rf100vl package downloads them.

ROOT/<set>/{train,valid,test}/_annotations.coco.json with the images beside it. `train` of the
10-shot variant holds ten boxes per class and leaves everything else in its images unannotated.

Source: github.com/roboflow/rf100-vl (names and super-categories of the sets), arXiv 2505.20612;
published rows from github.com/ggare-cmu/DetPO.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from boxrl.benchmarks.record import Benchmark, Mean, Part, Published
from boxrl.errors import UsageError
from boxrl.evaluate.rows import Evaluation
from boxrl.guard.files import read_text
from boxrl.metrics.detection import mean_or_none
from boxrl.types import Sample

SUPER_CATEGORIES = {
    "Aerial": (
        "aerial-airport", "aerial-cows", "aerial-sheep",
        "apoce-aerial-photographs-for-object-detection-of-construction-equipment",
        "electric-pylon-detection-in-rsi", "floating-waste", "human-detection-in-floods", "sssod",
        "uavdet-small", "wildfire-smoke", "zebrasatasturias",
    ),
    "Document": (
        "activity-diagrams", "all-elements", "circuit-voltages", "invoice-processing",
        "label-printing-defect-version-2", "macro-segmentation", "paper-parts", "signatures",
        "speech-bubbles-detection", "wine-labels",
    ),
    "Flora & Fauna": (
        "aquarium-combined", "bees", "deepfruits", "exploratorium-daphnia", "grapes-5",
        "grass-weeds", "gwhd2021", "into-the-vale", "jellyfish", "marine-sharks", "orgharvest",
        "peixos-fish", "penguin-finder-seg", "pig-detection", "roboflow-trained-dataset",
        "sea-cucumbers-new-tiles", "thermal-cheetah", "tomatoes-2", "trail-camera",
        "underwater-objects", "varroa-mites-detection--test-set", "wb-prova", "weeds4",
    ),
    "Industrial": (
        "-grccs", "13-lkc01", "2024-frc", "aircraft-turnaround-dataset",
        "asphaltdistressdetection", "cable-damage", "conveyor-t-shirts", "dataconvert", "deeppcb",
        "defect-detection", "fruitjes", "infraredimageofpowerequipment",
        "ism-band-packet-detection", "l10ul502", "needle-base-tip-min-max", "recode-waste",
        "screwdetectclassification", "smd-components", "truck-movement", "tube", "water-meter",
        "wheel-defect-detection",
    ),
    "Medical": (
        "canalstenosis", "crystal-clean-brain-tumors-mri-dataset", "dentalai", "inbreast",
        "liver-disease", "nih-xray", "spinefrxnormalvindr", "stomata-cells", "train", "ufba-425",
        "urine-analysis1", "x-ray-id", "xray",
    ),
    "Other": (
        "buoy-onboarding", "car-logo-detection", "clashroyalechardetector", "cod-mw-warzone",
        "countingpills", "everdaynew", "flir-camera-objects", "halo-infinite-angel-videogame",
        "mahjong", "new-defects-in-wood", "orionproducts", "pill", "soda-bottles",
        "taco-trash-annotations-in-context", "the-dreidel-project",
    ),
    "Sport": (
        "actions", "aerial-pool", "ball", "bibdetection", "football-player-detection",
        "lacrosse-object-detection",
    ),
}  # fmt: skip
"""The sets of each super-category, by the names that the papers give these; the package calls
Medical `Lab Imaging` and Other `Misc`."""

RF20 = (
    "actions", "aerial-airport", "all-elements", "aquarium-combined", "defect-detection",
    "dentalai", "flir-camera-objects", "gwhd2021", "lacrosse-object-detection",
    "new-defects-in-wood", "orionproducts", "paper-parts", "recode-waste", "soda-bottles",
    "the-dreidel-project", "trail-camera", "water-meter", "wb-prova", "wildfire-smoke", "x-ray-id",
)  # fmt: skip

DETPO = "DetPO, README"
DETPO_PAPER = "DetPO, as others quote its table"
SOFT_PROMPT = "SoftPrompt, arXiv 2609.11310"
BENCHMARK_RUNS = "roboflow/rf-100-vl-benchmark, Qwen3.8-Max"
VERIFIED = "DetPO prompt, score p(Yes) of a verify question per box"
SUPER = ("Aerial", "Document", "Flora & Fauna", "Industrial", "Medical", "Sport", "Other")


def _mean(value: float, by_super: Sequence[float] = ()) -> dict[str, float]:
    return {"mean.mAP": value, **dict(zip(SUPER, by_super, strict=False))}


RF20_PUBLISHED = (
    Published("Qwen2.5-VL-7B", _mean(4.6), DETPO, "names"),
    Published("Qwen2.5-VL-7B", _mean(6.2), DETPO, "names and instructions"),
    Published("Qwen2.5-VL-7B, DetPO", _mean(9.1), DETPO, "one class per prompt, written score"),
    Published("Qwen2.5-VL-7B, DetPO, verify", _mean(11.9), DETPO, VERIFIED),
    Published("Qwen2.5-VL-72B", _mean(7.1), DETPO, "names"),
    Published("Qwen2.5-VL-72B", _mean(10.4), DETPO, "names and instructions"),
    Published("Qwen2.5-VL-72B, DetPO, verify", _mean(16.5), DETPO, VERIFIED),
    Published("Qwen3-VL-8B", _mean(10.4), DETPO_PAPER, "names"),
    Published("Qwen3-VL-8B", _mean(11.4), DETPO, "names and instructions"),
    Published("Qwen3-VL-8B, DetPO", _mean(15.3), DETPO, "one class per prompt, written score"),
    Published("Qwen3-VL-8B, DetPO, verify", _mean(17.5), DETPO, VERIFIED),
    Published("Qwen3-VL-30B-A3B, DetPO", _mean(19.4), DETPO, "one class per prompt, written score"),
    Published(
        "Qwen3-VL-30B-A3B, DetPO, verify",
        _mean(21.6, (16.1, 25.2, 36.5, 20.1, 0.2, 25.7, 18.4)), DETPO, VERIFIED,
    ),
    Published(
        "Gemini 3 Pro, DetPO, verify", _mean(26.3, (26.2, 35.7, 35.4, 23.3, 3.9, 28.2, 20.4)),
        DETPO, VERIFIED,
    ),
    Published(
        "Grounding DINO, zero-shot", _mean(16.8, (28.5, 5.1, 33.7, 12.8, 0.4, 5.1, 16.9)), DETPO
    ),
    Published("LLMDet, zero-shot", _mean(17.2), DETPO),
    Published("Qwen3-VL-8B, LoRA", _mean(13.2), DETPO_PAPER, "trained on its ten shots; names"),
    Published("Grounding DINO, tuned", _mean(33.4), DETPO_PAPER, "trained on its ten shots"),
    Published("Qwen3-VL-8B, LoRA of rank 64", _mean(14.2), SOFT_PROMPT, "names"),
    Published("Qwen3-VL-8B, LoRA of rank 64", _mean(14.8), SOFT_PROMPT, "names and instructions"),
    Published("Grounding DINO, tuned", _mean(35.7), SOFT_PROMPT, "trained on its ten shots"),
    Published("Qwen3.8-Max", _mean(24.37), BENCHMARK_RUNS, "names, all classes, every score 1"),
    Published("Qwen3.8-Max", _mean(24.46), BENCHMARK_RUNS, "names and instructions"),
)  # fmt: skip

PROTOCOL = (
    "COCO AP on the test split of every set, then the unweighted mean over sets; a super-category "
    "is the mean of its sets. At most 100 boxes per image and label, as DetPO; the benchmark's own "
    "detectors are scored with 500. `all` names every class in one prompt, `single_class` asks for "
    "one at a time, as DetPO does. Names are compared whole; the first evaluator took the first "
    "class whose name stands inside the answer's, which sends `Radio button` to `Button`. "
    "`--protocol instructions` puts each set's README.dataset.txt in front, as the papers' columns "
    "with instructions do."
)


INSTRUCTIONS = "instructions"
README = "README.dataset.txt"
"""What the makers of a set say of its classes; evaluators put the whole file in front."""


def with_instructions(samples: Sequence[Sample], root: Path) -> list[Sample]:
    """The samples with their set's README before the question.

    Args:
        samples: of the sets below the root.
        root: the data root.

    Raises:
        UsageError: a set has none.
    """
    texts: dict[str, str] = {}
    for part in {str(sample.meta["part"]) for sample in samples}:
        path = root / part / README
        if not path.is_file():
            raise UsageError(f"--protocol {INSTRUCTIONS}: {path} is missing")
        texts[part] = read_text(path).strip()
    return [replace(sample, question=texts[sample.meta["part"]]) for sample in samples]


def _part(name: str) -> Part:
    folder = f"{name}/test"
    return Part(name, (f"{folder}/_annotations.coco.json",), (folder,))


def _benchmark(
    name: str, title: str, sets: Sequence[str], published: tuple[Published, ...] = ()
) -> Benchmark:
    return Benchmark(
        name,
        title,
        "coco",
        tuple(map(_part, sets)),
        "mean.mAP",
        PROTOCOL,
        ("all", "single_class"),
        published=published,
        protocols=(INSTRUCTIONS,),
        means={
            "mean.mAP": Mean("mAP", (tuple(sets),)),
            **{name: Mean("mAP", (mine,)) for name, mine in _grouped(sets).items()},
        },
    )


def _grouped(sets: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Of these sets those of every super-category that has any."""
    chosen = {
        name: tuple([one for one in of if one in sets]) for name, of in SUPER_CATEGORIES.items()
    }
    return {name: of for name, of in chosen.items() if of}


RF_VL = (
    _benchmark("rf20vl", "RF20-VL: twenty small domains", RF20, RF20_PUBLISHED),
    _benchmark(
        "rf100vl",
        "RF100-VL: a hundred small domains",
        sorted(name for names in SUPER_CATEGORIES.values() for name in names),
    ),
)


def summarize_rf_vl(
    benchmark: Benchmark, _: Sequence[Sample], parts: Mapping[str, Evaluation], __: Path
) -> dict[str, Any]:
    """AP and AP50 of every set, of every super-category and of all.

    Args:
        benchmark: whose sets.
        parts: an evaluation per set that is there.

    Returns:
        `mean`, `super_categories` and `sets`, each with `mAP` and `AP50`; None stands where a set
        is missing.
    """
    figures = {
        part.name: {
            key: parts[part.name].metrics[key] if part.name in parts else None
            for key in ("mAP", "AP50")
        }
        for part in benchmark.parts
    }

    def mean(names: Sequence[str]) -> dict[str, Any]:
        return {k: mean_or_none([figures[name][k] for name in names]) for k in ("mAP", "AP50")}

    return {
        "mean": mean(list(figures)),
        "super_categories": {name: mean(sets) for name, sets in _grouped([*figures]).items()},
        "sets": figures,
    }
