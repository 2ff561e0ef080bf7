"""One file per backbone; each is reached from its declaration in ``zoo``."""
