"""Generation with transformers: batched, left-padded, each prompt run once for all its draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from itertools import groupby
from typing import Any

import torch
import transformers
from jinja2 import TemplateError
from PIL import Image
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from boxrl.data.predictions import Prediction
from boxrl.engines.loading import REFUSALS, as_asked, banned_token_ids, end_token_ids, refusal
from boxrl.engines.prefix import live_rows
from boxrl.engines.prefix.kinds import unshared
from boxrl.engines.prefix.prefill import generate_draws
from boxrl.engines.prefix.shared_prefix import unwrap
from boxrl.errors import UsageError
from boxrl.generation.box_logprobs import Token, box_logprobs
from boxrl.generation.marks import reader
from boxrl.generation.predict import (
    Draw,
    Keep,
    Sampling,
    Shown,
    batches,
    draws,
    failed_row,
    show_images,
)
from boxrl.generation.questions import Questions
from boxrl.types import Sample

OUT_OF_MEMORY = "out of memory with one completion at a time; lower --max-new-tokens"


class Generator:
    """A loaded model that answers samples."""

    def __init__(self, model: Any, processor: Any, questions: Questions) -> None:
        self.versions = {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "torchvision": version("torchvision"),
            "image_processor": type(processor.image_processor).__name__,
        }
        self.model = model
        self.processor = processor
        self.questions = questions
        self.banned = banned_token_ids(processor, questions.family)
        self.eos = torch.tensor(end_token_ids(model, processor.tokenizer), device=model.device)
        self._read = reader(processor.tokenizer, questions.family)

    def answer(self, samples: Sequence[Sample], sampling: Sampling) -> list[Prediction]:
        """Every draw of the samples, in order, generated as one batch."""
        wanted = draws(samples, sampling.n)
        rows = {row.id: row for row in self._answer(wanted, sampling)}
        return [rows[draw.id] for draw in wanted]

    def run(self, wanted: Sequence[Draw], done: set[str], sampling: Sampling, keep: Keep) -> None:
        """Answer what is not done, batch by batch; see `predict.Engine`."""
        # Whole groups, so that a prompt is run once for all its draws.
        size = max(sampling.batch_size // sampling.n, 1) * sampling.n
        for batch in batches(wanted, min(size, max(sampling.batch_size, 1)), done):
            keep(self._answer(batch, sampling))

    def _answer(self, batch: Sequence[Draw], sampling: Sampling) -> list[Prediction]:
        """One row per draw; those whose images cannot be shown end in error."""
        shown = show_images(self.questions, batch)
        try:
            rows = self._halving(shown.draws, shown.images, sampling) if shown.draws else []
        except REFUSALS:
            refused = self._refused(shown)
            if not refused:
                raise
            others = [draw for draw in shown.draws if draw.sample.id not in refused]
            rows = self._halving(others, shown.images, sampling) if others else []
            rows += [failed_row(d, refused[d.sample.id]) for d in shown.draws if d not in others]
        return rows + shown.failed

    def _refused(self, shown: Shown) -> dict[str, str]:
        """What the processor says against images, by sample."""
        image_processor = self.processor.image_processor
        said = {key: refusal(image_processor, image) for key, image in shown.images.items()}
        return {
            key: f"sample {key!r}: the image processor refuses its image ({words})"
            for key, words in said.items()
            if words
        }

    def _halving(
        self, batch: Sequence[Draw], images: Mapping[str, Image.Image], sampling: Sampling
    ) -> list[Prediction]:
        """One row per draw; a batch that runs out of memory is halved and tried again."""
        try:
            return self._generate(batch, images, sampling)
        except torch.OutOfMemoryError:
            pass  # leaves the except block first: the error holds on to the batch's tensors
        torch.cuda.empty_cache()
        if len(batch) == 1:
            return [failed_row(batch[0], OUT_OF_MEMORY)]
        half = len(batch) // 2
        parts = batch[:half], batch[half:]
        return [row for part in parts for row in self._halving(part, images, sampling)]

    @torch.no_grad()
    def _generate(
        self, batch: Sequence[Draw], images: Mapping[str, Image.Image], sampling: Sampling
    ) -> list[Prediction]:
        prompts, group = [draw.sample for draw in batch], 1
        if unshared(unwrap(self.model)) is None:
            prompts, group = _groups(batch)
        inputs = self._encode(prompts, images)
        # A batch's randomness follows from what is in it, so that a resumed run repeats it.
        torch.manual_seed(batch[0].seed(sampling.seed))
        recorder, first = ChosenLogprobs(), FirstTokens(sampling.first_tokens)
        options = self._options(sampling)
        if sampling.logprobs or sampling.first_tokens:
            wanted = (sampling.logprobs, recorder), (sampling.first_tokens, first)
            options["logits_processor"] = LogitsProcessorList([it for asked, it in wanted if asked])
        with as_asked(unwrap(self.model)):
            if group == 1:
                output = live_rows.generate(self.model, **inputs, **options)
            else:
                output = generate_draws(self.model, inputs, group, **options)
        completions = output[:, inputs["input_ids"].shape[1] :]
        logprobs = recorder.finish(completions).tolist() if sampling.logprobs else None
        n_prompt = inputs["attention_mask"].sum(1).repeat_interleave(group).tolist()
        rows = [
            replace(
                self._prediction(draw, ids, logprobs[row] if logprobs else None),
                n_prompt_tokens=n_prompt[row],
            )
            for row, (draw, ids) in enumerate(zip(batch, completions, strict=True))
        ]
        if not sampling.first_tokens:
            return rows
        likely = first.texts(self.processor.tokenizer)
        return [replace(row, first_tokens=texts) for row, texts in zip(rows, likely, strict=True)]

    @torch.no_grad()
    def draw(self, samples: Sequence[Sample], sampling: Sampling) -> tuple[Any, Tensor]:
        """One completion of each sample, as tokens.

        Args:
            samples: whose images can be shown.
            sampling: how they are drawn.

        Returns:
            The model's inputs, and completions of ids, "b c", padded behind their end.
        """
        shown = show_images(self.questions, draws(samples, 1))
        inputs = self._encode(samples, shown.images)
        torch.manual_seed(sampling.seed)
        with as_asked(unwrap(self.model)):
            output = live_rows.generate(self.model, **inputs, **self._options(sampling))
        return inputs, output[:, inputs["input_ids"].shape[1] :]

    def _options(self, sampling: Sampling) -> dict[str, Any]:
        """`generate`'s options: what Sampling says, and no token that stands for an image."""
        drawn = sampling.temperature > 0
        options: dict[str, Any] = {
            "max_new_tokens": sampling.max_new_tokens,
            "do_sample": drawn,
            "top_k": 0 if drawn else None,  # else transformers' own default holds, 50
            "suppress_tokens": self.banned or None,
            "eos_token_id": self.eos.tolist(),
        }
        if drawn:
            options |= {"temperature": sampling.temperature, "top_p": sampling.top_p}
        return options

    def _encode(self, samples: Sequence[Sample], images: Mapping[str, Image.Image]) -> Any:
        conversations = [
            self.questions.messages(sample, {"type": "image", "image": images[sample.id]})
            for sample in samples
        ]
        try:
            inputs = self.processor.apply_chat_template(
                conversations,
                add_generation_prompt=True,
                **self.questions.thinking.template_arguments,
                tokenize=True,
                return_dict=True,
                processor_kwargs={"padding": True, "return_tensors": "pt"},
            )
        except TemplateError as error:
            raise UsageError(f"the model's chat template cannot be rendered ({error})") from error
        return inputs.to(self.model.device)

    def _prediction(self, draw: Draw, ids: Tensor, logprobs: list[float] | None) -> Prediction:
        ended = torch.isin(ids, self.eos)
        stopped = bool(ended.any())
        length = int(ended.int().argmax()) + 1 if stopped else len(ids)
        tokenizer, family = self.processor.tokenizer, self.questions.family
        completion = self._read(ids[:length].tolist())
        input_size = family.input_size_wh(draw.sample.size_wh)
        boxes = None
        if logprobs is not None:
            texts = [tokenizer.decode([token]) for token in ids[:length].tolist()]
            tokens = [Token(*pair) for pair in zip(texts, logprobs[:length], strict=True)]
            boxes = box_logprobs(completion, tokens, family, draw.sample, input_size)
        return Prediction(
            id=draw.id,
            completion=completion,
            n_tokens=length,
            finish_reason="stop" if stopped else "length",
            input_size_wh=input_size,
            box_logprobs=boxes,
        )


