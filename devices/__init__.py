"""The ground under every other room: what the hardware is, what it is called, what it costs."""
