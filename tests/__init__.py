import common  # noqa: F401  # first of all, as it says where matplotlib may write
