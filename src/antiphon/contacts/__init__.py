"""People, their addresses, groups, consent, suppressions, imports."""
