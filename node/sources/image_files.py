"""Where the files of an unpacked image go in the models folder (pure)."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from localai.mesh.errors import NotFound
from localai.node.sources.hub_listing import ChosenFiles, HubFile, choose_gguf
from localai.node.sources.plan import DownloadPlan, PlannedFile, Role


def chosen_places(image: str, folder: str, paths: Collection[str]) -> dict[str, str]:
    """For each path in an image its file name in the models folder, all below ``folder``.

    Raises:
        NotFound: there is no model among them.
    """
    _chosen(image, paths)
    return {path: f"{folder}/{path}" for path in paths}


def model_first(image: str, folder: str, hashes: Mapping[str, str]) -> DownloadPlan:
    """The files of an image by their names in the models folder, the model to run first.

    ``folder`` is that of the image, whose name says nothing of the files.

    Of several models the one is chosen that would be of a repository of the hub.

    Raises:
        NotFound: there is no model among them.
    """
    names = {name.removeprefix(f"{folder}/"): name for name in hashes}
    chosen = _chosen(image, names)
    roles: dict[str, Role] = {file.path: "projector" for file in chosen.projectors}
    roles |= {file.path: "model" for file in chosen.models}
    order = sorted(names, key=lambda path: (path != chosen.models[0].path, path))
    return tuple(PlannedFile(names[path], image, hashes[names[path]], role=roles.get(path, "other")) for path in order)


def _chosen(image: str, paths: Collection[str]) -> ChosenFiles:
    try:
        return choose_gguf(image, [HubFile(path, None, None) for path in sorted(paths)])
    except NotFound as error:
        names = ", ".join(sorted(paths)[:8]) or "no file"
        message = f"The image {image[:200]} has no whole GGUF file to run; it has {names[:500]}. Use another image."
        raise NotFound(message, code=error.code) from error


def places_around(filename: str, paths: Collection[str], image: str) -> dict[str, str]:
    """For each path in an image its file name, so that one of them is ``filename``.

    As LocalAI does, the image is unpacked into the folder of the file: a definition names the files by their paths
    below it. Where the image has but one file, that is the file, whatever it is called. ``image`` is for messages.

    Raises:
        NotFound: none of them can be ``filename``.
    """
    if len(paths) == 1:
        return dict.fromkeys(paths, filename)
    ends = [path for path in paths if filename == path or filename.endswith(f"/{path}")]
    if not ends:
        shown = ", ".join(sorted(paths)[:8]) or "no file"
        message = f"The image {image[:200]} has no file {filename[:200]!r}; it has {shown[:500]}. Name one of them."
        raise NotFound(message, code="no_such_file")
    before = filename[: -len(max(ends, key=len))]
    return {path: before + path for path in paths}
