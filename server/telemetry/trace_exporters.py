"""Enables traces if OpenTelemetry's environment variables request them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from server.telemetry.traces import Traces

EXPORTERS = "opentelemetry_traces_exporter"
"""Entry point group of OpenTelemetry's exporters."""

SWITCHES = ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")

logger = logging.getLogger(__name__)


def wanted_traces(environment: Mapping[str, str]) -> Traces | None:
    """Return Traces if `environment` enables them, else None.

    Logs a warning for each missing package. If no exporter is installed, also returns None.
    """
    names = _exporters(environment)
    if not names:
        return None
    try:
        from server.telemetry.traces import Traces  # imported here because opentelemetry is optional
    except ImportError:
        logger.warning(
            "%s enables traces, but OpenTelemetry is not installed, so no traces are sent. "
            "Install it with: pip install 'lfm-serve[otel]'",
            next(name for name in SWITCHES if environment.get(name)),
        )
        return None
    exporters = [exporter for name in names if (exporter := _exporter(name)) is not None]
    return Traces(exporters) if exporters else None


def _exporters(environment: Mapping[str, str]) -> list[str]:
    """Return the names of the exporters that `environment` selects."""
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true" or not any(map(environment.get, SWITCHES)):
        return []
    protocol = next(filter(None, map(environment.get, PROTOCOLS)), "http/protobuf")
    otlp = "otlp_proto_grpc" if protocol == "grpc" else "otlp_proto_http"
    named = [name.strip() for name in (environment.get("OTEL_TRACES_EXPORTER") or "otlp").split(",")]
    return [otlp if name == "otlp" else name for name in named if name not in ("", "none")]


def _exporter(name: str) -> Any:
    """Return a new exporter called `name`.

    If it is not installed, logs a warning and returns None.
    """
    for found in entry_points(group=EXPORTERS, name=name):
        return found.load()()
    installed = ", ".join(sorted(entry_points(group=EXPORTERS).names))
    logger.warning(
        "The trace exporter %s is not installed, so no traces are sent to it. Installed exporters: %s.", name, installed
    )
    return None
