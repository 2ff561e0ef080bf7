"""What the cost benchmarks share: models, rows, reports."""
