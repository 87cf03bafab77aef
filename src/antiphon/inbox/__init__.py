"""Conversations: what people wrote to us, and who answers."""
