"""Fixtures of the tests of timar_report."""

from scripted_bag import make_bag, types  # noqa: F401 - fixtures
