"""Tidewire: a realtime messaging mesh on NATS."""

__version__ = "0.7.0"
