from hypothesis import settings

# the first example of a law pays for torch's start, and a shared machine is slow at times
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
