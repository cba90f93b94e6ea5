"""Tools of MCP servers: servers that a model's definition names, connections to them, and the rounds of calls."""
