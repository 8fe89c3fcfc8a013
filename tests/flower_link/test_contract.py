"""The contract with Flower 1.41: every internal symbol used, with its form; and that nobody else uses any.

When a new version of Flower breaks a line here, read what flower_link does with it before changing the line.
"""

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message
from flwr.server.superlink.linkstate.in_memory_linkstate import InMemoryLinkState
from flwr.supercore.constant import NodeStatus, TaskType
from flwr.supercore.object_store.in_memory_object_store import InMemoryObjectStore
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode.fleet_http_client import FleetHttpClient

import jangin
from jangin.flower_link.link import EmbeddedLink

PACKAGE = Path(jangin.__file__).parent
PUBLIC = {"flwr.app", "flwr.clientapp", "flwr.serverapp"}

# Parameters of what is called, fields of protobuf messages, values of constants, None where only the name counts.
SYMBOLS: dict[str, Any] = {
    "flwr.app.message:make_message": "metadata content error",
    "flwr.app.message:remove_content_from_message": "message",
    "flwr.app.message.arraychunk:ArrayChunk": "data",
    "flwr.app.metadata:Metadata": (
        "run_id message_id src_node_id dst_node_id reply_to_message_id group_id created_at ttl message_type"
        " src_task_id dst_task_id"
    ),
    "flwr.common.constant:HEARTBEAT_MAX_INTERVAL": 1800,
    "flwr.common.constant:HEARTBEAT_MIN_INTERVAL": 10,
    "flwr.common.constant:NOOP_ACCOUNT_NAME": "none",
    "flwr.common.constant:NOOP_FLWR_AID": "<id:none>",
    "flwr.common.constant:SUPERLINK_NODE_ID": 1,
    "flwr.common.constant:SYSTEM_TIME_TOLERANCE": 5,
    "flwr.common.constant:Status": None,
    "flwr.common.constant:SubStatus": None,
    "flwr.common.constant:TIMESTAMP_HEADER": "flwr-timestamp",
    "flwr.common.constant:TIMESTAMP_TOLERANCE": 300,
    "flwr.common.serde:message_from_proto": "message_proto",
    "flwr.common.serde:message_to_proto": "message",
    "flwr.proto.fleet_pb2:ActivateNodeRequest": "public_key heartbeat_interval",
    "flwr.proto.fleet_pb2:DeactivateNodeRequest": "node_id",
    "flwr.proto.fleet_pb2:PullMessagesRequest": "node message_ids",
    "flwr.proto.fleet_pb2:PushMessagesRequest": "node messages_list message_object_trees clientapp_runtime_list",
    "flwr.proto.heartbeat_pb2:SendNodeHeartbeatRequest": "node heartbeat_interval",
    "flwr.proto.message_pb2:ConfirmMessageReceivedRequest": "node run_id message_object_id",
    "flwr.proto.message_pb2:ObjectTree": "object_id children",
    "flwr.proto.message_pb2:PullObjectRequest": "node run_id object_id",
    "flwr.proto.message_pb2:PullObjectResponse": "object_found object_available object_content",
    "flwr.proto.message_pb2:PushObjectRequest": "node run_id object_id object_content session_id",
    "flwr.proto.node_pb2:Node": "node_id",
    "flwr.server.superlink.linkstate.in_memory_linkstate:InMemoryLinkState": "federation_manager object_store",
    "flwr.supercore.constant:FLEET_HTTP_PUBLIC_KEY_HEADER": "flwr-public-key",
    "flwr.supercore.constant:FLEET_HTTP_SIGNATURE_HEADER": "flwr-signature",
    "flwr.supercore.constant:FLWR_COMPONENT_NAME_METADATA_KEY": "flwr-component-name",
    "flwr.supercore.constant:FLWR_IN_MEMORY_DB_NAME": ":flwr-in-memory:",
    "flwr.supercore.constant:FLWR_PACKAGE_NAME_METADATA_KEY": "flwr-package-name",
    "flwr.supercore.constant:FLWR_PACKAGE_VERSION_METADATA_KEY": "flwr-package-version",
    "flwr.supercore.constant:NOOP_FEDERATION_ID": "@none/default",
    "flwr.supercore.constant:NodeStatus": None,
    "flwr.supercore.constant:TaskType": None,
    "flwr.supercore.date:now": "",
    "flwr.supercore.error.http:http_error_translator": "request call_next",
    "flwr.supercore.inflatable.inflatable_object:InflatableObject": "",
    "flwr.supercore.inflatable.inflatable_object:get_all_nested_objects": "obj",
    "flwr.supercore.inflatable.inflatable_object:get_object_body": "object_content cls",
    "flwr.supercore.inflatable.inflatable_object:get_object_children_ids_from_object_content": "object_content",
    "flwr.supercore.inflatable.inflatable_object:get_object_tree": "obj",
    "flwr.supercore.inflatable.inflatable_object:iterate_object_tree": "tree",
    "flwr.supercore.inflatable.inflatable_object:no_object_id_recompute": "",
    "flwr.supercore.inflatable.inflatable_utils:inflate_object_from_contents": (
        "object_id object_contents keep_object_contents objects"
    ),
    "flwr.supercore.object_store.in_memory_object_store:InMemoryObjectStore": "verify",
    "flwr.supercore.object_store.object_store:NoObjectInStoreError": None,
    "flwr.supercore.primitives.asymmetric:bytes_to_public_key": "public_key_bytes",
    "flwr.supercore.primitives.asymmetric:public_key_to_bytes": "public_key",
    "flwr.supercore.primitives.asymmetric:sign_message": "private_key message",
    "flwr.supercore.primitives.asymmetric:verify_signature": "public_key message signature",
    "flwr.supercore.protobuf.client:ProtobufCall": None,
    "flwr.supercore.protobuf.client:ProtobufRequestContext": "rpc_method message request",
    "flwr.supercore.protobuf.constants:PROTOBUF_MEDIA_TYPE": "application/protobuf",
    "flwr.supercore.protobuf.translation:PROTOBUF_REQUEST_TYPES": None,
    "flwr.supercore.run:Run": None,
    "flwr.supercore.run:RunStatus": "status sub_status details",
    "flwr.supercore.task_identity:TaskIdentity": None,
    "flwr.supercore.version:package_name": "flwr",
    "flwr.supercore.version:package_version": None,
    "flwr.superlink.auth_plugin:NoOpControlAuthnPlugin": "",
    "flwr.superlink.cli.flower_superlink:SuperLinkLifespan": "config state_factory",
    "flwr.superlink.config_loader:SuperLinkLifespanConfig": (
        "control_address health_server_address host port insecure certificates superexec_auth_secret authn_plugin"
        " event_log_plugin fleet_event_log_plugin enable_event_log artifact_provider enable_supernode_auth"
        " fleet_api_type fleet_api_address simulation ssl_ca_certfile ssl_certfile ssl_keyfile database isolation"
        " runtime_dependency_install"
    ),
    "flwr.superlink.main:create_app": "config superlink_lifespan_class",
    "flwr.superlink.servicer.fleet:fleet_handlers": None,
    "flwr.supernode.fleet_http_client:FleetHttpClient": "base_url interceptors verify timeout retry_invoker",
}

