"""Evaluation of segmentations: metrics, conventions, tables. Imports no torch."""
