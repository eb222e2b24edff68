"""Trainers, checkpoints, memory and launches around TRL."""
