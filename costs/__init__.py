"""Money: devices, prices and the cost of a token."""
