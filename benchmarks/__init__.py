import common  # noqa: F401  # first of all: Ctrl-C while the rest is imported
