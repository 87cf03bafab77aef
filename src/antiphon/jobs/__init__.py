"""Durable background work in PostgreSQL."""
