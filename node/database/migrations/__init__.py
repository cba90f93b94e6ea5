"""The steps of the database, listed in ``schema``. What a released program has taken is never changed: add another one.

A step writes its tables down once more instead of importing them from their owner, which may look different later.
"""
