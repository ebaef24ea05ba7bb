"""Prompt in, samples with log-probabilities out: one interface for rollouts and serving."""
