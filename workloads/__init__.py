"""The standard programs, a folder each, with its recipe; ``_name`` holds what several share."""
