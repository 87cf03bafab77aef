"""Readings of the ledger: funnels, rates, reasons."""
