"""Model definitions: YAML text -> :class:`ModelConfig` values, and back (pure).

A definition file holds one mapping or a list of them. Whatever is wrong comes back as a :class:`Problem` beside the
models that are right: one broken definition never hides another, and nothing is dropped without a word.
"""

from __future__ import annotations

import difflib
import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from localai.mesh.errors import InvalidRequest
from localai.node.answer_rules import NO_RULES, AnswerRules
from localai.node.bounded_yaml import load_yaml, write_yaml
from localai.node.definition_keys import BLOCKS, TOP_LEVEL, WITHOUT_EFFECT, Kind
from localai.node.definition_values import (
    Fields,
    block_at,
    check_values,
    invalid,
    read_block,
    read_flag,
    read_number,
    read_patterns,
    read_text,
    read_texts,
)
from localai.node.go_template.errors import BadTemplate
from localai.node.inference import MAX_CHOICES, Sampling
from localai.node.mcp.servers import McpServer, parse_servers, unknown_server_keys
from localai.node.prompt_templates import PromptTemplates, check_templates
from localai.node.request_defaults import (
    MAX_TOKENS,
    NO_DEFAULTS,
    NO_LIMIT,
    RANGES,
    ZERO_IS_NOTHING,
    RequestDefaults,
    sampling_from,
)
from localai.node.usecases import known_usecases

DEFAULT_BACKEND = "llama-cpp"
MAX_NAME_CHARS = 256
MAX_CONTEXT_SIZE = 1 << 24
TRAINED_CONTEXT = -1
MAX_THREADS = 1024
MAX_SLOTS = 256
MAX_STOP_WORDS = 64
MAX_STOP_WORD_CHARS = 1000
MAX_TOOL_ROUNDS = 100

_BACKEND_ALIASES = {"llama": "llama-cpp", "go-llama": "llama-cpp"}
_BACKEND_NAME = re.compile(r"[A-Za-z0-9_-]+")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_COMPANION_KEYS = ("mmproj", "draft_model", "lora_adapter", "lora_base")
_SEED = (-(2**63), 2**64)
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://|github:|pypi:|hf\.co/|(?:quay|ghcr|docker)\.io/")

NameInFile = Callable[[str], str]
"""Model file, relative to the models path -> the name its metadata says; empty when it says none."""


@dataclass(frozen=True, slots=True)
class FileDownload:
    """A file that belongs to a model and may have to be fetched."""

    filename: str
    """Relative to the models path."""
    uri: str
    """Empty when the definition only names the file."""
    sha256: str | None = None
    """Lower-case hex."""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """One model: its public name and how to load it. None means "not said": the node's own setting counts."""

    name: str
    model_file: str
    """Relative to the models path, with ``/`` between its parts."""
    backend: str = DEFAULT_BACKEND
    context_size: int | None = None
    """Tokens one sequence may hold; :data:`TRAINED_CONTEXT` for what the model was trained for."""
    threads: int | None = None
    slots: int | None = None
    """Sequences computed at once."""
    sha256: str | None = None
    """Of the model file, lower-case hex, when the definition says it. Not checked at load."""
    description: str = ""
    companion_files: tuple[str, ...] = ()
    """Other files the definition names (projector, adapters): they are not models of their own."""
    source: str = ""
    """File the definition was read from; empty for a bare model file."""
    model_uri: str = ""
    """Where the model file comes from, if the definition names an address in its place."""
    downloads: tuple[FileDownload, ...] = field(default=(), compare=False)
    """Where files of the model come from. Not compared: it changes nothing about a model that is here."""
    defaults: RequestDefaults = NO_DEFAULTS
    templates: PromptTemplates | None = field(default=None, hash=False)
    """What the definition says about prompts; None if nothing: the model's own template counts."""
    stopwords: tuple[str, ...] = ()
    """They end every answer, beside those of the request."""
    answer: AnswerRules = NO_RULES
    usecases: frozenset[str] = frozenset()
    """What it is for, in the words of ``known_usecases``; empty if not said."""
    embeddings: bool = False
    reranking: bool = False
    alias: str = ""
    """The name of another model that this name stands for. There is no model file then."""
    disabled: bool = False
    pinned: bool = False
    """Never unloaded to make room."""
    concurrency_groups: frozenset[str] = frozenset()
    """Of models that share one, only one is in memory."""
    is_private: bool = False
    """For this node's own users: members of the swarm neither see it nor answer for it, nor get its files."""
    mcp_servers: tuple[McpServer, ...] = ()
    """Whose tools the node may call for it. They never leave this node, and count only where a request enters."""
    tool_rounds: int | None = None
    """How often tools of MCP servers are called for one answer."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in the models folder that needs the owner's eye."""

    source: str
    """File it is about."""
    message: str
    """One sentence or two, naming file and key."""
    model: str = ""
    """The model that is missing because of it; empty for a mere warning, or when it has no name."""


