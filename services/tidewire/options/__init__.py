"""Settings that several kinds of process share: channels and their storage, NATS, logs."""
