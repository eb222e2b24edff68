"""Every term of the docs and of a report's page, each explained once."""

from __future__ import annotations

import re

from markupsafe import Markup, escape

GLOSSARY = {
    "accuracy": "share of right answers to questions that are not answered with boxes",
    "accuracy on negatives": "how often `None` is said where it is right",
    "adapter": (
        "1. LoRA weights on top of a model. 2. in [rewards](rewards.md): the class or "
        "function through which another trainer calls boxrl's rewards"
    ),
    "advantage": (
        "how much better a completion's reward is than its group's mean; what GRPO learns from"
    ),
    "Answers read in part": (
        "share of answers of which something cannot be read, such as JSON that breaks behind a box"
    ),
    "AP50": "average precision at IoU .50, the mean over labels",
    "AP75": "average precision at IoU .75, the mean over labels",
    "arm": (
        "one setting in an [experiment](howto/experiments.md): the base recipe with a key or "
        "two changed"
    ),
    "blind": (
        "answered by a policy that boxes every object perfectly and never reads the question;"
        " a model that scores no better does not use the question"
    ),
    "blind baseline": (
        "a detector that never reads the question: it draws every annotated object perfectly,"
        " under a random asked label. A model that scores no better does not use the question"
    ),
    "boxes of unasked labels": "boxes under names that the question did not ask for",
    "Boxes under unasked labels": "share of boxes under names that the question did not ask for",
    "Boxes written per box asked for": (
        "predicted boxes by target boxes; far above 1, the model guesses"
    ),
    "calibration error (D-ECE)": (
        "how far a box's confidence is from how often such boxes are right; 0 is best"
    ),
    "cell": "one arm under one random seed: one training and its evaluations",
    "claim": (
        "a sentence of an experiment, as the difference of one metric between two arms; its "
        "verdict is held, failed or undecided"
    ),
    "completion": "everything that a model writes after the prompt: thinking and answer",
    "Completion length": "tokens of a completion, the mean",
    "control": "an evaluation with the question or the image taken away",
    "crowd region": (
        "an annotation of many objects at once (COCO's `iscrowd`); neither hit nor miss"
    ),
    "Cut at the length limit": "share of completions that reach the most tokens allowed",
    "difference": "the second evaluation minus the first, with its interval over the same images",
    "empty": "the answer says that there are none",
    "Entropy": "how undecided the model is about the next token; near 0 it answers always alike",
    "error kinds": (
        "TIDE's: classification, localization, both, duplicate, background, missed; see "
        "[reports](howto/reports.md#what-a-box-is-called)"
    ),
    "evaluation folder": (
        "one evaluation on disk, RUN/evals/NAME or that of `boxrl evaluate --out`: "
        "metrics.json says what it is of and what came out, rows.jsonl holds every judged "
        "sample"
    ),
    "exploit": (
        "an answer that is wrong on purpose to see whether a reward pays for it; `boxrl "
        "doctor rewards` plays 19"
    ),
    "F1 @0.5": "harmonic mean of precision and recall at IoU .5, over all boxes together",
    "F1 @0.5, best threshold": "the highest F1 @0.5 that leaving out unsure boxes gives",
    "family": "models that read images and write boxes alike, such as `qwen2.5-vl`",
    "first-box accuracy": (
        "where the image also holds objects that were not asked for: how often the first box "
        "hits (IoU 0.5) one that was"
    ),
    "format rate": (
        "share of completions in the form that was asked for: one thought, then one answer"
    ),
    "frame": (
        "the coordinates that a model writes boxes in: pixels of the original image, pixels "
        "of the resized image, or a grid such as 0 to 1000"
    ),
    "gained and lost": (
        "samples that only the second evaluation, or only the first, answers without fault"
    ),
    "gold answer": (
        "the right answer of a sample, written as the model should write it; `boxrl validate`"
        " checks that it earns every reward's maximum"
    ),
    "Gradient norm": "size of the gradient before clipping; spikes are steps that went far",
    "grounding": "a task with one expression and its box, such as RefCOCO",
    "grounding @0.5": "how often the first box hits the one object that was meant, at IoU .5",
    "group": "the completions of one prompt in one GRPO step (`train.num_generations`)",
    "Groups without a difference": (
        "share of groups whose completions all earn the same, so that they teach nothing"
    ),
    "interval": (
        "95 %, in square brackets: bootstrap over images for one run, Student's t over seeds "
        "for experiments"
    ),
    "KL to the start": (
        "how far the model's answers have moved from those of the model it started from"
    ),
    "label": (
        "the name of an object, a text; compared without regard to case and runs of white space"
    ),
    "Learning rate": "size of the optimizer's steps",
    "Loss": "what the optimizer lowers; in GRPO it says little, the reward does",
    "malformed": "the answer could not be read",
    "mAP": "COCO's average precision: the mean over IoU .50 to .95 and over labels",
    "mAP, order-free": (
        "mAP with all boxes of equal confidence as one point of the precision-recall curve, "
        "so that the order of boxes does not matter"
    ),
    "mean F1": (
        "the reward `f1`: a sample's F1 averaged over IoU .50 to .95, then over samples; 1 "
        "for a negative that is answered with none"
    ),
    "missing": "there is no answer tag; evaluation may read the whole text then",
    "mode": (
        "which labels a prompt asks for: `all` names of the data set, `positive` (those in "
        "the image), `one_box`, `single_class`"
    ),
    "negative": "a sample whose labels are all absent from the image; the right answer is `None`",
    "ok": "the answer was read as a whole",
    "order-free AP": "AP with all boxes of equal confidence as one point of the curve",
    "others": "annotated objects that were not asked for, `meta.others`",
    "partial": "some items of the answer could not be used, or it was cut",
    "precision @0.5": "share of the boxes that are right at IoU .5",
    "prompt": "the question as text: the problem and the instruction how to answer",
    "protocol": "the rules a metric was computed by; printed with it, and compared before runs are",
    "Readable answers": "share of answers that could be read",
    "recall @0.5": "share of the targets that a box finds at IoU .5",
    "recipe": "the YAML file of one training",
    "Repeated boxes": "share of boxes that repeat another one of the same answer",
    "reward": "a number for one completion, from its boxes and the target boxes",
    "Reward, weighted sum": (
        "the sum of the recipe's rewards with their weights, the mean over completions; what "
        "GRPO raises"
    ),
    "Rewards by name": "each reward's mean over completions, before weighting",
    "run folder": "the folder that `out` of a recipe names",
    "sample": "one image with one question",
    "seed": "the start of a random number generator, nothing else",
    "shared prefix": (
        "what several rows begin with, run through the model once: the prompt of a group in "
        "GRPO, what its completions begin with alike, and what [prompts of one "
        "image](#prompts-of-one-image) begin with"
    ),
    "take-off": "the step at which a reward is past half of its rise for good",
    "target": "a ground-truth box with its label",
    "tiny VLM": (
        "two small models inside the package: `tiny` (under-trained, so that RL has something"
        " to repair) and `tiny-taught`; see [tiny](tiny.md)"
    ),
    "Token accuracy": "share of the gold answer's tokens that the model would have written itself",
    "tokens, mean": "mean length of the completions under 3,000 tokens",
    "truncated": "share of completions that were cut at the limit of tokens",
    "VLM-R1-OVD blog": (
        "[the text](https://om-ai-lab.github.io/2025_03_24.html) whose findings boxrl "
        "implements and tests"
    ),
    "world": "a kind of synthetic scene, such as `crowded`; see [worlds](worlds.md)",
    "zero variance": "a group whose completions all earn the same; it teaches nothing",
}
"""Meanings by term, in Markdown; docs/concepts.md shows them all, a page those that it uses."""


def glossary_table() -> str:
    """The glossary as the table of docs/concepts.md."""
    rows = [f"| {term} | {GLOSSARY[term]} |" for term in sorted(GLOSSARY, key=str.casefold)]
    return "\n".join(["| word | meaning |", "|---|---|", *rows])


class Terms:
    """Terms that a page uses, each a link to its meaning, which is read on hover too.

    Attributes:
        used: the terms so far, by name.
    """

    def __init__(self) -> None:
        """A page that has used none."""
        self.used: dict[str, str] = {}

    def __call__(self, name: str) -> Markup:
        """The name as a link to its entry; what is no term stays as it is, escaped."""
        if name not in GLOSSARY:
            return escape(name)
        self.used[name] = GLOSSARY[name].replace("`", "")
        link = Markup('<a class="term" href="#term-{}" title="{}">{}</a>')
        return link.format(anchor(name), self.used[name], name)


def anchor(name: str) -> str:
    """A term as the end of an element's id.

    >>> anchor("mAP, order-free")
    'map-order-free'
    """
    return re.sub(r"[^a-z0-9]+", "-", name.casefold()).strip("-")
