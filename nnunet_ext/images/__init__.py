"""Image files as users give them: which are of a case, and whether they are whole."""
