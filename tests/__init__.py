"""The test suite. Helpers that tests share are in `tests.support`."""
