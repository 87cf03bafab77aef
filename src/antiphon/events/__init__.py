"""The event log of the platform, and who consumes it."""
