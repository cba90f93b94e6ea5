"""API families: parse a body into a canonical request, render canonical events."""
