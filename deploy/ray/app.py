"""The application for `serve run deploy.ray.app:app`."""

from server.ray.application import app

__all__ = ["app"]
