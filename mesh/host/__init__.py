"""The guarded libp2p host: the only importers of libp2p. Foreign exceptions end here."""
