"""What can run on this machine, and where a request should run."""
