"""What everything stands on: database, settings, clock, ids, errors, HTTP, logging."""
