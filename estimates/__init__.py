"""What a device would do, without running on it: each figure labelled modelled or compiled."""
