"""Where files of images go."""

from __future__ import annotations

import pytest

from localai.mesh.errors import NotFound
from localai.node.sources.image_files import chosen_places, model_first, places_around


def test_an_image_of_its_own_has_a_folder() -> None:
    assert chosen_places("oci://i", "o__m", ["a/m.gguf", "LICENSE"]) == {
        "a/m.gguf": "o__m/a/m.gguf", "LICENSE": "o__m/LICENSE",
    }  # fmt: skip


def test_images_without_a_model() -> None:
    for paths, says in (
        (["LICENSE"], "it has LICENSE"),
        ([], "it has no file"),
        (["m-00001-of-00002.gguf"], "no whole"),
    ):
        with pytest.raises(NotFound, match=says):
            chosen_places("oci://i", "o__m", paths)


def test_the_model_comes_first() -> None:
    hashes = {name: name.upper() for name in ("f/LICENSE", "f/a.Q8_0.gguf", "f/b.q4_k_m.gguf", "f/mmproj.gguf")}
    plan = model_first("oci://i", "f", hashes)
    assert [(file.filename, file.role) for file in plan] == [
        ("f/b.q4_k_m.gguf", "model"),
        ("f/LICENSE", "other"),
        ("f/a.Q8_0.gguf", "other"),
        ("f/mmproj.gguf", "projector"),
    ]
    assert plan[0].sha256 == "F/B.Q4_K_M.GGUF"


def test_the_name_of_the_folder_says_nothing() -> None:
    (file,) = model_first("oci://i", "mmproj-x", {"mmproj-x/m.gguf": "h"})
    assert (file.filename, file.role) == ("mmproj-x/m.gguf", "model")


@pytest.mark.parametrize(
    ("filename", "paths", "places"),
    [
        ("m.gguf", ["m.gguf", "n"], ["m.gguf", "n"]),
        ("x/m.gguf", ["m.gguf", "n"], ["x/m.gguf", "x/n"]),
        ("x/y/m.gguf", ["y/m.gguf", "m.gguf"], ["x/y/m.gguf", "x/m.gguf"]),
        ("phi.gguf", ["weights/other.gguf"], ["phi.gguf"]),
    ],
)
def test_an_image_goes_around_the_file_of_a_definition(filename: str, paths: list[str], places: list[str]) -> None:
    assert list(places_around(filename, paths, "oci://i").values()) == places


def test_a_file_that_the_image_does_not_have() -> None:
    for paths, says in ((["a", "b"], "it has a, b"), ([], "it has no file")):
        with pytest.raises(NotFound, match=says):
            places_around("am", paths, "oci://i")
