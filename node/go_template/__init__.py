"""Go's ``text/template`` with the common sprig functions, as far as prompt templates need it, within fixed limits.

``template.py`` is the entrance: text -> ``lexer`` -> tokens -> ``parser`` -> nodes -> ``evaluator`` -> text. Values are
plain data (``values``), so a template can reach nothing but what it was given. What Go does was measured with Go 1.26
and sprig 3.3; where we differ on purpose, the module says so.
"""
