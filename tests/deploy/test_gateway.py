"""deploy/kubernetes/gateway: the overlay's objects name each other and fit the base. No cluster here."""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest
import yaml

from server.settings import Settings
from tests.fleet import DEPLOY

BASE = DEPLOY / "kubernetes"
FOLDER = BASE / "gateway"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
OBJECTS = [
    each
    for name in KUSTOMIZATION["resources"]
    if name != ".."
    for each in yaml.safe_load_all((FOLDER / name).read_text())
]
PATCH = yaml.safe_load((FOLDER / "kv-events.yaml").read_text())
SERVER = yaml.safe_load((BASE / "deployment.yaml").read_text())
PICKER = "lfm-serve-endpoint-picker"


def the(kind: str) -> Any:
    (found,) = (each for each in OBJECTS if each["kind"] == kind)
    return found


@pytest.mark.parametrize("manifest", OBJECTS, ids=lambda each: each["kind"])
def test_a_manifest_is_what_the_api_takes(manifest: Any) -> None:
    if manifest["kind"] in ("InferencePool", "HTTPRoute"):  # custom resources, whose schemas are not part of the API
        pytest.skip("no schema")
    kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def test_every_manifest_is_part_of_the_overlay() -> None:
    there = {path.name for path in FOLDER.glob("*.yaml")} - {"kustomization.yaml"}
    assert {*KUSTOMIZATION["resources"], *(each["path"] for each in KUSTOMIZATION["patches"])} - {".."} == there


def test_the_pool_selects_the_servers_pods_and_their_port() -> None:
    spec, pod = the("InferencePool")["spec"], SERVER["spec"]["template"]
    assert the("InferencePool")["apiVersion"] == "inference.networking.k8s.io/v1"
    assert spec.keys() == {"selector", "targetPorts", "endpointPickerRef"}
    assert spec["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    ports = [port["containerPort"] for port in pod["spec"]["containers"][0]["ports"]]
    assert [port["number"] for port in spec["targetPorts"]] == ports


def test_the_pool_does_not_select_the_endpoint_picker() -> None:
    labels = the("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert not the("InferencePool")["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_the_pool_refers_to_the_endpoint_pickers_service() -> None:
    reference, service = the("InferencePool")["spec"]["endpointPickerRef"], the("Service")
    assert reference["name"] == service["metadata"]["name"] == PICKER
    assert [reference["port"]["number"]] == [port["port"] for port in service["spec"]["ports"]]
    template = the("Deployment")["spec"]["template"]
    assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    named = {port["name"]: port["containerPort"] for port in template["spec"]["containers"][0]["ports"]}
    assert named[service["spec"]["ports"][0]["targetPort"]] == reference["port"]["number"]


def test_the_route_sends_the_api_and_nothing_else_to_the_pool() -> None:
    (rule,) = the("HTTPRoute")["spec"]["rules"]
    assert {match["path"]["value"] for match in rule["matches"]} == {"/v1", "/tokenize", "/detokenize"}
    (backend,) = rule["backendRefs"]
    pool = the("InferencePool")
    assert (backend["group"], backend["kind"]) == (pool["apiVersion"].split("/")[0], pool["kind"])
    assert backend["name"] == pool["metadata"]["name"]
    assert float(rule["timeouts"]["request"].removesuffix("s")) > Settings(model=None).request_timeout


def test_the_picker_watches_the_pool_with_its_configuration_and_account() -> None:
    pod = the("Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert f"--pool-name={the('InferencePool')['metadata']['name']}" in container["args"]
    (mount,), (volume,) = container["volumeMounts"], pod["volumes"]
    assert volume["configMap"]["name"] == the("ConfigMap")["metadata"]["name"]
    (file,) = the("ConfigMap")["data"]
    assert f"--config-file={mount['mountPath']}/{file}" in container["args"]
    account = the("ServiceAccount")["metadata"]["name"]
    assert pod["serviceAccountName"] == account
    assert [subject["name"] for subject in the("RoleBinding")["subjects"]] == [account]
    assert the("RoleBinding")["roleRef"]["name"] == the("Role")["metadata"]["name"]


def test_the_pickers_configuration_refers_to_its_own_plugins() -> None:
    (text,) = the("ConfigMap")["data"].values()
    config = yaml.safe_load(text)
    assert config["kind"] == "EndpointPickerConfig"
    plugins = {plugin["type"] for plugin in config["plugins"]}
    (profile,) = config["schedulingProfiles"]
    (source,) = config["dataLayer"]["sources"]
    scorers = {plugin["pluginRef"] for plugin in profile["plugins"]}
    others = {source["pluginRef"], *(each["pluginRef"] for each in source["extractors"])}
    assert scorers | others == plugins


def test_the_patch_sets_options_of_the_server() -> None:
    assert PATCH["metadata"]["name"] == SERVER["metadata"]["name"]
    (container,) = PATCH["spec"]["template"]["spec"]["containers"]
    assert container["name"] == SERVER["spec"]["template"]["spec"]["containers"][0]["name"]
    variables = {each["name"]: each.get("value") for each in container["env"]}
    options = {name.removeprefix("LFM_").lower(): value for name, value in variables.items() if name != "POD_IP"}
    settings = Settings(**options)
    assert settings.kv_events_topic is not None
    model = yaml.safe_load((BASE / "configmap.yaml").read_text())["data"]["LFM_MODEL"]
    assert settings.kv_events_topic == f"kv@$(POD_IP)@{model}"
    assert settings.kv_events_endpoint == f"tcp://*:{container['ports'][0]['containerPort']}"
