"""Rewards of completions: pure functions, and the adapters that trainers call."""
