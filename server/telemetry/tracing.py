"""Whether traces are wanted, as OpenTelemetry's own environment variables say, and whether they can be had."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from server.telemetry.traces import Traces

EXPORTERS = "opentelemetry_traces_exporter"
"""The group of entry points by which OpenTelemetry finds exporters."""

SWITCHES = ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")

logger = logging.getLogger(__name__)


def wanted_traces(environment: Mapping[str, str]) -> Traces | None:
    """Traces where `environment` switches them on. Where that is impossible there are none, and a warning says why."""
    names = _exporters(environment)
    if not names:
        return None
    try:
        from server.telemetry.traces import Traces  # here, as it needs what may not be installed
    except ImportError:
        logger.warning(
            "There are no traces, though %s asks for them: OpenTelemetry is not installed. "
            "Get it with: pip install 'lfm-serve[otel]'",
            next(name for name in SWITCHES if environment.get(name)),
        )
        return None
    exporters = [exporter for name in names if (exporter := _exporter(name)) is not None]
    return Traces(exporters) if exporters else None


def _exporters(environment: Mapping[str, str]) -> list[str]:
    """The names of the exporters to use."""
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true" or not any(map(environment.get, SWITCHES)):
        return []
    protocol = next(filter(None, map(environment.get, PROTOCOLS)), "http/protobuf")
    otlp = "otlp_proto_grpc" if protocol == "grpc" else "otlp_proto_http"
    named = [name.strip() for name in (environment.get("OTEL_TRACES_EXPORTER") or "otlp").split(",")]
    return [otlp if name == "otlp" else name for name in named if name not in ("", "none")]


def _exporter(name: str) -> Any:
    """A new exporter; None, with a warning, where it is not installed."""
    for found in entry_points(group=EXPORTERS, name=name):
        return found.load()()
    installed = ", ".join(sorted(entry_points(group=EXPORTERS).names))
    logger.warning("There are no traces by %s: no such exporter is installed. Installed: %s.", name, installed)
    return None
