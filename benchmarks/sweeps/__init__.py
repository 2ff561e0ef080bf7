"""Sweeps that are killed, and how much of two cores they use."""