# What is called or read on Flower's objects, beside what they are imported by.
METHODS: list[tuple[type, str, str]] = [
    (FleetHttpClient, "ActivateNode", "self request"),
    (FleetHttpClient, "ConfirmMessageReceived", "self request"),
    (FleetHttpClient, "DeactivateNode", "self request"),
    (FleetHttpClient, "PullMessages", "self request"),
    (FleetHttpClient, "PullObject", "self request"),
    (FleetHttpClient, "PushMessages", "self request"),
    (FleetHttpClient, "PushObject", "self request"),
    (FleetHttpClient, "SendNodeHeartbeat", "self request"),
    (FleetHttpClient, "close", "self"),
    (InMemoryLinkState, "acknowledge_task_heartbeat", "self task_id"),
    (InMemoryLinkState, "activate_task", "self task_id"),
    (InMemoryLinkState, "claim_task", "self task_id"),
    (InMemoryLinkState, "create_node", "self owner_aid owner_name public_key heartbeat_interval location name"),
    (
        InMemoryLinkState,
        "create_run",
        "self fab_id fab_version fab_hash override_config federation_id federation_config flwr_aid primary_task_type"
        " series_id series_description connector_ids initial_task_event user_prompt",
    ),
    (InMemoryLinkState, "delete_messages", "self message_ins_ids"),
    (InMemoryLinkState, "delete_node", "self owner_aid node_id"),
    (InMemoryLinkState, "get_node_id_by_public_key", "self public_key"),
    (InMemoryLinkState, "get_node_info", "self node_ids owner_aids statuses"),
    (InMemoryLinkState, "get_object", "self run_id object_id"),
    (
        InMemoryLinkState,
        "get_run_info",
        "self run_ids statuses flwr_aids federation_ids order_by ascending limit skip",
    ),
    (InMemoryLinkState, "get_run_status", "self run_ids"),
    (InMemoryLinkState, "stop_run", "self run_id"),
    (InMemoryLinkState, "store_message_ins", "self message"),
    (InMemoryObjectStore, "delete", "self object_id"),
    (InMemoryObjectStore, "get_object_tree", "self object_id"),
    (InMemoryObjectStore, "preregister", "self run_id object_tree"),
    (InMemoryObjectStore, "put", "self object_id object_content"),
]


