"""Training: optimiser and schedule, the loop, its checkpoints, and what several processes share."""
