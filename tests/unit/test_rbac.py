import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from agent.check.rights import verbs
from agent.cli import main
from tests.dc import configured

KINDS = ["Role", "RoleBinding"]
EVERY_VERB = ["get", "list", "watch", "create", "update", "delete"]


def run(folder: Path, *arguments: str, **changes: Any) -> Result:
    (folder / "token").write_text("token")
    east = {"server": "https://127.0.0.1:1", "ca_file": "ca.pem", "token_file": "token", "namespace": "legacy"}
    clusters = {"east": {**east, **changes.pop("cluster", {})}, "west": {"directory": "west", "namespace": "legacy"}}
    configured(folder, "http://127.0.0.1:1", clusters=clusters, **changes)
    return CliRunner().invoke(main, ["rbac", "--config", str(folder / "isthmus.yaml"), *arguments])


def objects(answer: Result) -> list[dict[str, Any]]:
    assert answer.exit_code == 0, answer.output
    return [one for one in yaml.safe_load_all(answer.stdout) if one]


def optional(answer: Result) -> list[dict[str, Any]]:
    """Return what is commented out, as its first comment says to use it."""
    comments = answer.stdout[answer.stdout.index("# ---\n") :].splitlines()
    return [one for one in yaml.safe_load_all("\n".join(line[2:] for line in comments)) if one]


def test_a_role_and_a_binding_for_the_namespace_allow_what_the_agent_calls(tmp_path: Path) -> None:
    role, binding = objects(run(tmp_path, "east"))
    assert [role["kind"], binding["kind"]] == KINDS
    assert role["metadata"] == binding["metadata"] == {"name": "isthmus-dc1", "namespace": "legacy"}
    resources = ["serviceentries", "workloadentries"]
    assert role["rules"] == [{"apiGroups": ["networking.istio.io"], "resources": resources, "verbs": EVERY_VERB}]
    assert binding["roleRef"]["name"] == "isthmus-dc1"
    assert binding["subjects"] == [{"kind": "ServiceAccount", "namespace": "legacy", "name": "isthmus"}]


def test_every_namespace_that_a_rule_names_has_its_own(tmp_path: Path) -> None:
    rules = [{"namespace": "shop"}, {"namespace": "shop", "port": 80}, {"namespace": "legacy"}]
    found = objects(run(tmp_path, "east", rules=rules))
    assert [(one["kind"], one["metadata"]["namespace"]) for one in found] == [
        (kind, namespace) for namespace in ("legacy", "shop") for kind in KINDS
    ]
    assert {one["subjects"][0]["namespace"] for one in found if one["kind"] == "RoleBinding"} == {"legacy"}


def test_another_owner_gets_roles_of_its_own(tmp_path: Path) -> None:
    assert {one["metadata"]["name"] for one in objects(run(tmp_path, "east", owner="dc2"))} == {"isthmus-dc2"}


@pytest.mark.parametrize(
    ("policy", "without"),
    [("sync", []), ("upsert-only", ["delete"]), ("paused", ["get", "create", "update", "delete"])],
)
def test_a_policy_that_does_less_needs_less(tmp_path: Path, policy: str, without: list[str]) -> None:
    role = objects(run(tmp_path, "east", cluster={"policy": policy}))[0]
    assert role["rules"][0]["verbs"] == [verb for verb in EVERY_VERB if verb not in without]


def test_nobody_may_delete_collections_or_patch() -> None:
    assert not {"deletecollection", "patch", "*"} & set(verbs("sync"))


def test_the_account_is_the_one_that_is_named(tmp_path: Path) -> None:
    answer = run(tmp_path, "east", "--service-account", "mesh-system/robot")
    subject = {"kind": "ServiceAccount", "namespace": "mesh-system", "name": "robot"}
    assert objects(answer)[1]["subjects"] == [subject]
    assert "kubectl -n mesh-system create serviceaccount robot" in answer.stdout


@pytest.mark.parametrize("account", ["isthmus", "/isthmus", "legacy/", "a/b/c"])
def test_an_account_without_its_namespace_is_refused(tmp_path: Path, account: str) -> None:
    answer = run(tmp_path, "east", "--service-account", account)
    assert answer.exit_code == 2
    assert f"'{account}' is not NAMESPACE/NAME" in answer.stderr


def test_what_only_check_reads_is_a_comment(tmp_path: Path) -> None:
    role, binding = optional(run(tmp_path, "east"))
    assert role["rules"] == [
        {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["services"], "verbs": ["list"]},
    ]
    assert binding["roleRef"]["name"] == role["metadata"]["name"] == "isthmus-dc1-check"


def test_a_program_gets_a_list(tmp_path: Path) -> None:
    answer = run(tmp_path, "east", "-o", "json")
    content = json.loads(answer.stdout)
    assert (content["kind"], [one["kind"] for one in content["items"]]) == ("List", KINDS)
    assert content["items"] == objects(run(tmp_path, "east"))


def test_a_directory_needs_none(tmp_path: Path) -> None:
    answer = run(tmp_path, "west")
    assert answer.exit_code == 2
    assert f"west is a directory: all that is needed is to write in {tmp_path / 'west'}" in answer.stderr


def test_an_unknown_cluster_is_a_mistake_of_usage(tmp_path: Path) -> None:
    answer = run(tmp_path, "nowhere")
    assert answer.exit_code == 2
    assert "There is no cluster 'nowhere'. Known are: east, west" in answer.stderr
