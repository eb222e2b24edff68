"""Findings as experiments: one YAML file each, run as a grid of cells, read with intervals.

definition  the file: a base recipe, arms that change it, held-out sets, claims
arm_recipes the arms as recipes, for training on several GPUs
cells       one arm under one seed, under a key of everything that its result follows from
sources     which of boxrl's modules that is
work        what one cell's process does: train, answer, evaluate
grid        cells side by side, each in a process of its own
budget      seeds and steps that fit into a given time
outcome     figures of the cells -> the table, and what became of each claim
more_seeds  what a grid has cost, and what further seeds would decide
statistics  means and differences over seeds with Student's intervals
markdown    an outcome as the section of a page

Nothing here imports torch but the cells' own processes.
"""
