"""Generation with vLLM in this process, on one machine; several machines are servers.

vLLM batches continuously, so a chunk of many completions is handed over at once.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from PIL.Image import Image

from boxrl.data.predictions import Prediction
from boxrl.errors import MissingExtra, UsageError
from boxrl.families import Family
from boxrl.generation.box_logprobs import Token, box_logprobs
from boxrl.generation.marks import has_marks
from boxrl.generation.model_folders import image_token_ids
from boxrl.generation.predict import Draw, Keep, Sampling, failed_row, show_images
from boxrl.generation.questions import Questions
from boxrl.generation.replies import CUT, FAILED


class OfflineVllm:
    """A model loaded by vLLM."""

    def __init__(self, folder: Path, questions: Questions, options: dict[str, Any]) -> None:
        """Load the model.

        Args:
            folder: model folder.
            questions: how samples are put.
            options: vLLM's engine arguments as they stand: `dtype`, `tensor_parallel_size`,
                `max_model_len`, `gpu_memory_utilization`, ...

        Raises:
            MissingExtra: vLLM is not installed.
            UsageError: vLLM refuses the options or the model.
        """
        try:
            import vllm
        except ImportError as error:
            raise MissingExtra("--engine vllm", "vllm") from error
        self.versions = {"vllm": vllm.__version__} | {
            name: version(name) for name in ("torch", "transformers", "torchvision")
        }
        self.questions = questions
        self._params = vllm.SamplingParams
        self._banned = {token: -100.0 for token in image_token_ids(folder, questions.family)}
        self._marked = has_marks(folder, questions.family)
        try:
            self._llm = vllm.LLM(model=str(folder), **_arguments(questions.family, options))
        except (ValueError, TypeError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            hint = (
                "; replicas are servers: vllm serve --data-parallel-size N, then --engine openai"
                if "data_parallel_size" in options
                else "; see --engine-arg"
            )
            raise UsageError(f"{folder}: vLLM cannot load it ({reason:.300}){hint}") from error

    def run(self, wanted: Sequence[Draw], done: set[str], sampling: Sampling, keep: Keep) -> None:
        """Answer what is not done, chunk by chunk; see `predict.Engine`."""
        missing = [draw for draw in wanted if draw.id not in done]
        for start in range(0, len(missing), sampling.batch_size):
            keep(self._answer(missing[start : start + sampling.batch_size], sampling))

    def _answer(self, batch: Sequence[Draw], sampling: Sampling) -> list[Prediction]:
        """One row per draw; those whose images cannot be shown end in error."""
        shown = show_images(self.questions, batch)
        rows = self._halving(shown.draws, shown.images, sampling) if shown.draws else []
        return rows + shown.failed

    def _halving(
        self, batch: Sequence[Draw], images: Mapping[str, Image], sampling: Sampling
    ) -> list[Prediction]:
        """One row per draw; a question that vLLM refuses is found by halving."""
        try:
            return self._generate(batch, images, sampling)
        except ValueError as error:
            if len(batch) == 1:
                return [failed_row(batch[0], f"vLLM: {error}")]
        half = len(batch) // 2
        parts = batch[:half], batch[half:]
        return [row for part in parts for row in self._halving(part, images, sampling)]

    def _generate(
        self, batch: Sequence[Draw], images: Mapping[str, Image], sampling: Sampling
    ) -> list[Prediction]:
        outputs = self._llm.chat(
            [
                self.questions.messages(
                    draw.sample, {"type": "image_pil", "image_pil": images[draw.sample.id]}
                )
                for draw in batch
            ],
            [self._sampling_params(draw, sampling) for draw in batch],
            use_tqdm=False,
            chat_template_kwargs=self.questions.thinking.template_arguments or None,
        )
        for draw, output in zip(batch, outputs, strict=True):
            self._check_size(draw, output.prompt_token_ids or ())
        return [
            self._prediction(draw, output, sampling)
            for draw, output in zip(batch, outputs, strict=True)
        ]

    def _check_size(self, draw: Draw, prompt: Sequence[int]) -> None:
        """The image must stand in the prompt at the size that places the boxes.

        Raises:
            UsageError: vLLM made another size of it.
        """
        family = self.questions.family
        if family.frame != "resized" or not self._banned:
            return
        seen = max(Counter(token for token in prompt if token in self._banned).values(), default=0)
        expected = family.count_image_tokens(draw.sample.size_wh)
        if seen != expected:
            raise UsageError(
                f"sample {draw.sample.id!r}: vLLM shows its image as {seen} tokens, which the "
                f"limits of {family.min_pixels:,} to {family.max_pixels:,} pixels make {expected}; "
                "name the model folder's own by --min-pixels and --max-pixels"
            )

    def _sampling_params(self, draw: Draw, sampling: Sampling) -> Any:
        return self._params(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_new_tokens,
            seed=draw.seed(sampling.seed) if sampling.temperature > 0 else None,
            # 0: of the chosen token alone
            logprobs=sampling.first_tokens or (0 if sampling.logprobs else None),
            logit_bias=self._banned or None,
            skip_special_tokens=not self._marked,
        )

    def _prediction(self, draw: Draw, request: Any, sampling: Sampling) -> Prediction:
        output = request.outputs[0]
        if output.finish_reason in FAILED:
            return failed_row(draw, f"vLLM ended the answer with {output.finish_reason!r}")
        family, size = self.questions.family, draw.sample.size_wh
        input_size = family.input_size_wh(size)
        boxes = None
        first: dict[str, float] | None = None
        if sampling.first_tokens and output.logprobs:
            first = {}
            for token in output.logprobs[0].values():
                text = token.decoded_token or ""
                first[text] = min(1.0, first.get(text, 0.0) + math.exp(min(token.logprob, 0.0)))
        if sampling.logprobs and output.logprobs is not None:
            chosen = [
                step[token] for step, token in zip(output.logprobs, output.token_ids, strict=True)
            ]
            tokens = [Token(each.decoded_token or "", each.logprob) for each in chosen]
            boxes = box_logprobs(output.text, tokens, family, draw.sample, input_size)
        return Prediction(
            id=draw.id,
            completion=output.text,
            n_tokens=len(output.token_ids),
            finish_reason="length" if output.finish_reason in CUT else "stop",
            input_size_wh=input_size,
            box_logprobs=boxes,
            first_tokens=first,
            n_prompt_tokens=len(request.prompt_token_ids or ()) or None,
        )


def _arguments(family: Family, options: dict[str, Any]) -> dict[str, Any]:
    """Engine arguments of vLLM, the family's pixel limits among them."""
    arguments: dict[str, Any] = {"limit_mm_per_prompt": {"image": 1, "video": 0}} | options
    if family.has_limits:
        named = arguments.get("mm_processor_kwargs") or {}
        arguments["mm_processor_kwargs"] = named | {"size": family.processor_size}
    return arguments