@dataclass(frozen=True, slots=True)
class Definitions:
    """What one file defines."""

    models: tuple[ModelConfig, ...] = ()
    problems: tuple[Problem, ...] = ()
    reserved: frozenset[str] = frozenset()
    """Files of definitions that cannot be used: they must not become models that nobody has described."""
    is_readable: bool = True
    """False when nobody can tell which files it is about."""


def no_name(_model_file: str) -> str:
    """For callers that cannot look into model files."""
    return ""


def parse_definitions(text: str, source: str, name_in_file: NameInFile = no_name) -> Definitions:
    """The models that the YAML in ``text`` defines, in its order. ``source`` is the file's name.

    ``name_in_file`` is asked about the model file of a definition without a name.
    """
    try:
        document = load_yaml(text, source)
    except InvalidRequest as error:
        return Definitions(problems=(Problem(source, error.message),), is_readable=False)
    if document is None:
        return Definitions(problems=(Problem(source, f"{source} is empty. Write a definition into it or delete it."),))
    entries = document if isinstance(document, list) else [document]
    models: list[ModelConfig] = []
    problems: list[Problem] = []
    reserved: set[str] = set()
    for position, entry in enumerate(entries, start=1):
        where = source if len(entries) == 1 else f"{source}, definition {position}"
        try:
            models.append(_config(entry, source, where, name_in_file))
        except InvalidRequest as error:
            problems.append(Problem(source, error.message, _name_if_any(entry)))
            reserved |= _files_if_any(entry)
            continue
        problems += [Problem(source, message) for message in _warnings(entry, where)]
    return Definitions(tuple(models), tuple(problems), frozenset(reserved))


def render_definition(config: ModelConfig, *, uri: str = "") -> str:
    """YAML text that :func:`parse_definitions` reads back as ``config``, ending in a newline.

    Written is what a gallery says: name, description, backend, files, context, threads and slots. ``uri`` says where
    the model file came from; it is written beside its hash.
    """
    document: dict[str, object] = {"name": config.name}
    if config.description:
        document["description"] = config.description
    document |= {"backend": config.backend, "parameters": {"model": config.model_file}}
    document |= {
        key: value
        for key, value in (("context_size", config.context_size), ("threads", config.threads))
        if value is not None
    }
    if config.slots is not None:
        document["options"] = [f"parallel:{config.slots}"]
    downloads = [{"filename": file} for file in config.companion_files]
    if config.sha256 is not None:
        downloads.insert(0, {"filename": config.model_file, "sha256": config.sha256} | ({"uri": uri} if uri else {}))
    if downloads:
        document["download_files"] = downloads
    return write_yaml(document)


