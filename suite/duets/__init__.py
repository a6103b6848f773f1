"""Duets: two sides of one program, measured in turn by partners, each with its own code."""
