"""Asking models: predictions through transformers, vLLM or any endpoint, without torch."""
