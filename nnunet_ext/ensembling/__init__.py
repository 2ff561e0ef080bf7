"""Ensembles: weights that are found on validation probabilities and applied to test probabilities, region by region."""

RULES = ("average", "inverse_error", "search", "single")
"""See :mod:`nnunet_ext.ensembling.rules`."""
WRITTEN = "written"
"""What is written: for each region one of the rules."""
