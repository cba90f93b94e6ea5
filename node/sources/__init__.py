"""Where model files come from: references, hubs and registries, downloads, and the look at what came."""
