"""Adapters to providers: pure functions over values, one file each."""
