from __future__ import annotations

import pytest

from localai.mesh import errors
from localai.mesh.errors import Category, LocalAIError, ModelLoadFailed, RateLimited, error_class

CLASSES = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, LocalAIError)]


def test_the_tree_in_the_docstring_names_every_class() -> None:
    assert errors.__doc__ is not None
    for kind in CLASSES:
        assert f"{kind.__name__} " in errors.__doc__


@pytest.mark.parametrize("kind", CLASSES)
def test_every_class_has_a_code_of_its_own_and_keeps_what_it_is_given(kind: type[LocalAIError]) -> None:
    error = kind("Sentence.", detail="why", param="model", retry_after_s=2.0)
    assert (str(error), error.message, error.code) == ("Sentence.", "Sentence.", kind.default_code)
    assert (error.detail, error.param, error.retry_after_s) == ("why", "model", 2.0)
    assert kind("x", code="special").code == "special"
    assert [other for other in CLASSES if other.default_code == kind.default_code] == [kind]


@pytest.mark.parametrize("category", Category)
def test_an_error_that_arrives_as_data_becomes_a_class_of_its_category(category: Category) -> None:
    assert error_class(category).category is category
    assert error_class(Category.RATE_LIMITED) is RateLimited
    assert error_class(Category.INTERNAL) is LocalAIError is not ModelLoadFailed
