"""Opens the chosen model and creates its engine."""

from __future__ import annotations

import hashlib
import logging
import socket
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

from server import __version__
from server.cache_folder.disk_cache import DiskCache
from server.cache_folder.opening import open_cache
from server.chat.sampling_defaults import KEYS
from server.chat.served_model import ServedModel
from server.chat.service import AnswerLimits, ChatService
from server.concurrency.background import in_background
from server.engine.config import EngineConfig
from server.engine.engine import Engine
from server.engine.memory_budget import Budget, share_memory
from server.engine.observations import StepObservation
from server.engine.sequence import CHECKPOINT_INTERVAL
from server.errors import ModelFolderError, StartupError
from server.kv_events.changes import MAX_CHANGES
from server.kv_events.held_blocks import HeldBlocks
from server.loading.chat_model import chat_model
from server.loading.model_choice import find_model, model_names
from server.prepare import renew
from server.runtime.contract import Contract
from server.runtime.graph import Precision, load
from server.runtime.machine.cpu import available_threads
from server.runtime.machine.heap import kept_heap
from server.runtime.machine.memory import memory_left
from server.runtime.model_folder import ModelFolder
from server.runtime.native.choice import Kernels, KernelsInUse, choose_kernels, kernels_in_use
from server.runtime.prepared_copy.lookup import default_folder, weight_digests
from server.runtime.prepared_copy.placement import Placement, place
from server.runtime.session import ModelSession
from server.runtime.session_pool import SMALL, choose_graph, open_sessions
from server.runtime.snapshots import Snapshot
from server.settings import Settings

if TYPE_CHECKING:
    from server.kv_events.publisher import KvEventPublisher

logger = logging.getLogger(__name__)

