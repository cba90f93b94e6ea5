"""Fakes that keep the promises of the real thing, and the conformance suites that hold both to them."""
