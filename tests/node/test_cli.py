from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from localai.mesh.errors import Conflict, SetupError
from localai.mesh.network_token import new_network_token, parse_network_token
from localai.mesh.secrets import Secret
from localai.node.cli import EXIT_PROBLEM, EXIT_USAGE, main
from localai.node.option_table import COMMANDS, FEDERATED, OPTIONS, options_of

if TYPE_CHECKING:
    from pathlib import Path

    from localai.node.settings import Settings

FAKE_NODE = """
import sys
from localai.node.cli import main
def start(settings):
    print(settings)
    import structlog
    structlog.get_logger().info("started", key=settings.api_keys and settings.api_keys[0].reveal())
    if settings.swarm:
        token = settings.swarm.token
        structlog.get_logger().info("joined", token=token.text.reveal(), room=f"<{token.room.reveal()}>")
    print("seen:", sys.orig_argv[3:])
    return 0
sys.exit(main(start=start))
"""


TOKEN = new_network_token(lambda length: "k" * length)
TEXT = TOKEN.text.reveal()


@pytest.fixture(autouse=True)
def _clean_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder as current directory and home, and none of our variables."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in [name for option in OPTIONS for name in option.env]:
        monkeypatch.delenv(name, raising=False)


def program(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """The real program, where nothing may start a node."""
    command = [sys.executable, "-m", "localai.node.cli", *arguments]
    env = {**os.environ, **environ}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env, timeout=60)


def node(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """The program with a node that only shows its settings."""
    command = [sys.executable, "-c", FAKE_NODE, *arguments]
    env = {**os.environ, **environ}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env, timeout=60)


class Started:
    """A start function that remembers its settings."""

    def __init__(self, code: int = 0, error: Exception | None = None) -> None:
        self.settings: Settings | None = None
        self._code = code
        self._error = error

    def __call__(self, settings: Settings) -> int:
        self.settings = settings
        if self._error:
            raise self._error
        return self._code


def settings_of(*arguments: str) -> Settings:
    start = Started()
    assert main(arguments, start) == 0
    assert start.settings is not None
    return start.settings


# Real processes


def test_help_names_commands_and_variables() -> None:
    root = program("--help")
    assert root.returncode == 0
    assert "completion" in root.stdout
    run = program("run", "-h", COLUMNS="200")
    assert run.returncode == 0
    assert "($LOCALAI_F16, $F16)" in run.stdout
    for panel in ("storage", "performance", "api", "hardening", "logging"):
        assert f"─ {panel} ─" in run.stdout
    assert "--debug" not in run.stdout


def test_help_at_eighty_columns_cuts_nothing_off() -> None:
    _assert_nothing_is_cut_off("run")


def test_help_of_every_command_and_group() -> None:
    for name in ("federated", "p2p token new", "p2p token inspect", "p2p token qr"):
        _assert_nothing_is_cut_off(name)
    for command in COMMANDS:
        done = program(*command.name.split(), "--help")
        assert (done.returncode, done.stderr) == (0, "")
        assert f"Usage: localai {command.name} " in done.stdout


def test_a_group_alone_shows_what_it_holds() -> None:
    for words in (["p2p"], ["p2p", "token"]):
        done = program(*words)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == program(*words, "--help").stdout
    assert "inspect" in program("p2p", "token").stdout
    assert "p2p" in program("--help").stdout


def _assert_nothing_is_cut_off(command: str) -> None:
    text = program(*command.split(), "--help", COLUMNS="80").stdout
    assert "…" not in text
    unwrapped = "".join(text.replace("│", "").split())  # some names are longer than half a line
    for option in options_of(command):
        if not option.hidden:
            assert option.flag in text
            assert all(f"${name}" in unwrapped for name in option.env)


