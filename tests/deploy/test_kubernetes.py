"""deploy/kubernetes against the API's own schemas, and against what the server and its image need. No cluster here."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

import kubernetes_validate
import pytest
import yaml

from server.settings import Settings
from tests.fleet import DEPLOY, ROOT

FOLDER = DEPLOY / "kubernetes"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
VERSIONS = ("1.30", kubernetes_validate.latest_version())


def manifest(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text())


DEPLOYMENT = manifest("deployment.yaml")
POD = DEPLOYMENT["spec"]["template"]["spec"]
(SERVER,), (PREPARE,) = POD["containers"], POD["initContainers"]
CONFIG = manifest("configmap.yaml")["data"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", [*KUSTOMIZATION["resources"], "ingress.yaml"])
def test_a_manifest_is_what_the_api_takes(name: str, version: str) -> None:
    kubernetes_validate.validate(manifest(name), version, strict=True)


def test_every_manifest_is_part_of_the_base_or_said_not_to_be() -> None:
    there = {path.name for path in FOLDER.glob("*.yaml")} - {"kustomization.yaml"}
    assert there - {*KUSTOMIZATION["resources"]} == {"ingress.yaml"}


@pytest.mark.parametrize("version", VERSIONS)
def test_kustomize_builds_what_the_api_takes(version: str) -> None:
    if (kubectl := shutil.which("kubectl")) is None:
        pytest.skip("kubectl is not installed")
    built = subprocess.run([kubectl, "kustomize", FOLDER], capture_output=True, text=True, check=True).stdout
    objects = list(yaml.safe_load_all(built))
    assert len(objects) == len(KUSTOMIZATION["resources"])
    for each in objects:
        kubernetes_validate.validate(each, version, strict=True)
    (deployment,) = (each for each in objects if each["kind"] == "Deployment")
    images = {container["image"] for container in deployment["spec"]["template"]["spec"]["containers"]}
    assert images == {"{newName}:{newTag}".format(**KUSTOMIZATION["images"][0])}


def test_selectors_find_the_pods() -> None:
    labels = DEPLOYMENT["spec"]["template"]["metadata"]["labels"]
    assert DEPLOYMENT["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert manifest("service.yaml")["spec"]["selector"].items() <= labels.items()
    assert manifest("poddisruptionbudget.yaml")["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_names_that_refer_to_each_other_agree() -> None:
    assert manifest("horizontalpodautoscaler.yaml")["spec"]["scaleTargetRef"]["name"] == DEPLOYMENT["metadata"]["name"]
    (claim,) = (each["persistentVolumeClaim"]["claimName"] for each in POD["volumes"] if "emptyDir" not in each)
    assert claim == manifest("persistentvolumeclaim.yaml")["metadata"]["name"]
    assert {mount["name"] for mount in SERVER["volumeMounts"]} == {volume["name"] for volume in POD["volumes"]}
    for container in (SERVER, PREPARE):
        assert container["envFrom"][0]["configMapRef"]["name"] == manifest("configmap.yaml")["metadata"]["name"]
        assert container["image"] == KUSTOMIZATION["images"][0]["name"]
    (backend,) = {
        (path["backend"]["service"]["name"], path["backend"]["service"]["port"]["name"])
        for path in manifest("ingress.yaml")["spec"]["rules"][0]["http"]["paths"]
    }
    service = manifest("service.yaml")
    assert backend == (service["metadata"]["name"], service["spec"]["ports"][0]["name"])


def test_the_variables_are_options_with_values_that_are_allowed() -> None:
    Settings(**{name.removeprefix("LFM_").lower(): value for name, value in CONFIG.items()})


def test_a_pod_is_given_the_time_that_its_drain_takes() -> None:
    drain = float(CONFIG.get("LFM_DRAIN_DELAY", 0)) + float(CONFIG["LFM_DRAIN_TIMEOUT"])
    assert POD["terminationGracePeriodSeconds"] > SERVER["lifecycle"]["preStop"]["sleep"]["seconds"] + drain


def test_pods_run_as_the_images_user_without_root_and_write_where_it_says() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    user = POD["securityContext"]
    assert f"USER {user['runAsUser']}:{user['runAsGroup']}" in dockerfile
    for container in (SERVER, PREPARE):
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/models", "/tmp"}