def _config(entry: object, source: str, where: str, name_in_file: NameInFile) -> ModelConfig:
    """One entry as a value.

    Raises:
        InvalidRequest: the entry cannot be used.
    """
    if not isinstance(entry, dict):
        raise invalid(where, "is not a mapping: write 'name: ...' and 'parameters:' with 'model: ...'")
    fields: Fields = entry
    check_values(fields, where)
    if alias := read_text(fields, "alias"):
        return _alias(fields, alias, source, where)
    named, model_uri = _file(read_text(read_block(fields, "parameters"), "model"), "parameters.model", where)
    name = _name(read_text(fields, "name") or (name_in_file(named) if named else ""), where)
    model_file = named or _path(name, "parameters.model", where)
    downloads = _downloads(fields, where)
    digests = {download.filename: download.sha256 for download in downloads}
    return ModelConfig(
        name=name,
        model_file=model_file,
        backend=_backend(fields, where),
        context_size=_context_size(fields, where),
        threads=_count(fields, "threads", MAX_THREADS, where),
        slots=_slots(fields, where),
        sha256=digests.get(model_file),
        description=read_text(fields, "description"),
        companion_files=_companions(fields, digests, model_file),
        source=source,
        model_uri=model_uri,
        downloads=downloads,
        defaults=_defaults(read_block(fields, "parameters"), where),
        templates=_templates(fields, where),
        stopwords=_stopwords(fields, where),
        answer=AnswerRules(
            cut=read_patterns(fields, "cutstrings", where),
            extract=read_patterns(fields, "extract_regex", where),
            trim_prefixes=read_texts(fields, "trimspace"),
            trim_suffixes=read_texts(fields, "trimsuffix"),
            prefix=read_text(read_block(fields, "template"), "reply_prefix"),
        ),
        usecases=known_usecases(read_texts(fields, "known_usecases")),
        embeddings=read_flag(fields, "embeddings"),
        reranking=read_flag(fields, "reranking"),
        disabled=read_flag(fields, "disabled"),
        pinned=read_flag(fields, "pinned"),
        concurrency_groups=frozenset(read_texts(fields, "concurrency_groups")),
        is_private=_is_private(fields, where),
        mcp_servers=parse_servers(read_block(fields, "mcp"), where),
        tool_rounds=_count(read_block(fields, "agent"), "max_iterations", MAX_TOOL_ROUNDS, where),
    )


def _is_private(fields: Fields, where: str) -> bool:
    share = read_text(fields, "share")
    if share not in ("", "private", "members"):
        raise invalid(where, f"has {share[:60]!r} in 'share': write 'members' or 'private'")
    return share == "private"


def _alias(fields: Fields, alias: str, source: str, where: str) -> ModelConfig:
    if read_text(fields, "backend") or read_text(read_block(fields, "parameters"), "model"):
        raise invalid(where, "has 'alias' beside 'backend' or 'parameters.model': an alias only names another model")
    return ModelConfig(
        name=_name(read_text(fields, "name"), where),
        model_file="",
        description=read_text(fields, "description"),
        source=source,
        alias=_name(alias, where, "alias"),
        disabled=read_flag(fields, "disabled"),
    )


def _name(name: str, where: str, key: str = "name") -> str:
    if not name.strip():
        raise invalid(where, "has no name: add the key 'name'")
    if len(name) > MAX_NAME_CHARS or name != name.strip() or not name.isprintable():
        raise invalid(
            where,
            f"has an unusable name: '{key}' must be at most {MAX_NAME_CHARS} printable characters, no blanks around",
        )
    return name


def _backend(fields: Fields, where: str) -> str:
    backend = read_text(fields, "backend").lower()
    if not backend:
        return DEFAULT_BACKEND
    if not _BACKEND_NAME.fullmatch(backend):
        raise invalid(where, f"has an invalid backend name {backend[:60]!r}: use letters, digits, '-' and '_'")
    return _BACKEND_ALIASES.get(backend, backend)


