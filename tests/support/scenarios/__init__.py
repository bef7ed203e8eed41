"""The rows of the SDK matrix, by theme; tests/support/sdk_scenarios.py is their table."""
