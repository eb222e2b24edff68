"""The only package that imports torch: models, generation, SFT, GRPO, the embedded tiny VLM.

`build` is its door and, like this page, imports nothing of torch by itself.
"""
