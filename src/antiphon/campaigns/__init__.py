"""One message to an audience: blasts and their follow-ups."""
