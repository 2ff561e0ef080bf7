"""The command lines behind the scripts: ``main(argv) -> exit code``."""
