"""Plans whose patch and batch fit a memory target for one of our networks."""