def imported(path: Path) -> set[str]:
    """What a file imports of Flower, as `module:name`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import():
                found |= {f"{alias.name}:" for alias in node.names if alias.name.split(".")[0] == "flwr"}
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] == "flwr":
                found |= {f"{module}:{alias.name}" for alias in node.names}
    return found


def test_the_table_above_is_what_flower_link_imports_no_more_and_no_less() -> None:
    used = set().union(*map(imported, PACKAGE.joinpath("flower_link").glob("*.py")))
    assert {symbol for symbol in used if symbol.split(":")[0] not in PUBLIC} == set(SYMBOLS)


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_an_internal_symbol_has_the_form_we_rely_on(symbol: str) -> None:
    module, name = symbol.split(":")
    value, form = getattr(importlib.import_module(module), name), SYMBOLS[symbol]
    if hasattr(value, "DESCRIPTOR"):
        assert [field.name for field in value.DESCRIPTOR.fields] == form.split()
    elif callable(value) and form is not None:
        assert list(inspect.signature(value).parameters) == form.split()
    elif form is not None:
        assert value == form


@pytest.mark.parametrize(("owner", "name", "parameters"), METHODS)
def test_a_method_takes_what_we_give(owner: type, name: str, parameters: str) -> None:
    assert list(inspect.signature(getattr(owner, name)).parameters) == parameters.split()


def test_the_states_memory_is_where_we_look_for_it(keys: Any) -> None:
    link = EmbeddedLink(keys.certificate, keys.key)
    for name in ("message_ins_store", "message_ins_id_to_message_res_id", "node_public_key_to_node_id"):
        assert getattr(link.state, name) == {}
    for lock in (link.state.lock, link.store.lock_store):
        with lock, lock:  # re-entrant: Flower takes them again inside
            pass
    assert link.store is link.state.object_store
    assert (NodeStatus.ONLINE, TaskType.SERVER_APP) == ("online", "flwr-serverapp")


def test_a_messages_id_may_be_set_where_we_set_it() -> None:
    from flwr.app import RecordDict
    from flwr.app.message import make_message
    from flwr.app.metadata import Metadata

    message = make_message(Metadata(1, "", 1, 2, "", "", 1.8e9, 60.0, "query"), RecordDict())
    before = message.object_id
    message.metadata.__dict__["_message_id"] = before
    assert (message.metadata.message_id, message.object_id) == (before, before)
    assert isinstance(message, Message)


def test_the_task_identity_is_one_for_the_process_which_is_why_we_do_not_use_it() -> None:
    assert {"task_id", "run_id", "node_id"} <= set(dir(type(TaskIdentity)))


def test_nobody_else_imports_flower() -> None:
    others = [path for path in PACKAGE.rglob("*.py") if path.parent.name != "flower_link"]
    assert {str(path): imported(path) for path in others if imported(path)} == {}


def test_flower_link_never_names_a_fab_beyond_saying_that_a_run_has_none() -> None:
    for path in PACKAGE.joinpath("flower_link").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = getattr(node, "attr", None) or getattr(node, "id", None) or getattr(node, "name", None) or ""
            assert "fab" not in str(name).lower()
            if isinstance(node, ast.keyword) and "fab" in (node.arg or ""):
                assert ast.unparse(node.value) == "None"


def test_a_site_loads_nothing_heavy_and_flower_finds_its_switches_set() -> None:
    heavy = ("torch", "scipy", "dp_accounting", "pyarrow", "sqlalchemy", "ray", "fastapi", "uvicorn", "pandas")
    script = (
        "import os, sys\n"
        "import jangin.flower_link\n"
        "assert 'flwr' not in sys.modules\n"
        "import jangin.flower_link.site, jangin.flower_link.wire\n"
        "from flwr.supercore import telemetry\n"
        f"print(sorted(set({heavy!r}) & set(sys.modules)), telemetry.FLWR_TELEMETRY_ENABLED,"
        " os.environ['FLWR_DISABLE_UPDATE_CHECK'], os.environ['NO_PROXY'], os.environ['no_proxy'])\n"
    )
    proxy = {"HTTPS_PROXY": "http://127.0.0.1:1", "NO_PROXY": "intern.example,localhost"}
    done = subprocess.run([sys.executable, "-c", script], env=proxy, capture_output=True, text=True, check=False)
    hosts = "intern.example,localhost,127.0.0.1,::1"
    assert (done.stdout, done.stderr) == (f"[] 0 1 {hosts} {hosts}\n", "")
