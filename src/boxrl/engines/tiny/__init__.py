"""The embedded tiny VLM: real Qwen2.5-VL architecture, trained on synthetic scenes."""
