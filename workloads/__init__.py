"""The standard programs, one file each; ``_name.py`` holds what several share."""
