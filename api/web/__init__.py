"""Pages and what they share with the explorer: templates, static files, security headers."""
