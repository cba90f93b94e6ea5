"""Model files copied between members, so that a household downloads each of them once."""
