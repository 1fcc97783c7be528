"""Puts the parts together: loads the model, builds the routes, runs the server until it is told to stop."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from fastapi import Depends, FastAPI
from starlette.middleware.cors import CORSMiddleware

from server import __version__
from server.api import chat_completions, completions, errors, health, models, openapi, tokenize
from server.api.auth import require_key
from server.api.keys import Keyring, plain_key, read_keys
from server.api.quota import QuotaHeaders
from server.api.request_id import RequestId
from server.api.state import Limits, ServedModel, ServerState
from server.banner import Facts, banner
from server.chat.constraint import GrammarCompiler
from server.chat.prompt import ChatPrompt
from server.chat.sampling_defaults import KEYS, sampling_defaults
from server.chat.service import ChatModel, ChatService
from server.chat.tokenizer import Tokenizer, template_source, template_variables
from server.engine.budget import Budget, share_memory
from server.engine.engine import Engine, EngineConfig
from server.engine.records import StepRecord
from server.errors import ModelFolderError, StartupError
from server.front.connection import ConnectionLimits
from server.front.server import FrontConfig, FrontServer
from server.runtime.contract import Contract
from server.runtime.cpu import available_threads
from server.runtime.graph import Precision
from server.runtime.hub import locate
from server.runtime.memory import memory_left
from server.runtime.model_folder import SLOW_ON_CPU, ModelFolder, open_model_folder
from server.runtime.pool import open_sessions
from server.runtime.prepared import default_folder
from server.runtime.session import ModelSession
from server.settings import ModelSettings, Settings
from server.telemetry.logs import configure_logging, resolved
from server.telemetry.telemetry import Telemetry

logger = logging.getLogger(__name__)

BUILT_IN = Path(__file__).with_name("demo")
BUILT_IN_NAME = "lfm2-demo"
PREFILL_CHUNK = 256  # tokens: longer chunks are hardly faster, and a client that leaves waits for one
LEAST_TOKENS = 64  # with room for fewer, hardly a chat fits


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that is ready to be served, its engine not started yet."""

    served: ServedModel
    engine: Engine
    open_narrow: Callable[[], list[ModelSession]] | None
    folder: ModelFolder
    threads: int


