"""The providers' side of the wire, for the demo and the tests: a program of its own."""
