"""Inputs as somebody careless or hostile might leave them, and what they are put through."""
