"""Files of GitHub repositories."""

from __future__ import annotations

from localai.mesh.secrets import Secret
from localai.node.sources.github import plan_github
from localai.node.sources.uri import Endpoints, GitHubFile


def test_a_file() -> None:
    (file,) = plan_github(GitHubFile("o", "r", "a/m.yaml", "dev"))
    assert (file.filename, file.url) == ("m.yaml", "https://raw.githubusercontent.com/o/r/dev/a/m.yaml")
    assert (file.sha256, file.size, file.headers) == (None, None, ())


def test_a_private_file_of_a_mirror() -> None:
    (file,) = plan_github(GitHubFile("o", "r", "m"), endpoints=Endpoints(github="https://g"), token=Secret("t"))
    assert file.url == "https://g/o/r/main/m"
    assert file.headers == (("Authorization", Secret("Bearer t")),)
