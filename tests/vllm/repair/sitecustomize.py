"""On PYTHONPATH of the vLLM server: makes a torchvision built for CUDA importable beside CPU torch.

Such a wheel fails at import because two operator schemas are missing. Declaring them is enough;
nothing of them is called.
"""

import sys
from importlib.abc import MetaPathFinder

_KEPT_ALIVE = []  # dropping a library would undefine its operators


class _DeclareOperators(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "torchvision" and not _KEPT_ALIVE:
            import torch

            library = torch.library.Library("torchvision", "DEF")
            for operator in ("nms", "qnms"):
                schema = f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                library.define(schema)
            _KEPT_ALIVE.append(library)
        return None


sys.meta_path.insert(0, _DeclareOperators())
