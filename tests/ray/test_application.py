"""The files of deploy/ray/ against Ray's own schema and the server's options. No cluster here."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("ray", reason="needs the environment of requirements/ray.txt")

from ray.serve.schema import ServeDeploySchema

from server.settings import Settings

CONFIG: dict[str, Any] = yaml.safe_load((Path(__file__).parents[2] / "deploy" / "ray" / "config.yaml").read_text())
(APPLICATION,) = CONFIG["applications"]
DEPLOYMENTS = {deployment["name"]: deployment for deployment in APPLICATION["deployments"]}


def test_the_configuration_matches_rays_schema() -> None:
    assert ServeDeploySchema.model_validate(CONFIG).applications[0].name == "lfm-serve"


def test_the_configured_application_has_the_configured_deployments() -> None:
    module, _, name = APPLICATION["import_path"].partition(":")
    application = getattr(importlib.import_module(module), name)
    names = {application._bound_deployment.name}
    names |= {argument._bound_deployment.name for argument in application._bound_deployment.init_args}
    assert names == DEPLOYMENTS.keys()


def test_the_application_for_serve_run_can_be_imported() -> None:
    assert importlib.import_module("deploy.ray.app").app is not None


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_the_options_are_those_of_the_server(name: str) -> None:
    assert Settings(**DEPLOYMENTS[name]["user_config"]).max_seqs == 16


def test_a_replica_takes_as_many_requests_as_its_engine() -> None:
    options = DEPLOYMENTS["engine"]["user_config"]
    assert DEPLOYMENTS["engine"]["max_ongoing_requests"] == options["max_seqs"] + options["max_waiting"]
