"""Tidewire: a realtime messaging mesh on NATS."""

__version__ = "0.6.0"
