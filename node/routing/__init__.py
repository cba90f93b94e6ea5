"""Where a request runs: who may, how long each would take, who gets it, and what to do when that fails."""
