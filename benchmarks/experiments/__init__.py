"""A whole experiment on phantoms, undisturbed and killed half-way."""
