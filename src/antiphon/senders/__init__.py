"""An organization's provider accounts and the addresses it sends from."""