@pytest.mark.parametrize("arguments", [["version"], ["--version"], ["run", "--version"]])
def test_version_is_bare_on_stdout(arguments: list[str]) -> None:
    done = program(*arguments, LOCALAI_THREADS="not read")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip().count(".") >= 2
    assert len(done.stdout.split()) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--thread", "4"], 'unknown flag --thread, did you mean "--threads"?'),
        (["--threads", "many"], '--threads needs a whole number, not "many"'),
        (["--log-level", "loud"], "--log-level must be one of error, warn, info, debug, trace"),
        (["--models-path="], "--models-path must name a directory"),
        (["completion"], "completion needs one of bash, zsh, fish"),
        (["completion", "tcsh"], 'not "tcsh"'),
        (["version", "extra"], 'unexpected argument "extra"'),
        (
            ["p2p", "token", "nwe"],
            'p2p token has no command "nwe", did you mean "new"? See "localai p2p token --help".',
        ),
        (["p2p", "--threads"], "unknown flag --threads"),
        (["p2p", "token", "inspect"], "p2p token inspect needs a token"),
        (["p2p", "token", "qr", "a", "--p2p-token-file", "b"], "was given twice"),
        (["--p2p-peers", "/ip4/1.2.3.4/tcp/1"], "--p2p-peers cannot use"),
        (["federated"], "federated needs a network token, in LOCALAI_P2P_TOKEN or a file for --p2p-token-file"),
        (["federated", "--threads", "4"], "unknown flag --threads"),
        (["--slots", "300"], "--slots must be at most 256, not 300"),
        (["--external-grpc-backends", "mine"], "--external-grpc-backends needs NAME:TARGET"),
        (["--external-grpc-backends", "a:b:1"], "--external-grpc-backends cannot be used yet"),
    ],
)
def test_wrong_command_line_is_80_and_one_line(arguments: list[str], says: str) -> None:
    done = program(*arguments)
    assert (done.returncode, done.stdout) == (EXIT_USAGE, "")
    assert done.stderr.startswith("localai: error: ")
    assert says in done.stderr
    assert '--help".' in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("variable", "value", "code", "says"),
    [
        ("LOCALAI_THREADS", "four", EXIT_PROBLEM, '--threads needs a whole number, not "four" (from envar'),
        ("F16", "on", EXIT_PROBLEM, '(from envar F16="on")'),
        ("LOCALAI_ADDRESS", "8080", EXIT_PROBLEM, "needs host:port"),
        ("LOCALAI_P2P_NETWORK_ID", "a b", EXIT_PROBLEM, '(from envar LOCALAI_P2P_NETWORK_ID="a b")'),
        ("TOKEN", "of-another-program", EXIT_PROBLEM, "(from envar TOKEN)"),
        ("LOCALAI_P2P_TOKEN_FILE", "gone", EXIT_PROBLEM, "cannot be read: no such file or directory"),
        ("LOCALAI_LOG_LEVEL", "foo", EXIT_USAGE, '(from envar LOCALAI_LOG_LEVEL="foo")'),
    ],
)
def test_wrong_variable_is_named(variable: str, value: str, code: int, says: str) -> None:
    done = program(**{variable: value})
    assert (done.returncode, done.stdout) == (code, "")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_flag_environment_file_default_in_this_order(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("LOCALAI_THREADS=1\nLOCALAI_CONTEXT_SIZE=1\nLOCALAI_UPLOAD_LIMIT=1\n")
    done = node("--threads", "3", LOCALAI_THREADS="2", LOCALAI_CONTEXT_SIZE="2")
    assert done.returncode == 0
    assert "threads=3" in done.stdout
    assert "context_size=2" in done.stdout
    assert "upload_limit_bytes=1000000" in done.stdout
    assert "port=8080" in done.stdout


def test_keys_are_masked_in_settings_and_logs_and_logs_go_to_stderr() -> None:
    done = node("--log-format", "json", LOCALAI_API_KEY="very-private")
    assert done.returncode == 0
    assert "very-private" not in done.stdout + done.stderr
    assert '"event": "started"' in done.stderr
    assert '"event"' not in done.stdout


def test_secrets_of_the_command_line_are_neither_seen_nor_logged() -> None:
    done = node("--p2ptoken", TEXT, "--api-keys=very-private", "--log-format=json", "phi")
    assert done.returncode == 0, done.stderr
    assert "seen: ['run', '--log-format=json', 'phi']\n" in done.stdout
    assert "api_keys=(Secret(***),)" in done.stdout
    assert '"event": "joined"' in done.stderr
    assert "hint: --p2ptoken is an old name; use --p2p-token.\n" in done.stderr
    for secret in ("very-private", TEXT, TOKEN.room.reveal()):
        assert secret not in done.stdout + done.stderr


def test_tokens_are_made_and_looked_at() -> None:
    made = program("p2p", "token", "new", "--p2p-otp-interval=600")
    assert (made.returncode, made.stderr) == (0, "")
    token = parse_network_token(made.stdout)
    assert token.crypto.interval_s == 600
    for words, environ in (([token.text.reveal()], {}), ([], {"LOCALAI_P2P_TOKEN": made.stdout})):
        inspected = program("p2p", "token", "inspect", *words, **environ)
        assert (inspected.returncode, inspected.stderr) == (0, "")
        assert "topic: " in inspected.stdout
        assert "new every 600 s" in inspected.stdout
    broken = program("p2p", "token", "inspect", made.stdout[:-3])
    assert (broken.returncode, broken.stdout) == (EXIT_PROBLEM, "")
    assert "cut off" in broken.stderr


def test_a_token_is_shown_as_a_code(tmp_path: Path) -> None:
    assert "█" in program("p2p", "token", "qr", TEXT).stdout
    assert program("p2p", "token", "qr", TEXT, "--output", "code.png").returncode == 0
    assert (tmp_path / "code.png").read_bytes().startswith(b"\x89PNG")


def test_a_broken_env_file_is_reported_and_the_node_starts(tmp_path: Path) -> None:
    (tmp_path / "localai.env").write_text("what is this\nLOCALAI_THREADS=5\n")
    done = node("--log-format=text")
    assert done.returncode == 0
    assert "threads=5" in done.stdout
    assert "event=env_file_problem" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["run", "--help"],
        ["version"],
        ["completion", "bash"],
        ["p2p"],
        ["p2p", "token", "--help"],
        ["federated", "--help"],
    ],
)
def test_quick_commands_import_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from localai.node.cli import main; main(sys.argv[1:]); "
        "print([m for m in ('aiohttp', 'asyncio', 'llama_cpp', 'numpy', 'pydantic', 'structlog', 'trio', 'libp2p') "
        "if m in sys.modules], file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == "[]\n"


