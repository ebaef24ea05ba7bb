"""Completion to score: a trained model or a rule."""
