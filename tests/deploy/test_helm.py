"""deploy/helm, rendered by Helm's own library: the defaults are the objects of deploy/kubernetes. No cluster here."""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest
import yaml

import server
from server.settings import Settings
from tests.deploy.test_kubernetes import FOLDER, KUSTOMIZATION, VERSIONS, manifest
from tests.fleet import DEPLOY, ROOT

helm = pytest.importorskip("helm_python", reason="needs requirements/helm.txt")

Objects = dict[str, Any]
CHART = DEPLOY / "helm"


def render(values: dict[str, Any] | None = None, name: str = "lfm-serve") -> Objects:
    """Return the rendered objects by their kinds."""
    with helm.Chart.load(str(CHART)) as chart:
        chart.validate_schema(values or {})
        files = chart.render(values or {}, name=name, namespace="models")
    objects = [each for text in files.values() for each in yaml.safe_load_all(text) if each]
    made = {each["kind"]: each for each in objects}
    assert len(made) == len(objects)
    return made


DEFAULTS = render()


def without_helms_own(value: Any) -> Any:
    """Return a rendered object without the labels and annotations that only Helm needs."""
    if isinstance(value, list):
        return [without_helms_own(each) for each in value]
    if not isinstance(value, dict):
        return value
    added = {"helm.sh/chart", "helm.sh/resource-policy", "checksum/config"}
    added |= {f"app.kubernetes.io/{name}" for name in ("instance", "managed-by", "version")}
    cleaned = {key: without_helms_own(each) for key, each in value.items() if key not in added}
    return {key: each for key, each in cleaned.items() if key != "annotations" or each}


def of_kustomize(name: str) -> Any:
    """Return an object of deploy/kubernetes with what kustomize adds: the label and the image's name."""
    made = manifest(name)
    made["metadata"]["labels"] = KUSTOMIZATION["labels"][0]["pairs"]
    image = KUSTOMIZATION["images"][0]
    if made["kind"] == "Deployment":
        pod = made["spec"]["template"]["spec"]
        for container in (*pod["containers"], *pod["initContainers"]):
            container["image"] = "{newName}:{newTag}".format(**image)
    return made


@pytest.mark.parametrize("name", KUSTOMIZATION["resources"])
def test_the_defaults_are_the_objects_of_kustomize(name: str) -> None:
    expected = of_kustomize(name)
    assert without_helms_own(DEFAULTS[expected["kind"]]) == expected


def test_there_are_no_other_objects() -> None:
    assert len(DEFAULTS) == len(KUSTOMIZATION["resources"])


def test_the_chart_has_no_faults_and_the_packages_version() -> None:
    assert not [each for each in helm.lint(str(CHART))["messages"] if each["severity"] > 1]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert {chart["version"], chart["appVersion"], KUSTOMIZATION["images"][0]["newTag"]} == {server.__version__}


GUIDE = (DEPLOY / "README.md").read_text().partition("### Helm")[2]
CHANGES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "the guide's example": yaml.safe_load(GUIDE.partition("```yaml")[2].partition("```")[0]),
    "fixed replicas": {"autoscaler": {"kind": "none"}, "replicas": 3, "podDisruptionBudget": None},
    "own claim": {"volume": {"existingClaim": "models"}, "cacheDisk": 0, "model": ""},
    "pod fields": {"pod": {"nodeSelector": {"a": "b"}, "imagePullSecrets": [{"name": "registry"}]}},
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("values", CHANGES.values(), ids=CHANGES)
def test_rendered_objects_are_valid_for_the_api(values: dict[str, Any], version: str) -> None:
    for each in render(values).values():
        kubernetes_validate.validate(each, version, strict=True)


def test_without_an_autoscaler_the_replicas_are_fixed() -> None:
    objects = render(CHANGES["fixed replicas"])
    assert objects["Deployment"]["spec"]["replicas"] == 3
    assert objects.keys() == DEFAULTS.keys() - {"HorizontalPodAutoscaler", "PodDisruptionBudget"}


def test_keda_scales_the_deployment_as_the_autoscaler_does() -> None:
    objects = render({"autoscaler": {"kind": "keda", "maxReplicas": 3}})
    scaled, known = objects["ScaledObject"]["spec"], DEFAULTS["HorizontalPodAutoscaler"]["spec"]
    assert objects.keys() == DEFAULTS.keys() - {"HorizontalPodAutoscaler"} | {"ScaledObject"}
    assert scaled["scaleTargetRef"]["name"] == objects["Deployment"]["metadata"]["name"]
    assert (scaled["minReplicaCount"], scaled["maxReplicaCount"]) == (2, 3)
    assert scaled["triggers"][0]["metadata"]["threshold"] == known["metrics"][0]["pods"]["target"]["averageValue"]
    assert scaled["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] == known["behavior"]


def test_an_existing_claim_is_mounted_instead_of_a_new_one() -> None:
    objects = render(CHANGES["own claim"])
    volume, _ = objects["Deployment"]["spec"]["template"]["spec"]["volumes"]
    assert volume["persistentVolumeClaim"]["claimName"] == "models"
    assert "PersistentVolumeClaim" not in objects
    assert "LFM_MODEL" not in objects["ConfigMap"]["data"]


def test_a_cache_disk_of_0_overrides_the_images_cache_folder() -> None:
    assert "LFM_CACHE_FOLDER=" in (ROOT / "Dockerfile").read_text()
    assert render({"cacheDisk": 0})["ConfigMap"]["data"]["LFM_CACHE_FOLDER"] == ""


def test_options_reach_the_server_and_restart_its_pods() -> None:
    changed = render({"drainTimeout": 600, "options": {"LFM_MAX_SEQS": "4", "LFM_LOG_FORMAT": "json"}})
    data = changed["ConfigMap"]["data"]
    settings = Settings(**{name.removeprefix("LFM_").lower(): value for name, value in data.items()})
    assert (settings.max_seqs, settings.drain_timeout, settings.log_format) == (4, 600, "json")
    pods = [each["Deployment"]["spec"]["template"] for each in (DEFAULTS, changed)]
    assert len({pod["metadata"]["annotations"]["checksum/config"] for pod in pods}) == 2
    assert pods[1]["spec"]["terminationGracePeriodSeconds"] == 630


def test_two_releases_share_no_object_and_no_pod() -> None:
    other = render(name="second")
    assert all(other[kind]["metadata"]["name"].startswith("second") for kind in DEFAULTS)
    labels = other["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert not DEFAULTS["Service"]["spec"]["selector"].items() <= labels.items()
    assert other["Service"]["spec"]["selector"].items() <= labels.items()


@pytest.mark.parametrize(
    "values",
    [
        {"replica": 3},
        {"autoscaler": {"kind": "vpa"}},
        {"options": {"max_seqs": "4"}},
        {"options": {"LFM_MAX_BODY": 20_000_000}},  # Helm would write 2e+07
    ],
)
def test_an_invalid_value_is_an_error(values: dict[str, Any]) -> None:
    with pytest.raises(helm.HelmError):
        render(values)


def test_files_of_the_chart_are_named_after_those_of_kustomize() -> None:
    templates = {path.name for path in (CHART / "templates").glob("*.yaml")}
    bases = {path.name for path in FOLDER.glob("*.yaml")}
    assert templates - bases == {"autoscaler.yaml"}
