"""Dashboard over swarms. Empty until the explorer is built; the package fixes its place in the import contracts."""
