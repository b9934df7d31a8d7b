"""The README's table is the one that the recipes and their results make."""

from scripts.readme_table import README, updated


def test_the_table_is_up_to_date():
    text = README.read_text()
    assert updated(text) == text, "run: python -m scripts.readme_table"
