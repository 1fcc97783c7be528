"""Creates the application and runs the server until a signal stops it.

The model loads in the background. Until it is loaded, requests that need it get a 503.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, fields
from functools import partial

from fastapi import Depends, FastAPI
from fastapi_offline import FastAPIOffline
from starlette.middleware.cors import CORSMiddleware

from server import __version__
from server.api import health, models, tokenize
from server.api.access.api_keys import Keyring, plain_key, read_keys
from server.api.access.auth import require_key
from server.api.access.rate_limit import RateLimitHeaders
from server.api.chat_completions import route as chat_completions
from server.api.completions import route as completions
from server.api.http import errors, openapi
from server.api.http.head import HeadAsGet
from server.api.http.request_id import RequestId
from server.api.messages import route as messages
from server.api.messages.dialect import ChooseAnthropic
from server.api.playground import playground_router
from server.api.responses import route as responses
from server.api.responses.responses import open_responses
from server.api.server_state import Limits, ServerState
from server.api.watchdog import watch
from server.banner import Facts, banner
from server.concurrency.background import in_background
from server.engine.engine import Engine
from server.errors import StartupError
from server.front.connection import ConnectionLimits
from server.front.descriptors import raise_limit
from server.front.listener import address_of, listen
from server.front.server import FrontConfig, FrontServer
from server.front.systemd import READY, inherited_listener, notify
from server.loading.load import LoadedModel, load_model
from server.loading.model_choice import model_names
from server.runtime.model_folder import SLOW_ON_ONNXRUNTIME
from server.runtime.native.choice import Kernels
from server.runtime.session import ModelSession
from server.settings import Settings
from server.telemetry.logs import configure_logging, resolved
from server.telemetry.setup import Telemetry

logger = logging.getLogger(__name__)


def run(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM.

    Threads may still be running afterwards: end the process with `server.process.end_process`.

    Raises StartupError if the server cannot start.
    """
    _resume_collection()
    configure_logging(resolved(settings.log_format), settings.log_level)
    settings = _within_descriptors(settings)
    listener = inherited_listener() or listen(settings.host, settings.port)
    app = create_app(settings, address_of(listener, https=bool(settings.ssl_certfile)), exempt_from_collection)
    server = create_server(app, settings)
    signal.signal(signal.SIGHUP, lambda *_: _reread_keys(app, settings))
    # The runner is not closed: closing it would wait for the threads of its executor, which may be stuck.
    asyncio.Runner(loop_factory=server.config.get_loop_factory()).run(server.serve([listener]))
    if app.state.failure is not None:
        raise app.state.failure


def _within_descriptors(settings: Settings) -> Settings:
    """Return `settings`, lowering `max_connections` to fit the file descriptor limit."""
    allowed = raise_limit(settings.max_connections)
    if allowed == settings.max_connections:
        return settings
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    logger.warning(
        "The limit on file descriptors (%d) allows %d connections, fewer than --max-connections (%d).",
        limit, allowed, settings.max_connections,
    )  # fmt: skip
    return settings.model_copy(update={"max_connections": allowed})


def create_server(app: FastAPI, settings: Settings) -> FrontServer:
    """Return a server that runs `app`.

    Raises StartupError if the certificate or its key is missing or cannot be loaded.
    """
    if settings.ssl_keyfile and not settings.ssl_certfile:
        raise StartupError("--ssl-keyfile requires --ssl-certfile.")
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


