"""The one table of commands and options (pure).

Everything about an option lives in its row: flags, environment names, help, completion, docs and
parsing are all derived from it.
"""

from __future__ import annotations

from collections.abc import Sequence

from localai.node import fetch_rules, option_values
from localai.node.options import Argument, Command, Kind, Option

RUN = "run"
FEDERATED = "federated"
TOKEN_NEW = "p2p token new"
TOKEN_INSPECT = "p2p token inspect"
TOKEN_QR = "p2p token qr"
MODELS = "models"
MODELS_LIST = "models list"
MODELS_INSTALL = "models install"
MODELS_DELETE = "models delete"
MODELS_INFO = "models info"
GGUF_INFO = "util gguf-info"
HF_SCAN = "util hf-scan"
USECASES = "util usecase-heuristic"

_REFERENCES = (
    "Names of galleries, files, definitions (.yaml) or addresses: hf://owner/repo, ollama://name:tag, "
    "oci://registry/name:tag, github:owner/repo/file@ref, pypi:package==version/file, https://..."
)
_TOKEN = Argument("TOKEN", "The network token, or - for standard input.", secret=True)

COMMANDS: tuple[Command, ...] = (
    Command(
        RUN,
        "Start this node: the API, the pages and the models. This is what happens without a command too.",
        Argument("MODEL", f"Models to have ready, in addition to --models. {_REFERENCES}", repeated=True),
    ),
    Command(FEDERATED, "Start an entry to a swarm: the API of all its members, without models on this machine."),
    Command(MODELS, "Look at, install and delete models. Alone, it lists them.", is_group=True),
    Command(MODELS_LIST, "List the models of all galleries; those that are here are marked."),
    Command(
        MODELS_INSTALL,
        "Install models, so that run finds them.",
        Argument("MODEL", _REFERENCES, repeated=True, required=True),
    ),
    Command(
        MODELS_DELETE,
        "Delete models with their files. A running node notices when it starts again.",
        Argument("MODEL", "Names of models that are here.", repeated=True, required=True),
    ),
    Command(
        MODELS_INFO,
        "Say what is known of a model.",
        Argument("MODEL", "Name of a model that is here, or of a gallery.", required=True),
    ),
    Command("util", "Tools for model files.", is_group=True),
    Command(
        GGUF_INFO,
        "Say what a GGUF file says of itself.",
        Argument("FILE", "Path of the file.", required=True),
    ),
    Command(
        HF_SCAN,
        "Look for files that could run programs when they are loaded: in models that are here, by their content, and "
        "in what Hugging Face knows of their repositories. Exit code 1 if one must not be used, 2 if something could "
        "not be looked at.",
        Argument(
            "MODEL",
            "Names of models that are here or in a gallery, or addresses of Hugging Face such as hf://owner/repo, "
            "which are looked at without a download. Without any, everything in the models folder.",
            repeated=True,
        ),
    ),
    Command(
        USECASES,
        "Say what models are for, and why the node thinks so.",
        Argument(
            "CONFIG",
            "Paths of definitions (.yaml), or names of models that are here. Without any, all models that are here.",
            repeated=True,
        ),
    ),
    Command("p2p", "Join machines into a swarm.", is_group=True),
    Command("p2p token", "Make and look at network tokens, the secrets of swarms.", is_group=True),
    Command(TOKEN_NEW, "Print a new network token: the secret of a swarm of its own."),
    Command(TOKEN_INSPECT, "Say whether a network token is usable and how it rotates, without its secrets.", _TOKEN),
    Command(TOKEN_QR, "Show a network token as a QR code, for the camera of another machine.", _TOKEN),
    Command("version", "Print the version and exit."),
    Command(
        "completion",
        "Print a completion script for your shell.",
        Argument("SHELL", "The shell that will read the script.", choices=("bash", "zsh", "fish"), required=True),
    ),
)
"""Every command, each group before what it holds."""

_RUN = frozenset({RUN})
_FEDERATED = frozenset({FEDERATED})
_NODES = _RUN | _FEDERATED
_MODEL_COMMANDS = frozenset({MODELS_LIST, MODELS_INSTALL, MODELS_DELETE, MODELS_INFO})
_GALLERY_READERS = _RUN | {MODELS_LIST, MODELS_INSTALL, MODELS_INFO, HF_SCAN}
_NO_BACKENDS = "there are only built-in backends"
_TOKEN_MAKERS = frozenset({RUN, TOKEN_NEW})
_TOKEN_READERS = _NODES | {TOKEN_INSPECT, TOKEN_QR}

