"""The store's schema is always the newest one."""

from quorate.master import migrations


def test_the_head_that_is_taken_for_granted_is_the_newest_revision() -> None:
    assert migrations.scripts().get_current_head() == migrations.HEAD
