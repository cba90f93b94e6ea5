"""Other nodes: what they say of themselves, and sessions with them that carry requests both ways."""
