"""In-memory stand-ins of the mesh, and the conformance suite that the real ones pass too."""
