"""Generation whose rows leave the batch as they end, where transformers runs all of them on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria, StoppingCriteriaList

from boxrl.engines.prefix.images import BY_IMAGE, BY_PART, BY_TOKEN
from boxrl.engines.prefix.kv_cache import cache_argument, draws_per_prompt, give_room, select_rows
from boxrl.engines.prefix.shared_prefix import unwrap

EVERY = 8
"""Tokens between two looks at what has ended: a look waits for the GPU."""

WORTH = 0.8
"""Rows leave where at most this share of them stays: the cache is copied for it."""

KNOWN = frozenset({*BY_TOKEN, *BY_IMAGE, *BY_PART, "position_ids"})
"""Inputs of which it is known what belongs to a row."""

GROWING = (None, "dynamic", "hybrid")
"""Settings of `cache_implementation` under which caches grow; transformers ignores the last."""


@torch.no_grad()
def generate(model: Any, **options: Any) -> Any:
    """`model.generate`, which runs the model on the rows that have not ended.

    Law: the same tokens, greedy, and sampled with the same random state, up to the rounding of
    batches of other sizes. One thread at a time may generate with a model.

    Args:
        model: unwrapped from DDP; PEFT is fine.
        options: what `generate` takes, inputs among them.

    Returns:
        What `generate` returns, Long "b p+c": prompts and completions. Where it is asked for more,
        scores of ended rows mean nothing, and the cache has no such rows.
    """
    base = unwrap(model)
    ends, cache = _setting(base, options, "eos_token_id"), cache_argument(type(base).forward)
    alone = (_setting(base, options, "num_beams") or 1) == 1
    grows = _setting(base, options, "cache_implementation") in GROWING
    if ends is None or cache is None or not alone or not grows or base.config.is_encoder_decoder:
        return model.generate(**options)
    rows = _LiveRows(torch.as_tensor(ends, device=base.device), cache)
    given = options.pop("stopping_criteria", None) or ()
    hooks = (
        base.register_forward_pre_hook(rows.before, with_kwargs=True),
        base.register_forward_hook(rows.after, with_kwargs=True),
    )
    try:
        return model.generate(**options, stopping_criteria=StoppingCriteriaList([*given, rows]))
    finally:
        for hook in hooks:
            hook.remove()


def _setting(base: Any, options: dict[str, Any], name: str) -> Any:
    """What `generate` goes by: the option itself, the config among the options, the model's."""
    if name in options:
        return options[name]
    named = getattr(options.get("generation_config"), name, None)
    return getattr(base.generation_config, name) if named is None else named


class _LiveRows(StoppingCriteria):
    """Hooks around a model's forward: `generate` sees all rows, the model those that go on.

    As a criterion that stops nothing it is told every token, whatever the model is called with.
    """

    def __init__(self, ends: Tensor, cache: str) -> None:
        """End at one of `ends`, Long; `cache` is the model's argument of that name."""
        self._ends = ends
        self._argument = cache
        self._cache: Any = None
        self._known = True
        self._tokens = 0
        self._ended = torch.empty(0)
        self._rows = torch.empty(0)

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        """After every token: note what has ended, Long "b n"; nothing is to stop, Bool "b"."""
        last = input_ids[:, -1]
        if not self._tokens:
            self._rows = torch.arange(len(last), device=last.device)
            self._ended = torch.zeros_like(last, dtype=torch.bool)
            if self._cache is not None:
                give_room(self._cache)
        self._ended |= torch.isin(last, self._ends)
        self._tokens += 1
        if self._cache is not None and self._known and self._tokens % EVERY == 0:
            self._leave()
        return torch.zeros_like(self._ended)

    def before(self, _: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """The inputs of the rows that go on."""
        if self._cache is None:
            self._cache = kwargs.get(self._argument)
        if not self._tokens or not self._is_step(kwargs):
            return args, kwargs
        known = not args and all(self._is_known(name, x) for name, x in kwargs.items())
        self._known = self._known and known
        if len(self._rows) == len(self._ended):
            return args, kwargs
        return args, {name: self._of_rows(name, x) for name, x in kwargs.items()}

    def after(self, _: Any, __: Any, kwargs: dict[str, Any], output: Any) -> Any:
        """The output with a row for each of the batch; the logits of ended ones are 0."""
        if len(self._rows) < len(self._ended) and self._is_step(kwargs):
            logits = output.logits.new_zeros(len(self._ended), *output.logits.shape[1:])
            logits[self._rows] = output.logits
            output.logits = logits
        return output

    def _is_step(self, kwargs: dict[str, Any]) -> bool:
        """Whether it is `generate` that calls the model, and not what `generate` calls."""
        return self._cache is not None and kwargs.get(self._argument) is self._cache

    def _is_known(self, name: str, x: Any) -> bool:
        if name in KNOWN:
            return x is None or torch.is_tensor(x)
        return not (torch.is_tensor(x) and x.shape[:1] == self._ended.shape)

    def _leave(self) -> None:
        """Take ended rows out of the cache; of prompts with several draws, equally many stay."""
        going = ~self._ended[self._rows].view(-1, draws_per_prompt(self._cache))
        draws = going.sum(1)
        most, prompts = int(draws.max()), draws.nonzero()[:, 0]
        if not 0 < most * len(prompts) <= WORTH * len(self._rows):
            return
        first = going[prompts].sort(dim=1, descending=True, stable=True).indices[:, :most]
        kept = prompts[:, None] * going.shape[1] + first
        select_rows(self._cache, kept)
        self._rows = self._rows[kept.flatten()]

    def _of_rows(self, name: str, x: Any) -> Any:
        if name == "position_ids" and x is not None:  # "b c", or with axes before it
            return x.index_select(-2, self._rows) if x.shape[-2] > 1 else x
        return x[self._rows] if name in BY_TOKEN and x is not None else x
