"""Trainings that are interrupted, and what is left of them."""
