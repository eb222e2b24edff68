"""One process of several with a phantom GPU each: python -m torch.distributed.run ... FOLDER.

FOLDER holds samples.jsonl and images/; RANK.json is written there.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from . import guard

if reason := guard.load():
    sys.exit(reason)

from .gpu import phantom_gpu
from .runs import build, recipe_of, run


def main() -> None:
    folder, rank = Path(sys.argv[1]), int(os.environ["RANK"])
    world = int(os.environ["WORLD_SIZE"])
    found = {}
    with phantom_gpu(devices=world) as gpu:
        for method in ("sft", "grpo"):
            recipe = recipe_of(folder, folder / method, "auto", method=method)
            recipe.out.mkdir(exist_ok=True)
            trainer = build(recipe)
            run(trainer, recipe)
            found[method] = {
                "device": gpu.device_index_of(trainer.model),
                "peaks": [gpu.peak(device) for device in range(world)],
                "rows": trainer.state.log_history[: recipe.train.max_steps],
            }
            del trainer
            gpu.reset()
    (folder / f"{rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
