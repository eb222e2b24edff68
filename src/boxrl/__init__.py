"""boxrl: train and evaluate vision-language models that answer with bounding boxes.

Data -> prompts -> SFT and GRPO with exact box rewards -> generation -> evaluation under a stated
protocol -> reports. Everything outside `boxrl.engines` works without torch.
"""

__version__ = "0.1.0"
