"""Numbers in print, with what is known of how they were obtained."""

from __future__ import annotations

from boxrl.benchmarks.ovdeval import with_aspects
from boxrl.benchmarks.record import Published

OVD_BLOG = "VLM-R1-OVD blog, 2025-03-24"
REPORT = "VLM-R1 technical report, arXiv 2504.07615v2"
EARLIER_BLOG = "VLM-R1 blog, 2025-03-20"
PERCEPTION_R1 = "Perception-R1, detection results"
GRIFFON = "Griffon/Vision-R1, main results"
OVDEVAL = "OVDEval, docs/benchmark.png"
D_CUBE = "d-cube, eval_sota/README.md"
R1_V = "R1-V, README"


def _detection(m_ap: float, precision: float, recall: float) -> dict[str, float]:
    return {"mAP": m_ap, "precision@0.5": precision, "recall@0.5": recall}


def _d3(full: float, pres: float, absent: float) -> dict[str, float]:
    return {"full.mAP": full, "pres.mAP": pres, "abs.mAP": absent}


POSITIVE = "mode not stated; positive by its base figure"
ALL = "all 80 names in the prompt"
KL_TEXT = "of its text, not of its table; what else changed is not said"

PUBLISHED: dict[str, tuple[Published, ...]] = {
    "coco_pos_1": (
        Published("Qwen2.5-VL-3B", _detection(23.6, 70.14, 47.69), OVD_BLOG, POSITIVE),
        Published("3B, RL, fixed data, enhanced prompt", _detection(24.5, 68.2, 50.27), OVD_BLOG),
        Published("Qwen2.5-VL-7B", _detection(24.6, 71.53, 50.56), OVD_BLOG, POSITIVE),
        Published("7B, RL, fixed data, enhanced prompt", _detection(24.6, 68.1, 55.15), OVD_BLOG),
        Published("3B, RL on small objects", _detection(22.3, 71.39, 43.36), OVD_BLOG),
        Published("3B, RL on single boxes", _detection(21.1, 55.02, 49.46), OVD_BLOG),
        Published("3B, RL on regions", _detection(18.4, 66.01, 34.57), OVD_BLOG),
        Published("3B, RL on detection and regions", _detection(21.7, 63.98, 46.75), OVD_BLOG),
        Published("3B, RL on detection, one label", _detection(23.8, 65.58, 48.92), OVD_BLOG),
        Published("Qwen2.5-VL-3B", {"mAP": 23.7}, OVD_BLOG, "23.6 in its section 5.3"),
        Published("3B, RL on COCO", {"mAP": 23.5}, OVD_BLOG),
        Published("3B, SFT on COCO", {"mAP": 25.5}, OVD_BLOG),
        Published("Qwen2.5-VL-3B", _detection(14.2, 56.06, 33.79), REPORT, ALL),
        Published("Qwen2.5-VL-7B", _detection(14.4, 54.73, 33.36), REPORT, ALL),
        Published("3B, SFT on D3", _detection(18.5, 53.15, 39.4), REPORT, ALL),
        Published("3B, RL on D3", _detection(21.1, 67.34, 43.84), REPORT, ALL),
        Published("3B, RL on D3, AP50", {"mAP": 11.4}, REPORT, ALL),
        Published("3B, RL on D3, AP", {"mAP": 11.8}, REPORT, ALL),
        Published("7B, RL on D3", {"mAP": 21.9}, REPORT, ALL),
        Published("32B, RL on D3", {"mAP": 23.0}, REPORT, ALL),
        Published("Qwen2.5-VL-3B", {"mAP": 13.8}, EARLIER_BLOG, "14.2 in the report"),
        Published("Qwen2.5-VL-7B", {"mAP": 14.2}, EARLIER_BLOG, "14.4 in the report"),
        Published("3B, SFT on D3", {"mAP": 17.8}, EARLIER_BLOG, "18.5 in the report"),
        Published("3B, RL on D3", {"mAP": 20.1}, EARLIER_BLOG, "21.1 in the report"),
        Published("3B, RL, before od_length", {"mAP": 11.4}, EARLIER_BLOG, KL_TEXT),
        Published("3B, RL, od_length and no KL term", {"mAP": 18.8}, EARLIER_BLOG, KL_TEXT),
    ),
    "coco_pos_3": (
        Published("3B, RL, AP50", _detection(27.1, 70.17, 58.05), OVD_BLOG),
        Published("3B, RL, AP", _detection(27.4, 71.11, 57.86), OVD_BLOG),
        Published("3B, RL, weighted_sum", _detection(27.5, 71.32, 57.72), OVD_BLOG),
        Published("3B, RL, weighted_sum + cosine", _detection(29.3, 76.95, 59.11), OVD_BLOG),
        Published(
            "3B, RL, weighted_sum + cosine + repetition", _detection(28.8, 77.08, 57.98), OVD_BLOG
        ),
    ),
    "coco": (
        Published("Qwen2.5-VL-3B", {"mAP": 16.1, "AP50": 23.7, "AP75": 16.7}, PERCEPTION_R1, ALL),
        Published("its RL", {"mAP": 31.9, "AP50": 46.7, "AP75": 33.4}, PERCEPTION_R1, ALL),
        Published("Qwen2.5-VL-7B", {"mAP": 17.7, "AP50": 27.3, "AP75": 18.0}, GRIFFON),
        Published("7B, SFT", {"mAP": 23.6}, GRIFFON),
        Published("7B, SFT, Vision-R1", {"mAP": 26.6, "AP50": 40.0, "AP75": 27.8}, GRIFFON),
    ),
    "ovdeval": (
        Published(
            "Qwen2.5-VL-3B",
            with_aspects({
                "celebrity": 13.2, "logo": 26.5, "landmark": 21.3, "color": 2.9, "material": 11.6,
                "position": 47.9, "relationship": 13.1, "negation": 38.7,
            }) | {"five_aspect_mean.NMS-AP": 25.46},
            EARLIER_BLOG,
            "NMS-AP; an aspect is the mean of its files",
        ),
        Published(
            "Qwen2.5-VL-7B",
            with_aspects({
                "celebrity": 48.4, "logo": 35.8, "landmark": 44.6, "color": 3.0, "material": 10.5,
                "position": 40.5, "relationship": 16.2, "negation": 39.0,
            }) | {"five_aspect_mean.NMS-AP": 29.08},
            EARLIER_BLOG,
            "NMS-AP; an aspect is the mean of its files",
        ),
        Published(
            "3B, SFT on D3",
            with_aspects({
                "celebrity": 50.4, "logo": 34.9, "landmark": 50.7, "color": 4.3, "material": 7.6,
                "position": 33.7, "relationship": 13.1, "negation": 34.4,
            }) | {"five_aspect_mean.NMS-AP": 26.5},
            EARLIER_BLOG,
            "NMS-AP; an aspect is the mean of its files",
        ),
        Published(
            "3B, RL on D3",
            with_aspects({
                "celebrity": 55.0, "logo": 34.6, "landmark": 47.9, "color": 4.5, "material": 9.7,
                "position": 42.9, "relationship": 21.5, "negation": 37.7,
            }) | {"five_aspect_mean.NMS-AP": 31.01},
            EARLIER_BLOG,
            "NMS-AP; an aspect is the mean of its files",
        ),
        *(
            Published(model, {"five_aspect_mean.NMS-AP": value}, source, remark)
            for model, value, source, remark in (
                ("3B, RL on D3, AP50", 21.46, REPORT, ""),
                ("3B, RL on D3, AP", 21.68, REPORT, ""),
                ("7B, RL on D3", 32.42, REPORT, ""),
                ("32B, RL on D3", 36.79, REPORT, ""),
                ("3B, RL, before od_length", 12.0, EARLIER_BLOG, KL_TEXT),
                ("3B, RL, od_length and no KL term", 30.2, EARLIER_BLOG, KL_TEXT),
            )
        ),
        Published(
            "7B best",
            {
                "proper_noun AP": 53.33, "attribute AP": 25.1, "position AP": 65.4,
                "relationship AP": 26.1, "negation AP": 56.4, "five_aspect_mean.AP": 45.27,
            },
            OVD_BLOG,
            "called mAP; above the report's 32B (36.79), so perhaps trained on OVDEval or positive",
        ),
        Published(
            "3B best",
            {
                "proper_noun AP": 51.87, "attribute AP": 24.7, "position AP": 63.1,
                "relationship AP": 26.6, "negation AP": 50.9, "five_aspect_mean.AP": 43.43,
            },
            OVD_BLOG,
            "as above",
        ),
        Published(
            "Grounding DINO", {"nine_file_mean.NMS-AP": 25.3, "five_aspect_mean.NMS-AP": 29.72},
            OVDEVAL, "its own average is over nine files with COCO; 29.72 is recomputed",
        ),
        Published(
            "OmDet",
            {
                "color": 22.9, "relationship": 41.98, "five_aspect_mean.NMS-AP": 25.86,
                "nine_file_mean.NMS-AP": 25.15,
            },
            OVDEVAL, "its table says 25.86 where the other rows have nine-file means",
        ),
        Published("GLIP", {"nine_file_mean.NMS-AP": 18.37}, OVDEVAL),
    ),
    "d3": (
        Published("SPHINX-7B", _d3(10.6, 11.4, 7.9), D_CUBE, "intra, every score 1"),
        Published("Grounding DINO B", _d3(20.7, 20.1, 22.5), D_CUBE, "intra"),
        Published("OFA-DOD", _d3(21.6, 23.7, 15.4), D_CUBE, "intra"),
        Published("APE-L(D)", _d3(37.5, 38.8, 33.9), D_CUBE, "intra"),
        Published("Grounding DINO B", _d3(2.7, 2.4, 3.5), D_CUBE, "inter"),
        Published("OFA-DOD", _d3(5.7, 6.9, 2.3), D_CUBE, "inter"),
        Published("APE-L(D)", _d3(21.0, 22.0, 17.9), D_CUBE, "inter"),
    ),
    "refcoco": (
        Published("Qwen2.5-VL-3B", {"val": 88.7}, REPORT, "2,000 expressions, IoU > .5"),
        Published("3B, SFT", {"val": 88.7}, REPORT, "step 600"),
        Published("3B, RL", {"val": 88.7}, REPORT, "step 100"),
        Published("3B, RL", {"val": 90.55}, REPORT, "step 600"),
        Published(
            "Qwen2.5-VL-3B", {"mean of three sets": 73.73}, OVD_BLOG,
            "500 of each of refcoco, refcoco+, refcocog, boxes not rescaled",
        ),
        Published("3B, RL on COCO", {"mean of three sets": 73.87}, OVD_BLOG, "as above"),
        Published("3B, SFT on COCO", {"mean of three sets": 83.2}, OVD_BLOG, "as above"),
    ),
    "refcoco+": (
        Published("Qwen2.5-VL-3B", {"val": 81.95}, REPORT),
        Published("3B, SFT", {"val": 82.25}, REPORT, "step 600"),
        Published("3B, RL", {"val": 82.6}, REPORT, "step 100"),
        Published("3B, RL", {"val": 84.3}, REPORT, "step 600"),
    ),
    "refcocog": (
        Published("Qwen2.5-VL-3B", {"val": 86.05}, REPORT),
        Published("3B, SFT", {"val": 85.95}, REPORT, "step 600"),
        Published("3B, RL", {"val": 85.95}, REPORT, "step 100"),
        Published("3B, RL", {"val": 87.1}, REPORT, "step 600"),
    ),
    "refgta": (
        Published("Qwen2.5-VL-3B", {"test": 71.8}, OVD_BLOG, "500 expressions"),
        Published("3B, RL on COCO", {"test": 67.4}, OVD_BLOG, "500 expressions"),
        Published("3B, SFT on COCO", {"test": 70.4}, OVD_BLOG, "500 expressions"),
    ),
    "lisa": (
        Published("Qwen2.5-VL-3B", {"test": 56.51}, REPORT),
        Published("3B, SFT", {"test": 54.82}, REPORT, "step 600"),
        Published("3B, RL", {"test": 61.82}, REPORT, "step 100"),
        Published("3B, RL", {"test": 63.14}, REPORT, "step 600"),
    ),
    "superclevr": (
        Published("Qwen2-VL-2B", {"accuracy": 48.0}, R1_V),
        Published("2B, GRPO, 100 steps", {"accuracy": 82.5}, R1_V),
        Published("old trainer (734e46)", {"accuracy": 85.0}, OVD_BLOG),
        Published("new trainer (a301eb)", {"accuracy": 87.0}, OVD_BLOG),
        Published("vLLM (85d9f4)", {"accuracy": 87.0}, OVD_BLOG, "that commit is not public"),
    ),
    "odinw13": (
        Published(
            "Qwen2.5-VL-7B", {"mean.mAP": 37.0}, GRIFFON,
            "one prompt per name, and only for names that the image holds",
        ),
        Published("7B, SFT", {"mean.mAP": 35.0}, GRIFFON, "as above"),
        Published("7B, SFT, Vision-R1", {"mean.mAP": 46.0}, GRIFFON, "as above"),
    ),
}  # fmt: skip
"""Benchmark -> results."""
