"""Message templates, their versions, and rendering."""