def _file(text: str, key: str, where: str) -> tuple[str, str]:
    """The local file that a text means, and its address if it is one; both empty for nothing."""
    if not text:
        return "", ""
    if not _ADDRESS.match(text):
        return _path(text, key, where), ""
    # Imported here because what reads addresses needs the gallery's entries, which need this module.
    from localai.node.sources.local_names import local_name
    from localai.node.sources.uri import GalleryName, HuggingFaceRepo, parse_reference

    try:
        reference = parse_reference(text)
    except InvalidRequest as error:
        raise invalid(where, f"has an unusable address in '{key}': {error.message.rstrip('.')}") from error
    if isinstance(reference, HuggingFaceRepo | GalleryName):
        raise invalid(where, f"names a whole repository in '{key}': name one file of it")
    return local_name(reference), text


def _path(text: str, key: str, where: str) -> str:
    parts = text.split("/")
    if text.startswith("/") or ".." in text or not text.isprintable() or parts[-1] in ("", "."):
        raise invalid(
            where, f"has an invalid file path {text[:100]!r} in '{key}': it must lie in the models folder, without '..'"
        )
    return posixpath.normpath(text)  # one name for one file, or it would count as two


def _slots(fields: Fields, where: str) -> int | None:
    slots: int | None = None
    for option in read_texts(fields, "options"):
        key, _, value = option.partition(":")
        if key.strip() not in ("parallel", "n_parallel"):
            continue
        if not re.fullmatch(r"[0-9]{1,4}", value.strip()) or not 1 <= int(value) <= MAX_SLOTS:
            raise invalid(where, f"needs a number from 1 to {MAX_SLOTS} in the option '{key.strip()}'")
        slots = int(value)
    return slots


def _downloads(fields: Fields, where: str) -> tuple[FileDownload, ...]:
    """Everything in ``download_files``, the last one of each name, and a projector that has an address."""
    projector, uri = _file(read_text(fields, "mmproj"), "mmproj", where)
    downloads = {projector: FileDownload(projector, uri)} if uri else {}
    for entry in fields.get("download_files") or ():
        for key in ("filename", "sha256", "uri"):
            if not isinstance(entry.get(key, ""), str):
                raise invalid(where, f"needs text in 'download_files[].{key}': put it in quotes")
        filename = _path(read_text(entry, "filename"), "download_files[].filename", where)
        digest = read_text(entry, "sha256").lower()
        if digest and not _SHA256.fullmatch(digest):
            raise invalid(where, "needs 64 hexadecimal digits in 'download_files[].sha256'")
        downloads[filename] = FileDownload(filename, read_text(entry, "uri"), digest or None)
    return tuple(downloads.values())


def _companions(fields: Fields, downloads: Mapping[str, object], model_file: str) -> tuple[str, ...]:
    names = [read_text(fields, key) for key in _COMPANION_KEYS]
    local = [name for name in (*names, *read_texts(fields, "lora_adapters")) if name and not _ADDRESS.match(name)]
    return tuple(dict.fromkeys(name for name in [*local, *downloads] if name != model_file))


def _defaults(parameters: Fields, where: str) -> RequestDefaults:
    def number(key: str, bounds: tuple[float, float]) -> float | None:
        if key in ZERO_IS_NOTHING and parameters.get(key) == 0:
            return None
        return read_number(parameters, key, bounds, where, prefix="parameters.")

    said = {key: number(key, bounds) for key, bounds in RANGES.items() if key != "n"}
    max_tokens = read_number(parameters, "max_tokens", (-1, 2**63), where, prefix="parameters.")
    return RequestDefaults(
        sampling=sampling_from(said | {"seed": number("seed", _SEED)}, Sampling()),
        max_tokens=None if max_tokens is None or max_tokens in NO_LIMIT else min(int(max_tokens), MAX_TOKENS),
        choices=int(number("n", (0, MAX_CHOICES)) or 1),
        ignore_eos=read_flag(parameters, "ignore_eos"),
        echo=read_flag(parameters, "echo"),
    )


