"""The node's database: where it is, opening it, and the numbered steps that bring it up to date.

A module that keeps something here owns its tables: it adds a file to ``migrations`` and a line to ``schema``, and reads
and writes through :class:`localai.node.database.database.Database`. SQLAlchemy takes half a second to import, so only
``engine``, ``errors``, ``schema``, the migrations and the tables of the owners import it, and they are imported late.
"""
