"""Networks and their registry. Importing this package, or listing the registry, imports no torch."""