def create_app(settings: Settings, address: str, on_loaded: Callable[[], None] = lambda: None) -> FastAPI:
    """Return the application, which loads its model when it starts.

    address: URL of the server, shown in the banner.
    on_loaded: called once, before the model's first request.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(one) for one in (_load(app, settings, address, on_loaded), watch(server))]
        yield
        for task in tasks:
            task.cancel()
        await app.state.responses.close()
        if server.model is not None:
            await server.model.service.close(server.drained_at(settings.drain_timeout))
        if app.state.kv_events is not None:
            await asyncio.to_thread(app.state.kv_events.close)
        await telemetry.close()

    # Starlette's redirects for trailing slashes are off: they would send clients to any host in the Host header.
    app = FastAPIOffline(title="lfm-serve", version=__version__, lifespan=lifespan, redirect_slashes=False)
    app.add_middleware(HeadAsGet)
    app.add_middleware(ChooseAnthropic)
    server = app.state.server = ServerState(limits(settings), keyring(settings))
    app.state.responses = open_responses(settings.responses_file, settings.responses_memory, settings.responses_ttl)
    vllm_name = model_names(settings)[0] if settings.metrics_compat == "vllm" else None
    telemetry = app.state.telemetry = Telemetry(server.request_log, server.is_ready, settings.log_prompts, vllm_name)
    app.state.failure = app.state.kv_events = None
    app.state.give_up = lambda: None
    telemetry.install(app)
    if settings.api_keys_file:
        app.add_middleware(RateLimitHeaders)
    app.add_middleware(RequestId)
    if settings.cors_origin:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origin,
            allow_methods=("GET", "POST", "DELETE"),
            allow_headers=("*",),
            allow_private_network="*" not in settings.cors_origin,
            expose_headers=("*",),
        )
    errors.install(app)
    protocols = chat_completions.router, responses.router, messages.router, completions.router
    for router in (*protocols, models.router, tokenize.router):
        app.include_router(router, dependencies=[Depends(require_key)])
    app.include_router(health.router)
    if not settings.no_playground:
        app.include_router(playground_router())
    openapi.install(app)
    return app


def exempt_from_collection() -> None:
    """Exempt all existing objects from garbage collection.

    Each scan of these objects would stop all threads for tens of milliseconds.
    """
    gc.collect()
    gc.freeze()


def _resume_collection() -> None:
    """Turn garbage collection on, but never collect the imported modules.

    The collector was off during the imports, to speed them up.
    """
    gc.freeze()  # these objects contain hardly any garbage
    gc.enable()


async def _load(app: FastAPI, settings: Settings, address: str, on_loaded: Callable[[], None]) -> None:
    """Load the model and start serving it.

    On failure, store the error in `app.state.failure` and stop the server.
    """
    server: ServerState = app.state.server

    def say(line: str) -> None:
        logger.info(line)
        server.loading = line.removesuffix(".")

    try:
        loading = in_background(lambda: load_model(settings, app.state.telemetry.metrics.step, say), "loader")
        loaded = await asyncio.wrap_future(loading)
        loaded.engine.start()
    except Exception as error:
        app.state.failure = _no_memory(error) if isinstance(error, MemoryError) else error
        app.state.give_up()
        return
    on_loaded()
    app.state.kv_events = loaded.kv_events
    app.state.telemetry.metrics.serve(_model_labels(settings, loaded), loaded.engine.stats, loaded.cache_blocks)
    server.model = loaded.served
    # In the background, so that it delays neither the first grammar nor the server's start.
    in_background(loaded.start_grammars, "grammars")
    if loaded.open_narrow is not None:
        in_background(partial(_join_narrow, loaded.engine, loaded.open_narrow), "narrow sessions")
    _announce(settings, _facts(settings, loaded, address, needs_key=bool(server.keys)))
    notify(READY)


def _join_narrow(engine: Engine, open_narrow: Callable[[], list[ModelSession]]) -> None:
    """Open the narrow sessions and give them to the engine."""
    try:
        engine.join(open_narrow())
    except Exception:
        logger.exception("The narrow sessions cannot be opened: prompts are not prefilled in parallel with decoding.")


def _no_memory(error: MemoryError) -> StartupError:
    return StartupError(f"There is not enough memory ({error}): lower --max-seqs or --max-model-len.")


def _announce(settings: Settings, facts: Facts) -> None:
    """Print the banner.

    If logs are JSON or printing fails, log the facts as one line instead.
    """
    if resolved(settings.log_format) == "text":
        with suppress(OSError):
            print(banner(facts), flush=True)
            return
    logger.info("Serving %s on %s", facts.name, facts.address, extra={"fields": {"facts": asdict(facts)}})


def limits(settings: Settings) -> Limits:
    """Return the server's limits from `settings`."""
    return Limits(**{field.name: getattr(settings, field.name) for field in fields(Limits)})


def keyring(settings: Settings) -> Keyring:
    """Return the API keys in `settings` and in the file of API keys.

    Raises StartupError if the file cannot be read.
    """
    keys = [plain_key("default", settings.api_key.get_secret_value())] if settings.api_key else []
    return Keyring([*keys, *(read_keys(settings.api_keys_file) if settings.api_keys_file else ())])


def _reread_keys(app: FastAPI, settings: Settings) -> None:
    """Read the API keys again after a SIGHUP.

    If the file has errors, the server keeps its current keys.
    """
    try:
        app.state.server.keys = keyring(settings)
        logger.info("The API keys have been read again.")
    except StartupError as error:
        logger.error("The API keys could not be read again and are unchanged: %s", error)


def _model_labels(settings: Settings, loaded: LoadedModel) -> dict[str, str]:
    """Return the labels of the metric that describes the model."""
    return {
        "model": loaded.served.names[0],
        "dtype": loaded.folder.dtype,
        "precision": settings.precision,
        "fingerprint": loaded.served.fingerprint,
        "kernels": loaded.kernels.name,
        "threads": str(loaded.threads),
        "max_model_len": str(loaded.engine.max_model_len),
    }


def _facts(settings: Settings, loaded: LoadedModel, address: str, *, needs_key: bool) -> Facts:
    return Facts(
        address=address,
        name=loaded.served.names[0],
        built_in=loaded.served.built_in,
        dtype=loaded.folder.dtype,
        dtypes=loaded.folder.dtypes,
        slow=loaded.folder.dtype in SLOW_ON_ONNXRUNTIME and loaded.kernels.name == Kernels.ONNXRUNTIME,
        threads=loaded.threads,
        kernels=loaded.kernels.name,
        kernels_reason=loaded.kernels.reason,
        max_seqs=settings.max_seqs,
        max_model_len=loaded.engine.max_model_len,
        family=loaded.folder.member.name if loaded.folder.member else None,
        chats=loaded.chats,
        sampling=loaded.served.sampling,
        needs_key=needs_key,
        playground=not settings.no_playground,
    )