OPTIONS: tuple[Option, ...] = (
    Option(
        "--models-path",
        Kind.PATH,
        "Directory with the model files and their YAML definitions. Needs room: models are gigabytes each.",
        env=("LOCALAI_MODELS_PATH", "MODELS_PATH"),
        default="./models",
        group="storage",
        commands=_RUN | _MODEL_COMMANDS | {HF_SCAN, USECASES},
    ),
    Option(
        "--data-path",
        Kind.PATH,
        "Directory for what this node remembers: its identity and its database. Keep it private and backed up.",
        env=("LOCALAI_DATA_PATH",),
        default="./data",
        group="storage",
        commands=_NODES,
    ),
    Option(
        "--database-url",
        Kind.STR,
        "Database for what this node remembers, instead of the file state.db in the data directory: "
        "postgresql+asyncpg://user:password@host/name, of which each node needs one of its own, or sqlite:///path. "
        "Prefer the variable or an .env file: shells remember command lines.",
        env=("LOCALAI_DATABASE_URL",),
        group="storage",
        commands=_NODES,
        secret=True,
    ),
    Option(
        "--models-config-file",
        Kind.PATH,
        "A YAML file with one definition or a list of them, read after those of the models folder; of the same name, "
        "it wins.",
        env=("LOCALAI_MODELS_CONFIG_FILE", "CONFIG_FILE"),
        aliases=("--config-file",),
        group="storage",
        commands=_RUN,
    ),
    Option(
        "--generated-content-path",
        Kind.PATH,
        "Directory for the pictures, sounds and films that models make.",
        env=("LOCALAI_GENERATED_CONTENT_PATH", "GENERATED_CONTENT_PATH"),
        group="storage",
        commands=_RUN,
        no_effect="no model makes any",
    ),
    Option(
        "--upload-path",
        Kind.PATH,
        "Directory for files that clients upload.",
        env=("LOCALAI_UPLOAD_PATH", "UPLOAD_PATH"),
        group="storage",
        commands=_RUN,
        no_effect="the API takes no files",
    ),
    Option(
        "--localai-config-dir",
        Kind.PATH,
        "Directory of api_keys.json, external_backends.json and runtime_settings.json, which may change while the node "
        "runs.",
        env=("LOCALAI_CONFIG_DIR",),
        group="storage",
        commands=_RUN,
        no_effect="these files are not read",
    ),
    Option(
        "--localai-config-dir-poll-interval",
        Kind.DURATION,
        "Time between two looks at the files in --localai-config-dir.",
        env=("LOCALAI_CONFIG_DIR_POLL_INTERVAL",),
        group="storage",
        commands=_RUN,
        no_effect="these files are not read",
    ),
    Option(
        "--external-backends",
        Kind.LIST,
        "Backends to have ready: names, folders or images. Only built-in ones can be had yet; each other one is named "
        "in the log at the start, and models that need it are refused.",
        env=("LOCALAI_EXTERNAL_BACKENDS", "EXTERNAL_BACKENDS"),
        group="backends",
        commands=_RUN,
    ),
    Option(
        "--external-grpc-backends",
        Kind.LIST,
        "Backends in programs of their own, as NAME:TARGET. Refused for now, because something else than they would "
        "answer.",
        env=("LOCALAI_EXTERNAL_GRPC_BACKENDS", "EXTERNAL_GRPC_BACKENDS"),
        check=option_values.check_grpc_backend,
        group="backends",
        commands=_RUN,
    ),
    Option(
        "--backends-path",
        Kind.PATH,
        "Directory of installed backends.",
        env=("LOCALAI_BACKENDS_PATH", "BACKENDS_PATH"),
        group="backends",
        commands=_RUN | {MODELS_LIST, MODELS_INSTALL},
        no_effect=_NO_BACKENDS,
    ),
    Option(
        "--backends-system-path",
        Kind.PATH,
        "Directory of backends that came with the system.",
        env=("LOCALAI_BACKENDS_SYSTEM_PATH", "BACKEND_SYSTEM_PATH"),
        group="backends",
        commands=_RUN,
        no_effect=_NO_BACKENDS,
    ),
    Option(
        "--backend-galleries",
        Kind.STR,
        "Galleries to install backends from, as JSON.",
        env=("LOCALAI_BACKEND_GALLERIES", "BACKEND_GALLERIES"),
        group="backends",
        commands=_RUN | {MODELS_LIST, MODELS_INSTALL},
        no_effect=_NO_BACKENDS,
    ),
    Option(
        "--autoload-backend-galleries",
        Kind.BOOL,
        "Install the backend of a model with it.",
        env=("LOCALAI_AUTOLOAD_BACKEND_GALLERIES", "AUTOLOAD_BACKEND_GALLERIES"),
        group="backends",
        commands=_RUN | {MODELS_INSTALL},
        no_effect=_NO_BACKENDS,
    ),
    Option(
        "--backend-images-release-tag",
        Kind.STR,
        "What the tags of released backend images begin with.",
        env=("LOCALAI_BACKEND_IMAGES_RELEASE_TAG", "BACKEND_IMAGES_RELEASE_TAG"),
        group="backends",
        commands=_RUN,
        no_effect=_NO_BACKENDS,
    ),
    Option(
        "--backend-images-branch-tag",
        Kind.STR,
        "What the tags of backend images begin with that are taken where a released one is missing.",
        env=("LOCALAI_BACKEND_IMAGES_BRANCH_TAG", "BACKEND_IMAGES_BRANCH_TAG"),
        group="backends",
        commands=_RUN,
        no_effect=_NO_BACKENDS,
    ),
    Option(
        "--backend-dev-suffix",
        Kind.STR,
        "What the tags of backend images end with that are tried last.",
        env=("LOCALAI_BACKEND_DEV_SUFFIX", "BACKEND_DEV_SUFFIX"),
        group="backends",
        commands=_RUN,
        no_effect=_NO_BACKENDS,
    ),
    Option(
        "--preload-backend-only",
        Kind.BOOL,
        "Install and load what is asked for, without HTTP: then only members of the swarm are answered. The node stays "
        "until it is told to stop.",
        env=("LOCALAI_PRELOAD_BACKEND_ONLY", "PRELOAD_BACKEND_ONLY"),
        default="false",
        group="backends",
        commands=_RUN,
    ),
    Option(
        "--max-active-backends",
        Kind.INT,
        "Models in memory at once; before one more is loaded, the one not used for the longest time goes. 0 means no "
        "limit.",
        env=("LOCALAI_MAX_ACTIVE_BACKENDS", "MAX_ACTIVE_BACKENDS"),
        default="0",
        minimum=0,
        group="backends",
        commands=_RUN,
    ),
    Option(
        "--single-active-backend",
        Kind.BOOL,
        "Old way to say --max-active-backends=1, which counts if both are given.",
        env=("LOCALAI_SINGLE_ACTIVE_BACKEND", "SINGLE_ACTIVE_BACKEND"),
        default="false",
        group="backends",
        commands=_RUN,
    ),
    Option(
        "--enable-watchdog-idle",
        Kind.BOOL,
        "Take models out of memory that were not used for --watchdog-idle-timeout. The next request loads them again.",
        env=("LOCALAI_WATCHDOG_IDLE", "WATCHDOG_IDLE"),
        default="false",
        group="backends",
        commands=_RUN,
    ),
    Option(
        "--watchdog-idle-timeout",
        Kind.DURATION,
        "How long a model may be unused with --enable-watchdog-idle.",
        env=("LOCALAI_WATCHDOG_IDLE_TIMEOUT", "WATCHDOG_IDLE_TIMEOUT"),
        default="15m",
        group="backends",
        commands=_RUN,
    ),
    Option(
        "--enable-watchdog-busy",
        Kind.BOOL,
        "End a model in which one request runs longer than --watchdog-busy-timeout. All its requests fail then.",
        env=("LOCALAI_WATCHDOG_BUSY", "WATCHDOG_BUSY"),
        default="false",
        group="backends",
        commands=_RUN,
    ),
    Option(
        "--watchdog-busy-timeout",
        Kind.DURATION,
        "How long one request may run with --enable-watchdog-busy; must be more than the longest answer takes.",
        env=("LOCALAI_WATCHDOG_BUSY_TIMEOUT", "WATCHDOG_BUSY_TIMEOUT"),
        default="5m",
        group="backends",
        commands=_RUN,
    ),
    Option(
        "--watchdog-interval",
        Kind.DURATION,
        "Time between two looks at idle time, busy time and memory, at least 100 ms.",
        env=("LOCALAI_WATCHDOG_INTERVAL", "WATCHDOG_INTERVAL"),
        default="500ms",
        minimum=0.1,
        group="backends",
        commands=_RUN,
    ),
    Option(
        "--enable-memory-reclaimer",
        Kind.BOOL,
        "While memory is fuller than --memory-reclaimer-threshold, take one unused model out of it at each look.",
        env=("LOCALAI_MEMORY_RECLAIMER", "MEMORY_RECLAIMER", "LOCALAI_GPU_RECLAIMER", "GPU_RECLAIMER"),
        default="false",
        group="backends",
        commands=_RUN,
    ),
    Option(
        "--memory-reclaimer-threshold",
        Kind.FLOAT,
        "Share of memory in use, above 0 and at most 1, from which --enable-memory-reclaimer acts.",
        env=(
            "LOCALAI_MEMORY_RECLAIMER_THRESHOLD",
            "MEMORY_RECLAIMER_THRESHOLD",
            "LOCALAI_GPU_RECLAIMER_THRESHOLD",
            "GPU_RECLAIMER_THRESHOLD",
        ),
        default="0.95",
        group="backends",
        commands=_RUN,
    ),
    Option(
        "--force-eviction-when-busy",
        Kind.BOOL,
        "Let the limit and the memory reclaimer also end models that are answering; their requests fail then.",
        env=("LOCALAI_FORCE_EVICTION_WHEN_BUSY", "FORCE_EVICTION_WHEN_BUSY"),
        default="false",
        group="backends",
        commands=_RUN,
    ),
    Option(
        "--lru-eviction-max-retries",
        Kind.INT,
        "How often to wait for a busy model before the limit of --max-active-backends is exceeded; 0 means 30.",
        env=("LOCALAI_LRU_EVICTION_MAX_RETRIES", "LRU_EVICTION_MAX_RETRIES"),
        default="30",
        group="backends",
        commands=_RUN,
    ),
    Option(
        "--lru-eviction-retry-interval",
        Kind.DURATION,
        "Time between these attempts.",
        env=("LOCALAI_LRU_EVICTION_RETRY_INTERVAL", "LRU_EVICTION_RETRY_INTERVAL"),
        default="1s",
        group="backends",
        commands=_RUN,
    ),
    Option(
        "--size-aware-eviction",
        Kind.BOOL,
        "Take the largest unused model out of memory first instead of the one not used for the longest time.",
        env=("LOCALAI_SIZE_AWARE_EVICTION", "SIZE_AWARE_EVICTION"),
        default="false",
        group="backends",
        commands=_RUN,
    ),
    Option(
        "--parallel-requests",
        Kind.BOOL,
        "Answer several requests of one model side by side. On here, unlike in LocalAI: --parallel-requests=false "
        "answers one at a time with models that do not say a number (options: [parallel:8]); the others wait.",
        env=("LOCALAI_PARALLEL_REQUESTS", "PARALLEL_REQUESTS"),
        default="true",
        group="backends",
        commands=_RUN,
    ),
    Option(
        "--slots",
        Kind.INT,
        "Requests that a model that does not say a number answers side by side, 1 to 256; more wait. Each slot has a "
        "context of its own in memory. Always 1 with --parallel-requests=false.",
        env=("LLAMACPP_PARALLEL",),
        default="4",
        minimum=1,
        maximum=256,
        group="backends",
        commands=_RUN,
    ),
    Option(
        "--models",
        Kind.LIST,
        "Models to have ready: names or addresses, as for the arguments, which come after these. Each one takes memory "
        "once used.",
        env=("LOCALAI_MODELS", "MODELS"),
        group="models",
        commands=_RUN,
    ),
    Option(
        "--galleries",
        Kind.STR,
        'Galleries to install from besides the built-in one, as JSON: [{"name": "...", "url": "..."}]; '
        '"mirrors": [...] beside them are asked when the url fails. An index is fetched only when a model is asked for '
        "that the built-in gallery does not have.",
        env=("LOCALAI_GALLERIES", "GALLERIES"),
        group="models",
        commands=_GALLERY_READERS,
    ),
    Option(
        "--autoload-galleries",
        Kind.BOOL,
        "Install a model of a gallery when a request names it. Off here, unlike in LocalAI: with it, every client can "
        "start downloads of gigabytes.",
        env=("LOCALAI_AUTOLOAD_GALLERIES", "AUTOLOAD_GALLERIES"),
        default="false",
        group="models",
        commands=_RUN,
    ),
    Option(
        "--preload-models",
        Kind.STR,
        'What to install before the node is ready, as JSON: [{"id": "gallery@name"}], or with url, name, overrides '
        "and files.",
        env=("LOCALAI_PRELOAD_MODELS", "PRELOAD_MODELS"),
        group="models",
        commands=_RUN,
    ),
    Option(
        "--preload-models-config",
        Kind.PATH,
        "YAML file with the same list as --preload-models.",
        env=("LOCALAI_PRELOAD_MODELS_CONFIG", "PRELOAD_MODELS_CONFIG"),
        group="models",
        commands=_RUN,
    ),
    Option(
        "--load-to-memory",
        Kind.LIST,
        "Models to load when the node is ready, so that the first request need not wait.",
        env=("LOCALAI_LOAD_TO_MEMORY", "LOAD_TO_MEMORY"),
        group="models",
        commands=_RUN,
    ),
    Option(
        "--f16",
        Kind.BOOL,
        "Taken as LocalAI takes it; the memory of a context is half precision here in any case.",
        env=("LOCALAI_F16", "F16"),
        default="false",
        group="performance",
        commands=_RUN,
    ),
    Option(
        "--threads",
        Kind.INT,
        "Threads that compute for models that do not say; 0 means all cores but one. More than there are is slower.",
        env=("LOCALAI_THREADS", "THREADS"),
        default="0",
        short="-t",
        minimum=0,
        group="performance",
        commands=_RUN,
    ),
    Option(
        "--context-size",
        Kind.INT,
        "LLM tokens of prompt and answer that a model without its own setting can hold; 0 lets the node choose, "
        "-1 means as many as the model was trained for. Memory grows with it.",
        env=("LOCALAI_CONTEXT_SIZE", "CONTEXT_SIZE"),
        default="0",
        minimum=-1,
        group="performance",
        commands=_RUN,
    ),
    Option(
        "--address",
        Kind.ADDRESS,
        "Where to listen, as host:port; :8080 means all interfaces, and then other machines can reach it.",
        env=("LOCALAI_ADDRESS", "ADDRESS"),
        default="127.0.0.1:8080",
        group="api",
        commands=_NODES,
    ),
    Option(
        "--api-keys",
        Kind.LIST,
        "Keys that clients must show, separated by commas; none means no check. Prefer the variable or an .env "
        "file: shells remember command lines.",
        env=("LOCALAI_API_KEY", "LOCALAI_API_KEYS", "API_KEY"),
        group="api",
        commands=_NODES,
        secret=True,
    ),
    Option(
        "--open-responses-store-ttl",
        Kind.DURATION,
        "How long responses of the Responses API can be asked for and continued, such as 720h; 0 means until there are "
        "too many.",
        env=("LOCALAI_OPEN_RESPONSES_STORE_TTL", "OPEN_RESPONSES_STORE_TTL"),
        default="0",
        group="api",
        commands=_NODES,
    ),
    Option(
        "--upload-limit",
        Kind.INT,
        "Largest request body in MB, held in memory while it is read; 0 means no limit.",
        env=("LOCALAI_UPLOAD_LIMIT", "UPLOAD_LIMIT"),
        default="15",
        minimum=0,
        group="api",
        commands=_NODES,
    ),
    Option(
        "--show-route",
        Kind.BOOL,
        "Tell every client which node answered and why, in X-LocalAI-Node and X-LocalAI-Route; without it, only "
        "clients on this machine and those with a key learn it.",
        env=("LOCALAI_SHOW_ROUTE",),
        default="false",
        group="api",
        commands=_NODES,
    ),
    Option(
        "--cors",
        Kind.BOOL,
        "Let web pages of the sites in --cors-allow-origins use this node. Off here, unlike in LocalAI, where it means "
        "every site.",
        env=("LOCALAI_CORS", "CORS"),
        default="false",
        group="api",
        commands=_NODES,
    ),
    Option(
        "--cors-allow-origins",
        Kind.LIST,
        "Sites for --cors, such as https://chat.example,http://localhost:*; * and ? stand for any text and any "
        "character, a lone * for every site: then every page that you open can use your models.",
        env=("LOCALAI_CORS_ALLOW_ORIGINS", "CORS_ALLOW_ORIGINS"),
        group="api",
        commands=_NODES,
    ),
    Option(
        "--csrf",
        Kind.BOOL,
        "Taken as LocalAI takes it; pages of other sites cannot change anything here in any case, unless "
        "--disable-csrf is given.",
        env=("LOCALAI_CSRF",),
        default="false",
        group="api",
        commands=_NODES,
    ),
    Option(
        "--disable-csrf",
        Kind.BOOL,
        "Let web pages of any site send requests to this node through your browser, although they cannot read the "
        "answers.",
        env=("LOCALAI_DISABLE_CSRF",),
        default="false",
        group="api",
        commands=_NODES,
    ),
    Option(
        "--disable-metrics-endpoint",
        Kind.BOOL,
        "Neither count for Prometheus nor serve /metrics.",
        env=("LOCALAI_DISABLE_METRICS_ENDPOINT", "DISABLE_METRICS_ENDPOINT"),
        default="false",
        group="api",
        commands=_NODES,
    ),
    Option(
        "--disable-runtime-settings",
        Kind.BOOL,
        "Do not serve /api/settings, where clients see the settings of this node and change some of them.",
        env=("LOCALAI_DISABLE_RUNTIME_SETTINGS", "DISABLE_RUNTIME_SETTINGS"),
        default="false",
        group="api",
        commands=_NODES,
    ),
    Option(
        "--disable-mcp",
        Kind.BOOL,
        "Call no tools of the MCP servers that definitions name.",
        env=("LOCALAI_DISABLE_MCP", "DISABLE_MCP"),
        default="false",
        group="api",
        commands=_RUN,
    ),
    Option(
        "--machine-tag",
        Kind.STR,
        "Text of a Machine-Tag header on every answer, to tell nodes behind one address apart.",
        env=("LOCALAI_MACHINE_TAG", "MACHINE_TAG"),
        check=option_values.check_header_value,
        group="api",
        commands=_NODES,
    ),
    Option(
        "--ollama-api-root-endpoint",
        Kind.BOOL,
        "Answer / as Ollama does, for programs that look there whether it runs, instead of the status page.",
        env=("LOCALAI_OLLAMA_API_ROOT_ENDPOINT",),
        default="false",
        group="api",
        commands=_NODES,
    ),
    Option(
        "--allowed-hosts",
        Kind.LIST,
        "More host names under which browsers may reach this node. Others are refused, so that a web page cannot "
        "reach it by a trick with DNS.",
        env=("LOCALAI_ALLOWED_HOSTS",),
        group="hardening",
        commands=_NODES,
    ),
    Option(
        "--allow-anonymous",
        Kind.BOOL,
        "Listen on a public address without API keys: then anyone who finds it can use it.",
        env=("LOCALAI_ALLOW_ANONYMOUS", "LOCALAI_ALLOW_INSECURE_PUBLIC_BIND"),
        default="false",
        aliases=("--allow-insecure-public-bind",),
        group="hardening",
        commands=_NODES,
    ),
    Option(
        "--opaque-errors",
        Kind.BOOL,
        "Tell clients only the status of an error; the log has the rest under the same correlation id.",
        env=("LOCALAI_OPAQUE_ERRORS",),
        default="false",
        group="hardening",
        commands=_NODES,
    ),
    Option(
        "--use-subtle-key-comparison",
        Kind.BOOL,
        "Taken as LocalAI takes it; keys are compared in constant time in any case.",
        env=("LOCALAI_SUBTLE_KEY_COMPARISON", "LOCALAI_SUBTLEKEY_COMPARISON"),
        default="false",
        group="hardening",
        commands=_NODES,
    ),
    Option(
        "--disable-api-key-requirement-for-http-get",
        Kind.BOOL,
        "Let GET read the routes of --http-get-exempted-endpoints without a key.",
        env=("LOCALAI_DISABLE_API_KEY_REQUIREMENT_FOR_HTTP_GET",),
        default="false",
        group="hardening",
        commands=_NODES,
    ),
    Option(
        "--http-get-exempted-endpoints",
        Kind.LIST,
        "Regular expressions, separated by commas, of routes that --disable-api-key-requirement-for-http-get opens; "
        "a route is written as in the documentation, such as /v1/models/{model}.",
        env=("LOCALAI_HTTP_GET_EXEMPTED_ENDPOINTS",),
        default="^/$,^/app(/.*)?$,^/browse(/.*)?$,^/login/?$,^/explorer/?$,^/talk/?$,^/p2p/?$,^/chat/?$,^/image/?$,"
        "^/text2image/?$,^/tts/?$,^/assets/.*$,^/static/.*$,^/swagger.*$",
        group="hardening",
        commands=_NODES,
    ),
    Option(
        "--allow-media-from",
        Kind.LIST,
        "Private networks, such as 192.168.1.0/24, from which this node may fetch media that requests name by URL; "
        "otherwise only public addresses, so that clients cannot reach through it.",
        env=("LOCALAI_ALLOW_MEDIA_FROM",),
        check=fetch_rules.check_network,
        group="hardening",
        commands=_NODES,
        no_effect="no model takes media yet",
    ),
    Option(
        "--disable-predownload-scan",
        Kind.BOOL,
        "Do not ask Hugging Face before a download what its scan of the files found. The files are looked at here in "
        "any case.",
        env=("LOCALAI_DISABLE_PREDOWNLOAD_SCAN", "DISABLE_PREDOWNLOAD_SCAN"),
        default="false",
        group="hardening",
        commands=_RUN | {MODELS_INSTALL, HF_SCAN},
    ),
    Option(
        "--p2p",
        Kind.BOOL,
        "Join the swarm of the network token; without a token, start a new swarm and print its token. A token alone "
        "switches this on.",
        env=("LOCALAI_P2P", "P2P"),
        default="false",
        group="p2p",
        commands=_RUN,
    ),
    Option(
        "--p2p-token",
        Kind.STR,
        "The network token of the swarm, a secret: whoever has it is a member. Prefer the variable or a file: shells "
        "remember command lines.",
        env=("LOCALAI_P2P_TOKEN", "P2P_TOKEN", "TOKEN"),
        old_names=("--p2ptoken",),
        group="p2p",
        commands=_TOKEN_READERS,
        secret=True,
    ),
    Option(
        "--p2p-token-file",
        Kind.FILE,
        "File that holds the network token; - reads it from standard input.",
        env=("LOCALAI_P2P_TOKEN_FILE",),
        group="p2p",
        commands=_TOKEN_READERS,
    ),
    Option(
        "--p2p-network-id",
        Kind.STR,
        "Name of a sub-network: nodes with the same token see each other only if this is the same too.",
        env=("LOCALAI_P2P_NETWORK_ID", "P2P_NETWORK_ID"),
        aliases=("--peer-2-peer-network-id",),
        check=option_values.check_network_id,
        group="p2p",
        commands=_NODES,
    ),
    Option(
        "--no-serve",
        Kind.BOOL,
        "Use the models of the other members without answering for them.",
        env=("LOCALAI_NO_SERVE",),
        default="false",
        group="p2p",
        commands=_RUN,
    ),
    Option(
        "--federated",
        Kind.BOOL,
        "Join as --p2p does, and also answer for LocalAI's own federation servers, which know no other protocol.",
        env=("LOCALAI_FEDERATED", "FEDERATED"),
        default="false",
        group="p2p",
        commands=_RUN,
    ),
    Option(
        "--random-worker",
        Kind.BOOL,
        "Pick the member that answers at random instead of by load.",
        env=("LOCALAI_RANDOM_WORKER", "RANDOM_WORKER"),
        default="false",
        group="p2p",
        commands=_FEDERATED,
    ),
    Option(
        "--target-worker",
        Kind.STR,
        "Full or short id of the one member that must answer; while it is away, requests fail.",
        env=("LOCALAI_TARGET_WORKER", "TARGET_WORKER"),
        group="p2p",
        commands=_FEDERATED,
    ),
    Option(
        "--p2p-listen",
        Kind.LIST,
        "Addresses on which other members reach this node, in libp2p's form; port 0 takes any free one.",
        env=("LOCALAI_P2P_LISTEN_MADDRS",),
        default="/ip4/0.0.0.0/tcp/0",
        check=option_values.check_listen_address,
        group="p2p",
        commands=_NODES,
    ),
    Option(
        "--p2p-peers",
        Kind.LIST,
        "Addresses of members to dial, in libp2p's form with /p2p/ and the id at the end, for networks where nodes do "
        "not find each other.",
        env=("LOCALAI_P2P_PEERS",),
        check=option_values.check_peer_address,
        group="p2p",
        commands=_NODES,
    ),
    Option(
        "--p2p-bootstrap-peers",
        Kind.LIST,
        "Nodes of the DHT to begin with instead of the public ones, in the same form; they need not be members.",
        env=("LOCALAI_P2P_BOOTSTRAP_PEERS_MADDRS",),
        check=option_values.check_peer_address,
        group="p2p",
        commands=_NODES,
    ),
    Option(
        "--p2p-disable-mdns",
        Kind.BOOL,
        "Neither announce this node on the local network nor look for others there.",
        env=("LOCALAI_P2P_DISABLE_MDNS",),
        default="false",
        group="p2p",
        commands=_NODES,
    ),
    Option(
        "--p2p-dht-interval",
        Kind.INT,
        "Seconds that the name lasts under which members meet in the DHT. Written into a new token; a given token "
        "keeps its own. Shorter hides better and finds more slowly.",
        env=("LOCALAI_P2P_DHT_INTERVAL", "P2P_DHT_INTERVAL"),
        default="360",
        minimum=1,
        group="p2p",
        commands=_TOKEN_MAKERS,
    ),
    Option(
        "--p2p-otp-interval",
        Kind.INT,
        "Seconds that topic and key of the members' messages last. Written into a new token; a given token keeps its "
        "own. Clocks must agree to much less than this.",
        env=("LOCALAI_P2P_OTP_INTERVAL", "P2P_OTP_INTERVAL"),
        default="9000",
        minimum=1,
        group="p2p",
        commands=_TOKEN_MAKERS,
    ),
    Option(
        "--output",
        Kind.FILE,
        "Write the code into this .svg or .png file, which only its owner can read, instead of showing it.",
        commands=frozenset({TOKEN_QR}),
    ),
    Option(
        "--header",
        Kind.BOOL,
        "Show every entry of the metadata.",
        default="false",
        commands=frozenset({GGUF_INFO}),
    ),
    Option("--version", Kind.BOOL, "Print the version and exit.", default="false", commands=_RUN),
    Option(
        "--log-level",
        Kind.ENUM,
        "How much to log: each level includes those before it. debug and trace cost speed.",
        env=("LOCALAI_LOG_LEVEL",),
        choices=("error", "warn", "info", "debug", "trace"),
        default="info",
        group="logging",
    ),
    Option(
        "--log-format",
        Kind.ENUM,
        "default is for people (coloured on a terminal), text is key=value, json is one object per line.",
        env=("LOCALAI_LOG_FORMAT",),
        choices=("default", "text", "json"),
        default="default",
        group="logging",
    ),
    Option(
        "--debug",
        Kind.BOOL,
        "Old way to say --log-level debug; an explicit level wins.",
        env=("LOCALAI_DEBUG", "DEBUG"),
        default="false",
        group="logging",
        hidden=True,
    ),
)


def commands_under(group: str) -> tuple[Command, ...]:
    """Commands and groups directly below a group, in the order of the table; those of the program for empty text."""
    return tuple(command for command in COMMANDS if command.parent == group)


def options_of(command: str, table: Sequence[Option] = OPTIONS) -> tuple[Option, ...]:
    """Options that the command takes, in the order of the table."""
    return tuple(option for option in table if not option.commands or command in option.commands)
