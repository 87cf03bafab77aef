"""The demo: an organization that does not exist, at providers that are simulated, and a day of it."""
