"""How clients talk to a node: HTTP, dialects, pages."""
