"""Controls: the same samples with the question or the image taken away.

A detector that ignores the question can still score. Its answers to these samples, scored
against the original targets, show how much of a score needs question and image.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from boxrl.errors import UsageError
from boxrl.types import Sample, fold_label

Control = Literal["shuffled_labels", "absent_labels", "blank_image"]


def apply_control(samples: Sequence[Sample], control: Control, seed: int) -> list[Sample]:
    """Samples to be answered instead, ids and objects unchanged.

    Args:
        samples: the original samples.
        control: `shuffled_labels` asks each sample for the labels of another one;
            `absent_labels` asks for labels that are nowhere in its image;
            `blank_image` leaves the sample as it is (the engine shows a grey image).
        seed: of the shuffle and the choice.

    Raises:
        UsageError: no label of the file is absent from some image.
    """
    rng = random.Random(f"{control}/{seed}")
    if control == "blank_image":
        return list(samples)
    if control == "shuffled_labels":
        order = rng.sample(range(len(samples)), len(samples))
        # Rotating a random order gives every sample the labels of another one.
        donors = {order[k - 1]: order[k] for k in range(len(order))}
        return [replace(s, labels=samples[donors[k]].labels) for k, s in enumerate(samples)]
    known = sorted({label for sample in samples for label in sample.labels})
    return [replace(sample, labels=_absent(sample, known, rng)) for sample in samples]


def _absent(sample: Sample, known: Sequence[str], rng: random.Random) -> tuple[str, ...]:
    there = {item.label for item in sample.objects} | set(sample.labels)
    there |= {other["label"] for other in sample.meta.get("others", [])}
    there |= set(sample.meta.get("unverified", ()))
    known = sample.meta.get("verified_absent", known)  # where not every label was looked for
    there = set(map(fold_label, there))
    candidates = [label for label in known if fold_label(label) not in there]
    if not candidates:
        raise UsageError(
            f"control absent_labels: no label of the file is known to be absent from the image of "
            f"sample {sample.id!r}; ask for more labels in the file or use shuffled_labels"
        )
    return tuple(rng.sample(candidates, min(len(sample.labels), len(candidates))))
