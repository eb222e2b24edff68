"""The embedded tiny VLM: real Qwen2.5-VL architecture, taught on synthetic scenes."""
