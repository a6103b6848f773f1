"""One file for each kind of device."""