def _templates(fields: Fields, where: str) -> PromptTemplates | None:
    block = read_block(fields, "template")
    join = block.get("join_chat_messages_by_character")
    templates = PromptTemplates(
        chat=read_text(block, "chat"),
        chat_message=read_text(block, "chat_message"),
        completion=read_text(block, "completion"),
        edit=read_text(block, "edit"),
        function=read_text(block, "function"),
        roles=dict(read_block(fields, "roles")),
        join="\n" if join is None else join,
        use_tokenizer_template=read_flag(block, "use_tokenizer_template"),
        system_prompt=read_text(fields, "system_prompt"),
    )
    if templates == PromptTemplates():
        return None
    try:
        check_templates(templates)
    except BadTemplate as error:
        raise invalid(where, f"has a template that cannot be used: {error.message.rstrip('.')}") from error
    return templates


def _stopwords(fields: Fields, where: str) -> tuple[str, ...]:
    words = tuple(dict.fromkeys(read_texts(fields, "stopwords")))
    if len(words) > MAX_STOP_WORDS or any(len(word) > MAX_STOP_WORD_CHARS for word in words):
        raise invalid(where, f"needs at most {MAX_STOP_WORDS} texts of {MAX_STOP_WORD_CHARS} characters in 'stopwords'")
    return words


def _context_size(fields: Fields, where: str) -> int | None:
    if fields.get("context_size") == TRAINED_CONTEXT:
        return TRAINED_CONTEXT
    return _count(fields, "context_size", MAX_CONTEXT_SIZE, where)


def _count(fields: Fields, key: str, highest: int, where: str) -> int | None:
    """A whole number; None for nothing, 0 and -1."""
    value: int | None = fields.get(key)
    if value is not None and not -1 <= value <= highest:
        raise invalid(where, f"needs a whole number from 1 to {highest} in '{key}'")
    return value if value is not None and value > 0 else None


def _warnings(fields: Fields, where: str) -> list[str]:
    """What is odd about a usable entry."""
    warnings = [_unknown_key(str(key), "", TOP_LEVEL, where) for key in fields if key not in TOP_LEVEL]
    for path, known in BLOCKS.items():
        inner = block_at(fields, path)
        warnings += [_unknown_key(str(key), f"{path}.", known, where) for key in inner if key not in known]
    for path in sorted(WITHOUT_EFFECT):
        outer, _, key = path.rpartition(".")
        if (block_at(fields, outer) if outer else fields).get(key):
            warnings.append(f"{where} has '{path}', which does nothing in this version: it is ignored.")
    if not fields.get("alias"):
        warnings += unknown_server_keys(read_block(fields, "mcp"), where)
    unknown = [word for word in read_texts(fields, "known_usecases") if not known_usecases((word,))]
    warnings += [
        f"{where} has the unknown use-case '{word[:60]}' in 'known_usecases': it is ignored." for word in unknown
    ]
    return warnings


def _unknown_key(key: str, prefix: str, known: Mapping[str, Kind], where: str) -> str:
    close = difflib.get_close_matches(key[:60], sorted(known), n=1, cutoff=0.75)
    if close:
        hint = f"did you mean '{prefix}{close[0]}'?"
    elif key in BLOCKS["parameters"] and not prefix:
        hint = f"did you mean 'parameters.{key}'?"
    elif key in TOP_LEVEL and prefix:
        hint = f"did you mean '{key}' at the top level?"
    else:
        hint = "it is ignored."
    return f"{where} has the unknown key '{prefix}{key[:60]}': {hint}"


def _files_if_any(entry: object) -> set[str]:
    """Whatever a definition that cannot be used may have meant as its files."""
    if not isinstance(entry, dict):
        return set()
    parameters, downloads = entry.get("parameters"), entry.get("download_files")
    found = [entry.get("name"), *(entry.get(key) for key in _COMPANION_KEYS)]
    found += [parameters.get("model")] if isinstance(parameters, dict) else []
    for download in downloads if isinstance(downloads, list) else []:
        found += [download.get("filename")] if isinstance(download, dict) else []
    return {posixpath.normpath(file) for file in found if isinstance(file, str) and file}


def _name_if_any(entry: object) -> str:
    name = entry.get("name") if isinstance(entry, dict) else None
    return name if isinstance(name, str) else ""