def run(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM. Raises StartupError where that cannot begin."""
    configure_logging(resolved(settings.log_format), settings.log_level)
    listener = listen(settings.host, settings.port)
    app = create_app(settings, _address(listener, settings))
    server = create_server(app, settings)
    signal.signal(signal.SIGHUP, lambda *_: _reread_keys(app, settings))
    server.run(sockets=[listener])
    if app.state.failure is not None:
        raise app.state.failure


def create_server(app: FastAPI, settings: Settings) -> FrontServer:
    """What serves `app`; its `run` takes the listening sockets. Raises StartupError."""
    if settings.ssl_keyfile and not settings.ssl_certfile:
        raise StartupError("--ssl-keyfile goes with --ssl-certfile only.")
    config = FrontConfig(
        ConnectionLimits(settings.max_connections, settings.read_timeout, settings.client_idle_timeout),
        keep_alive=settings.keep_alive,
        drain_delay=settings.drain_delay,
        drain_timeout=settings.drain_timeout,
        forwarded_allow_ips=settings.forwarded_allow_ips,
        ssl_certfile=settings.ssl_certfile,
        ssl_keyfile=settings.ssl_keyfile,
    )
    server = FrontServer(app, app.state.server, config)
    app.state.give_up = lambda: setattr(server, "should_exit", True)
    return server


def create_app(settings: Settings, address: str) -> FastAPI:
    """The application; it loads the model while it already answers, and prints the banner when that is done."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(_load(app, settings, address))
        yield
        loading.cancel()
        if app.state.server.model is not None:
            await app.state.server.model.service.engine.stop()
        await telemetry.close()

    app = FastAPI(title="lfm-serve", version=__version__, lifespan=lifespan)
    app.state.server = ServerState(_limits(settings), _keyring(settings))
    telemetry = app.state.telemetry = Telemetry(app.state.server.is_ready, settings.log_prompts)
    app.state.failure = None
    app.state.give_up = lambda: None
    telemetry.install(app)
    if settings.api_keys_file:
        app.add_middleware(QuotaHeaders)
    app.add_middleware(RequestId)
    if settings.cors_origin:
        app.add_middleware(CORSMiddleware, allow_origins=settings.cors_origin, allow_headers=("*",))
    errors.install(app)
    for router in (chat_completions.router, completions.router, models.router, tokenize.router):
        app.include_router(router, dependencies=[Depends(require_key)])
    app.include_router(health.router)
    openapi.install(app)
    return app


async def _load(app: FastAPI, settings: Settings, address: str) -> None:
    server: ServerState = app.state.server

    def say(line: str) -> None:
        logger.info(line)
        server.loading = line.removesuffix(".")

    try:
        loaded = await _in_daemon_thread(lambda: load_model(settings, app.state.telemetry.metrics.step, say))
        loaded.engine.start()
    except Exception as error:
        app.state.failure = _no_memory(error) if isinstance(error, MemoryError) else error
        app.state.give_up()
        return
    app.state.telemetry.metrics.serve(_model_labels(settings, loaded), loaded.engine.stats)
    app.state.server.model = loaded.served
    _announce(settings, _facts(settings, loaded, address))
    if loaded.open_narrow is not None:
        threading.Thread(target=_let_in, args=(loaded.engine, loaded.open_narrow), daemon=True).start()


def _let_in(engine: Engine, open_narrow: Callable[[], list[ModelSession]]) -> None:
    """Add the narrow sessions, which the server need not wait for."""
    try:
        engine.join(open_narrow())
    except Exception:
        logger.exception("Prompts are not read beside streams: the sessions for that could not be opened.")


def _no_memory(error: MemoryError) -> StartupError:
    return StartupError(f"There is not enough memory ({error}): lower --max-seqs or --max-model-len.")


def _announce(settings: Settings, facts: Facts) -> None:
    """People get the banner, machines a line."""
    if resolved(settings.log_format) == "text":
        print(banner(facts), flush=True)
    else:
        logger.info("Serving %s on %s", facts.name, facts.address, extra={"fields": {"facts": asdict(facts)}})


def load_model(
    settings: Settings, observe: Callable[[StepRecord], None], say: Callable[[str], None] = logger.info
) -> LoadedModel:
    """Find, download and open what `settings` name, and `say` what is being done; `observe` is told of each step.

    Raises StartupError.
    """
    folder = find_model(settings, say)
    threads = settings.threads or available_threads()
    say(f"Loading {folder.graph.name} with {threads} threads ...")
    max_tokens = max(PREFILL_CHUNK, settings.max_seqs)
    prepared = settings.prepared_folder or default_folder()
    with ThreadPoolExecutor(1) as executor:  # onnxruntime works alone for seconds
        tokenizer = executor.submit(Tokenizer.load, folder.path)
        pool = open_sessions(folder, Precision(settings.precision), threads, max_tokens, prepared, say)
    contract = pool.sessions[0].contract
    chat = _chat_model(settings, folder, tokenizer.result(), contract.vocab_size)
    max_model_len = _max_model_len(settings, folder)
    budget = _budget(settings, contract, memory_left(pool.mapped_bytes), max_model_len)
    config = EngineConfig(
        max_seqs=settings.max_seqs,
        max_waiting=settings.max_waiting,
        max_model_len=max_model_len,
        prefill_chunk=PREFILL_CHUNK,
        max_waiting_tokens=settings.max_waiting_tokens,
        slot_tokens=budget.slot_tokens,
        cache_bytes=budget.cache_bytes,
        itl_target=settings.itl_target,
        unknown_ids=chat.tokenizer.unknown_ids(contract.vocab_size),
    )
    engine = Engine(pool.sessions, config, observe)
    say("Warming up ...")
    try:
        engine.warm_up()
    except Exception as error:
        raise StartupError(f"The model fails on a trial step: {error}") from error
    served = ServedModel(
        service=ChatService(engine, chat),
        names=settings.served_model_name or (_name(settings, folder),),
        fingerprint=_fingerprint(folder, config),
        sampling={key: getattr(chat.defaults, key) for key in KEYS},
    )
    return LoadedModel(served, engine, pool.open_narrow, folder, threads)


def find_model(settings: ModelSettings, say: Callable[[str], None]) -> ModelFolder:
    """The folder of the model that is named, downloaded where needed. Raises StartupError."""
    path = BUILT_IN if settings.model is None else locate(settings.model, settings.revision, settings.dtype, say)
    return open_model_folder(path, settings.dtype)


def _chat_model(settings: Settings, folder: ModelFolder, tokenizer: Tokenizer, vocab_size: int) -> ChatModel:
    template = settings.chat_template
    source = template.read_text(encoding="utf-8") if template else template_source(folder.path)
    if source is None:
        raise ModelFolderError(f"{folder.path} has no chat template: give one with --chat-template FILE.")
    variables = template_variables(folder.path)
    stop = set(folder.eos_token_ids)
    if (end := tokenizer.special.get(variables.get("eos_token", ""))) is not None:
        stop.add(end)
    if not stop:
        raise ModelFolderError(f"{folder.path} names no token that ends an answer: config.json needs eos_token_id.")
    return ChatModel(
        tokenizer=tokenizer,
        prompt=ChatPrompt(source, tokenizer, variables, bare_tools=folder.is_lfm2),
        defaults=sampling_defaults(folder.generation_config, folder.is_lfm2, settings.default_sampling),
        stop_token_ids=frozenset(stop),
        grammars=GrammarCompiler(tokenizer, vocab_size, sorted(stop)),
        constrain_always=settings.tool_constraints == "always",
    )


def _limits(settings: Settings) -> Limits:
    return Limits(**{field.name: getattr(settings, field.name) for field in fields(Limits)})


def _keyring(settings: Settings) -> Keyring:
    keys = [plain_key("default", settings.api_key.get_secret_value())] if settings.api_key else []
    return Keyring([*keys, *(read_keys(settings.api_keys_file) if settings.api_keys_file else ())])


def _reread_keys(app: FastAPI, settings: Settings) -> None:
    """On SIGHUP; a file that cannot be used changes nothing."""
    try:
        app.state.server.keys = _keyring(settings)
        logger.info("The API keys have been read again.")
    except StartupError as error:
        logger.error("The API keys stay as they were: %s", error)


def _max_model_len(settings: Settings, folder: ModelFolder) -> int:
    if settings.max_model_len is None:
        return folder.max_model_len
    if settings.max_model_len > folder.positions:
        raise StartupError(
            f"--max-model-len is {settings.max_model_len}, but this model has positions for {folder.positions} tokens."
        )
    return settings.max_model_len


def _budget(settings: Settings, contract: Contract, left: int, max_model_len: int) -> Budget:
    cache_bytes = None if settings.cache_memory is None else settings.cache_memory << 20
    bytes_per_token = sum(state.bytes_per_token for state in contract.states)
    budget = share_memory(left, bytes_per_token, settings.max_seqs * max_model_len, cache_bytes)
    if budget.slot_tokens < LEAST_TOKENS:
        raise StartupError(
            f"Too little memory is left for this model's state: {budget.slot_tokens} tokens of {bytes_per_token:,} "
            f"bytes. Choose a smaller --cache-memory, a smaller --dtype, or a machine with more memory."
        )
    logger.info(
        "State: %d tokens of running sequences, %d MiB of prefix cache.", budget.slot_tokens, budget.cache_bytes >> 20
    )
    return budget


def _name(settings: Settings, folder: ModelFolder) -> str:
    """A hub repository's id or a folder's name."""
    if settings.model is None:
        return BUILT_IN_NAME
    return Path(settings.model).resolve().name if Path(settings.model).exists() else settings.model


def _fingerprint(folder: ModelFolder, config: EngineConfig) -> str:
    """Changes with the graph, the sizes of its weights, this version, and what else decides the numbers."""
    files = sorted((file.name, file.stat().st_size) for file in folder.graph.parent.glob(f"{folder.graph.name}*"))
    facts = (__version__, files, config.max_model_len, config.prefill_chunk)
    return "fp_" + hashlib.sha256(folder.graph.read_bytes() + repr(facts).encode()).hexdigest()[:12]


def _model_labels(settings: Settings, loaded: LoadedModel) -> dict[str, str]:
    """What metrics tell of the model, beside its counts."""
    return {
        "model": loaded.served.names[0],
        "dtype": loaded.folder.dtype,
        "precision": settings.precision,
        "fingerprint": loaded.served.fingerprint,
        "threads": str(loaded.threads),
        "max_model_len": str(loaded.engine.max_model_len),
    }


def _facts(settings: Settings, loaded: LoadedModel, address: str) -> Facts:
    return Facts(
        address=address,
        name=loaded.served.names[0],
        built_in=settings.model is None,
        dtype=loaded.folder.dtype,
        dtypes=loaded.folder.dtypes,
        slow=loaded.folder.dtype in SLOW_ON_CPU,
        threads=loaded.threads,
        max_seqs=settings.max_seqs,
        max_model_len=loaded.engine.max_model_len,
        sampling=loaded.served.sampling,
        needs_key=bool(_keyring(settings)),
    )


def listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise StartupError(
            f"Cannot listen on {host}, port {port}: {os.strerror(error.errno or 0)}. Choose another with --port."
        ) from None


def _address(listener: socket.socket, settings: Settings) -> str:
    host, port = listener.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"{'https' if settings.ssl_certfile else 'http'}://{shown}:{port}"


async def _in_daemon_thread(work: Callable[[], LoadedModel]) -> LoadedModel:
    """Like asyncio.to_thread, but the process may end while `work` still runs: a download must not hold up Ctrl-C."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[LoadedModel] = loop.create_future()

    def settle(result: LoadedModel | None, error: Exception | None) -> None:
        if future.cancelled():
            return
        if result is not None:
            future.set_result(result)
        elif error is not None:
            future.set_exception(error)

    def target() -> None:
        try:
            result = work()
        except Exception as error:
            _call_if_open(loop, settle, None, error)
        else:
            _call_if_open(loop, settle, result, None)

    threading.Thread(target=target, name="loader", daemon=True).start()
    return await future


def _call_if_open(loop: asyncio.AbstractEventLoop, settle: Callable[..., None], *arguments: object) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(settle, *arguments)