PREFILL_CHUNK = 256  # in tokens; longer chunks are hardly faster, but cancelling a request waits for the running chunk
LEAST_TOKENS = 64  # hardly any chat fits into fewer tokens


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model and its engine, ready to be started.

    open_narrow: opens the narrow sessions; None if there are none left to open.
    start_grammars: makes the first grammar faster (see `GrammarCompiler.start`).
    threads: threads of the wide session.
    chats: whether the model has a chat template.
    cache_blocks: capacity of the prefix cache in blocks.
    kv_events: publishes changes to the prefix cache; None if this is switched off.
    """

    served: ServedModel
    engine: Engine
    open_narrow: Callable[[], list[ModelSession]] | None
    start_grammars: Callable[[], object]
    folder: ModelFolder
    threads: int
    kernels: KernelsInUse
    chats: bool
    cache_blocks: int
    kv_events: KvEventPublisher | None


def load_model(
    settings: Settings, observe: Callable[[StepObservation], None], say: Callable[[str], None] = logger.info
) -> LoadedModel:
    """Find the model chosen in `settings`, download it if needed, and open it.

    observe: called after each engine step, on the thread that ran it.
    say: called with each line of progress.

    Raises StartupError if the model cannot be served.
    """
    folder = find_model(settings, say)
    threads = settings.threads or available_threads()
    say(f"Loading {folder.graph.name} with {threads} threads ...")
    max_tokens = max(PREFILL_CHUNK, settings.max_seqs)
    precision, prepared = Precision(settings.precision), settings.prepared_folder or default_folder()
    choice = choose_kernels(Kernels(settings.kernels), precision)
    original = load(folder.graph, precision, choice.native)
    renew(folder, original, precision, threads, prepared, say, create=not settings.no_prepare)
    graph = choose_graph(original, prepared, say)
    kernels = kernels_in_use(graph, original, choice)
    digests = in_background(lambda: weight_digests(graph, original), "digests") if settings.cache_folder else None
    with nullcontext() if graph.weight_bytes < SMALL else kept_heap():
        placed = place(graph, Placement(settings.weights), say)
        # The tokenizer and the template take one core for half a second. The sessions open in the meantime.
        loading_chat = in_background(lambda: chat_model(settings, folder), "tokenizer")
        pool = open_sessions(placed, threads, max_tokens, folder.head_dim)
        chat = loading_chat.result()
    contract = pool.sessions[0].contract
    if contract.vocab_size != folder.vocab_size:
        raise ModelFolderError(
            f"{folder.graph.name} has logits for {contract.vocab_size} tokens, but vocab_size in config.json is "
            f"{folder.vocab_size}."
        )
    max_model_len = _max_model_len(settings, folder)
    budget = _budget(settings, contract, memory_left(pool.droppable_bytes), max_model_len)
    fingerprint = _fingerprint(folder, max_model_len, precision, kernels.name)
    disk = _disk_cache(settings, folder, contract, kernels.name, digests) if digests else None
    if disk and not budget.cache_bytes:
        raise StartupError("--cache-folder requires a prefix cache in memory, but --cache-memory is 0.")
    # A block has the same name in memory and on disk.
    identity = disk.identity if disk else fingerprint.encode()
    held = HeldBlocks(identity, MAX_CHANGES if settings.kv_events_endpoint else 0)
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
        held_blocks=held,
    )
    engine = Engine(pool.sessions, config, observe, disk)
    say("Warming up ...")
    try:
        engine.warm_up()
    except Exception as error:
        raise StartupError(f"The model fails on a trial step: {error}") from error
    served = ServedModel(
        service=ChatService(engine, chat, AnswerLimits(settings.max_n, settings.max_output_tokens)),
        names=model_names(settings),
        fingerprint=fingerprint,
        sampling={key: getattr(chat.defaults, key) for key in KEYS},
        built_in=settings.model is None,
    )
    start_grammars = chat.grammars.start
    return LoadedModel(
        served, engine, pool.open_narrow, start_grammars, folder, threads, kernels, chat.prompt.takes_chats,
        cache_blocks=budget.cache_bytes // Snapshot(contract.states, CHECKPOINT_INTERVAL).nbytes,
        kv_events=_publish(settings, held, disk) if settings.kv_events_endpoint else None,
    )  # fmt: skip


def _max_model_len(settings: Settings, folder: ModelFolder) -> int:
    if settings.max_model_len is None:
        return folder.max_model_len
    if settings.max_model_len > folder.positions:
        raise StartupError(
            f"--max-model-len is {settings.max_model_len}, but this model supports at most {folder.positions} tokens."
        )
    return settings.max_model_len


def _budget(settings: Settings, contract: Contract, left: int, max_model_len: int) -> Budget:
    cache_bytes = None if settings.cache_memory is None else settings.cache_memory << 20
    bytes_per_token = contract.bytes_per_token
    budget = share_memory(left, bytes_per_token, settings.max_seqs * max_model_len, cache_bytes)
    if budget.slot_tokens < LEAST_TOKENS:
        raise StartupError(
            f"Too little memory is left for this model's state: there is room for {budget.slot_tokens} tokens of "
            f"{bytes_per_token:,} bytes each, but at least {LEAST_TOKENS} tokens are needed. Choose a smaller "
            "--cache-memory, a smaller --dtype, or a machine with more memory."
        )
    logger.info(
        "There is memory for %d tokens in running sequences and for a prefix cache of %d MiB.",
        budget.slot_tokens, budget.cache_bytes >> 20,
    )  # fmt: skip
    return budget


def _disk_cache(
    settings: Settings, folder: ModelFolder, contract: Contract, kernels: str, digests: Future[list[str]]
) -> DiskCache:
    """Return the prefix cache on disk.

    digests: hashes of the model's weight files.
    """
    assert settings.cache_folder is not None
    graph = hashlib.sha256(folder.graph.read_bytes()).hexdigest()
    facts = (__version__, version("onnxruntime"), graph, digests.result(), settings.precision, kernels)
    half = settings.cache_disk_dtype == "float16"
    tracked = settings.kv_events_endpoint is not None
    return open_cache(settings.cache_folder, settings.cache_disk, half, contract.states, facts, tracked)


def _fingerprint(folder: ModelFolder, max_model_len: int, precision: Precision, kernels: str) -> str:
    """Return a hash of the model and of the options that affect its logits.

    Weight files count by name and size only.
    """
    files = sorted((file.name, file.stat().st_size) for file in folder.graph.parent.glob(f"{folder.graph.name}*"))
    facts = (__version__, files, str(precision), max_model_len, PREFILL_CHUNK, kernels)
    return "fp_" + hashlib.sha256(folder.graph.read_bytes() + repr(facts).encode()).hexdigest()[:12]


def _publish(settings: Settings, held: HeldBlocks, disk: DiskCache | None) -> KvEventPublisher:
    """Start publishing changes to the prefix cache, in memory and on disk.

    held: the blocks in memory.

    Raises StartupError if an endpoint cannot be used or the extra `events` is missing.
    """
    try:
        from server.kv_events.publisher import (  # imported here because its packages are optional
            Cache,
            KvEventPublisher,
        )
    except ImportError as error:
        raise StartupError(
            f"--kv-events-endpoint needs the package {error.name}. Install it with: pip install 'lfm-serve[events]'"
        ) from None
    topic = settings.kv_events_topic or f"kv@{socket.gethostname()}@{model_names(settings)[0]}"
    assert settings.kv_events_endpoint is not None
    caches: list[Cache] = [held]
    if disk and disk.held:
        caches.append(disk.held)
    return KvEventPublisher(settings.kv_events_endpoint, settings.kv_events_replay_endpoint, topic, caches)
