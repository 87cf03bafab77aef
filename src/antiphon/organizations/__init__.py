"""Organizations, users, API keys, permissions, the audit log."""