class ChosenLogprobs(LogitsProcessor):
    """Keeps the log-probability of every chosen token, at temperature 1.

    `generate` can return all scores, but a thousand steps of a batch over a vocabulary of
    150,000 fill a GPU. Here one step's scores stay until the next step shows what was chosen.
    """

    def __init__(self) -> None:
        self._columns: list[Tensor] = []
        self._scores: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Called before every token with the scores it is chosen by; returns them unchanged."""
        self._choose(input_ids[:, -1])
        self._scores = scores.float().log_softmax(-1)
        return scores

    def finish(self, completions: Tensor) -> Tensor:
        """Log-probabilities of `completions`, Float "b c"; call once, after `generate`."""
        self._choose(completions[:, -1])
        return torch.stack(self._columns, 1)

    def _choose(self, tokens: Tensor) -> None:
        if self._scores is not None:
            self._columns.append(self._scores.gather(1, tokens[:, None])[:, 0])


class FirstTokens(LogitsProcessor):
    """Keeps the likeliest first tokens of every row, at temperature 1."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._found: tuple[Tensor, Tensor] | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Called before every token; returns the scores unchanged."""
        if self._found is None:
            likely = scores.float().softmax(-1)
            self._found = tuple(likely.topk(min(self._most, likely.shape[-1])))  # type: ignore[assignment]
        return scores

    def texts(self, tokenizer: Any) -> list[dict[str, float]]:
        """Per row the tokens' texts and their probabilities; call once, after `generate`."""
        assert self._found is not None
        rows = []
        for values, ids in zip(*(part.tolist() for part in self._found), strict=True):
            texts: dict[str, float] = {}
            for value, token in zip(values, ids, strict=True):
                text = tokenizer.decode([token])
                texts[text] = min(1.0, texts.get(text, 0.0) + value)
            rows.append(texts)
        return rows


def _groups(batch: Sequence[Draw]) -> tuple[list[Sample], int]:
    """The samples to be encoded, and how many rows in a row belong to each.

    A batch that was halved in the middle of a sample's draws is encoded row by row.
    """
    runs = [list(rows) for _, rows in groupby(batch, key=lambda draw: draw.sample.id)]
    if len({len(run) for run in runs}) == 1:
        return [run[0].sample for run in runs], len(runs[0])
    return [draw.sample for draw in batch], 1
