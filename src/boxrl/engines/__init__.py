"""The only room that imports torch: models, generation, SFT, GRPO, the embedded tiny VLM."""