def test_a_shell_gets_its_answer() -> None:
    done = program("--log-level", "=", "de", _LOCALAI_COMPLETE="bash")
    assert (done.returncode, done.stdout, done.stderr) == (0, "words\ndebug\n", "")
    assert program("completion", "fish").stdout.startswith("# fish completion")


def test_a_deleted_current_directory_is_one_sentence(tmp_path: Path) -> None:
    code = (
        "import os, sys; from localai.node.cli import main; os.mkdir('gone'); os.chdir('gone'); "
        "os.rmdir('../gone'); sys.exit(main([]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == EXIT_PROBLEM
    assert done.stderr == "localai: error: the current directory no longer exists; change to one that does\n"


def test_interrupt_before_the_node_runs_is_130_without_a_traceback() -> None:
    code = (
        "import sys; from localai.node.cli import main\n"
        "def start(settings): raise KeyboardInterrupt\n"
        "sys.exit(main([], start))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (130, "")


# In this process


@pytest.mark.parametrize(
    ("arguments", "f16", "models"),
    [
        ([], False, ()),
        (["--f16"], True, ()),
        (["--f16=false"], False, ()),
        (["--f16=NO"], False, ()),
        (["--f16=1"], True, ()),
        (["--f16", "false"], True, ("false",)),
    ],
)
def test_booleans(arguments: list[str], f16: bool, models: tuple[str, ...]) -> None:
    settings = settings_of(*arguments)
    assert (settings.f16, settings.models) == (f16, models)


@pytest.mark.parametrize("arguments", [["-t4", "a", "b"], ["run", "a", "b", "-t4"], ["-t", "4", "run", "a", "b"]])
def test_run_is_the_default_and_takes_its_options_before_it(arguments: list[str]) -> None:
    settings = settings_of(*arguments)
    assert (settings.threads, settings.models) == (4, ("a", "b"))


def test_models_of_the_environment_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELS", "a,b")
    assert settings_of("c", "a").models == ("a", "b", "c")
    assert settings_of("--models", "d", "c").models == ("d", "c")


def test_keys_of_a_flag_replace_those_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCALAI_API_KEYS", "a,b")
    assert settings_of().api_keys == (Secret("a"), Secret("b"))
    assert settings_of("--api-keys", "c", "--api-keys=d,e").api_keys == (Secret("c"), Secret("d"), Secret("e"))


def test_without_a_token_a_node_is_alone() -> None:
    settings = settings_of("--p2p-network-id", "home", "--p2p=false")
    assert settings.swarm is None
    assert not settings.entry_only


def test_a_token_alone_joins_its_swarm() -> None:
    settings = settings_of("--p2p-token", TEXT, "--p2p-network-id", "home", "--show-route")
    assert settings.swarm is not None
    assert (settings.swarm.token, settings.swarm.network_id) == (TOKEN, "home")
    assert (settings.swarm.serve, settings.swarm.token_is_new, settings.show_route) == (True, False, True)


@pytest.mark.parametrize("flag", ["--p2p", "--federated"])
def test_without_a_token_a_new_swarm_is_started(flag: str) -> None:
    first = settings_of(flag, "--p2p-otp-interval", "600").swarm
    second = settings_of(flag).swarm
    assert first is not None
    assert second is not None
    assert first.token_is_new
    assert first.token.text != second.token.text
    assert (first.token.crypto.interval_s, first.federated) == (600, flag == "--federated")


def test_an_entry_has_the_settings_of_its_swarm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text(f"LOCALAI_P2P_TOKEN={TEXT}\n")
    monkeypatch.setenv("LOCALAI_P2P_TOKEN", "")  # so that what the file says does not outlive the test
    monkeypatch.delenv("LOCALAI_P2P_TOKEN")
    settings = settings_of(FEDERATED, "--target-worker", "Xk3", "--address", ":1", "--api-keys=key")
    assert settings.entry_only
    assert settings.swarm is not None
    assert (settings.swarm.token, settings.swarm.target_worker, settings.swarm.serve) == (TOKEN, "Xk3", False)
    assert (settings.address.port, settings.api_keys) == (1, (Secret("key"),))
    assert settings.models_path == tmp_path / "data" / "models"


def test_debug_counts_only_without_a_level(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings_of("--debug").log.level == "debug"
    assert settings_of("--debug", "--log-level=warn").log.level == "warn"
    monkeypatch.setenv("DEBUG", "true")
    assert settings_of().log.level == "debug"
    monkeypatch.setenv("LOCALAI_LOG_LEVEL", "error")
    assert settings_of().log.level == "error"


def test_paths_start_at_the_current_directory_and_home(tmp_path: Path) -> None:
    settings = settings_of("--data-path", "~/d")
    assert settings.models_path == tmp_path / "models"
    assert settings.data_path == tmp_path / "home" / "d"


def test_code_of_the_node_is_the_code_of_the_program() -> None:
    assert main([], Started(code=3)) == 3


@pytest.mark.parametrize("error", [SetupError("Port in use; stop it."), Conflict("Port in use; stop it.")])
def test_an_error_is_one_sentence(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([], Started(error=error)) == EXIT_PROBLEM
    assert capsys.readouterr().err == "localai: error: Port in use; stop it.\n"


def test_a_mistyped_command_gets_a_hint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert settings_of("vesion").models == ("vesion",)
    assert 'did you mean "localai version"?' in capsys.readouterr().err
    (tmp_path / "vesion").write_text("")
    settings_of("vesion")
    settings_of("run", "vesion")
    settings_of("phi-2")
    assert capsys.readouterr().err == ""


def test_models_alone_lists_them_and_a_wrong_word_is_bad_usage() -> None:
    done = program("models")
    assert (done.returncode, done.stdout) == (0, " - localai-mesh@smollm2-135m-instruct\n")
    assert program("models", "bogus").returncode == 80
    assert "delete" in program("models", "--help").stdout


def test_model_commands_say_what_is_not_there(tmp_path: Path) -> None:
    for words in (["install", "nobody"], ["delete", "nobody"], ["info", "nobody"]):
        done = program("models", *words)
        assert done.returncode == 1
        assert "nobody" in done.stderr
    done = program("util", "gguf-info", "none.gguf")
    assert done.returncode == 1
    assert "cannot be read" in done.stderr


def test_help_for_wide_terminals_is_in_tables() -> None:
    assert "╭─ backends" in program("run", "--help", COLUMNS="140").stdout
    assert "\nbackends:\n" in program("run", "--help", COLUMNS="80").stdout


def test_an_option_that_does_nothing_yet_is_no_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BACKENDS_PATH", "/b")
    settings_of("--upload-path", "/u", "--threads=2")
    hints = capsys.readouterr().err.splitlines()
    assert hints == [
        "localai: hint: --upload-path has no effect yet: the API takes no files.",
        "localai: hint: --backends-path has no effect yet: there are only built-in backends.",
    ]


def test_tools_for_models(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "bad.gguf").write_bytes(b"\x80\x04K\x01.")
    done = program("util", "hf-scan", COLUMNS="80")
    assert (done.returncode, done.stderr) == (1, "")
    assert "refused  bad    bad.gguf\n" in done.stdout
    assert program("util", "hf-scan", "nobody").returncode == 2
    done = program("util", "usecase-heuristic", "bad")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("bad (bad.gguf)\n  chat ")
    assert program("util", "usecase-heuristic", "nobody").returncode == 1
