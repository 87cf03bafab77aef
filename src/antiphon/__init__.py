"""Antiphon: every message an organization sends and every answer it gets, in one ledger."""
