"""azure-mgmt-resource, -network, -compute and -authorization: create, get, list,
delete, pagers, pollers, and refusals by their codes."""

import uuid

from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.mgmt.authorization import AuthorizationManagementClient
from azure.mgmt.compute import ComputeManagementClient
from azure.mgmt.network import NetworkManagementClient
from azure.mgmt.resource.resources import ResourceManagementClient

from credentials import ok, scope, sign_in


def answers(what, status, code, call, kind=HttpResponseError):
    """call must be refused with this status and code."""
    try:
        call()
    except kind as failed:
        got = failed.error.code if failed.error else None
        assert (failed.status_code, got) == (status, code), f"{what}: {status} {code} wanted, got {failed.status_code} {got}: {failed}"
    else:
        raise AssertionError(f"{what}: not refused")
    ok(what)


def run(task):
    credential = sign_in(task)

    def client(kind):
        return kind(credential, task["subscription"], base_url=task["url"], credential_scopes=[scope(task)], polling_interval=1)

    groups = client(ResourceManagementClient)
    group(groups, task)
    card = network(client(NetworkManagementClient), task)
    machine = compute(client(ComputeManagementClient), task, card)
    authorization(client(AuthorizationManagementClient), task, machine)
    groups.resource_groups.begin_delete(task["group"]).result()
    assert not groups.resource_groups.check_existence(task["group"]), "the group is still there"
    ok("azure-mgmt-resource: the group is deleted with its machine, poller")


def group(client, task):
    made = client.resource_groups.create_or_update(task["group"], {"location": task["location"], "tags": {"made by": "sdk"}})
    assert made.properties.provisioning_state == "Succeeded" and made.tags == {"made by": "sdk"}, made
    pages = list(client.resource_groups.list(top=1).by_page())
    names = [g.name for page in pages for g in page]
    assert len(pages) > 1 and task["group"] in names and len(names) == len(set(names)), names
    ok("azure-mgmt-resource: a group is made, and listed page by page")
    changed = client.resource_groups.update(task["group"], {"tags": {"made by": "python"}})
    assert changed.tags == {"made by": "python"}, changed
    ok("azure-mgmt-resource: its tags are changed")
    answers("azure-mgmt-resource: a group that is not there", 404, "ResourceGroupNotFound", lambda: client.resource_groups.get("nowhere"), ResourceNotFoundError)


def network(client, task):
    made = client.virtual_networks.begin_create_or_update(
        task["group"],
        "net",
        {
            "location": task["location"],
            "properties": {
                "addressSpace": {"addressPrefixes": ["10.0.0.0/16"]},
                "subnets": [{"name": "inner", "properties": {"addressPrefix": "10.0.0.0/24"}}],
            },
        },
    ).result()
    card = client.network_interfaces.begin_create_or_update(
        task["group"],
        "card",
        {
            "location": task["location"],
            "properties": {
                "ipConfigurations": [{"name": "ip", "properties": {"subnet": {"id": made.subnets[0].id}, "privateIPAllocationMethod": "Dynamic"}}]
            },
        },
    ).result()
    assert [c.name for c in client.network_interfaces.list(task["group"])] == ["card"]
    assert client.virtual_networks.get(task["group"], "net").address_space.address_prefixes == ["10.0.0.0/16"]
    ok("azure-mgmt-network: a network and an interface are made, pollers; get, list")
    answers("azure-mgmt-network: a network that is not there", 404, "ResourceNotFound", lambda: client.virtual_networks.get(task["group"], "nowhere"), ResourceNotFoundError)
    return card.id


def machine_of(task, card):
    return {
        "location": task["location"],
        "identity": {"type": "SystemAssigned"},
        "tags": {"made by": "sdk"},
        "properties": {
            "hardwareProfile": {"vmSize": "Standard_D2s_v3"},
            "osProfile": {
                "computerName": "sdk-python",
                "adminUsername": "azureuser",
                "linuxConfiguration": {
                    "disablePasswordAuthentication": True,
                    "ssh": {"publicKeys": [{"path": "/home/azureuser/.ssh/authorized_keys", "keyData": task["publicKey"]}]},
                },
            },
            "storageProfile": {
                "imageReference": {"publisher": "Canonical", "offer": "UbuntuServer", "sku": "18.04-LTS", "version": "latest"},
                "osDisk": {"createOption": "FromImage"},
            },
            "networkProfile": {"networkInterfaces": [{"id": card, "properties": {"primary": True}}]},
        },
    }


def compute(client, task, card):
    place = (task["group"], "sdkPython")
    making = client.virtual_machines.begin_create_or_update(*place, machine_of(task, card))
    kept = making.continuation_token()  # a poller survives its process
    made = client.virtual_machines.begin_create_or_update(*place, machine_of(task, card), continuation_token=kept).result()
    assert made.provisioning_state == "Succeeded" and made.identity.principal_id, made
    ok("azure-mgmt-compute: a machine is made, poller resumed")
    set_ = client.virtual_machine_extensions.begin_create_or_update(
        *place,
        "AADSSHLoginForLinux",
        {
            "location": task["location"],
            "properties": {"publisher": "Microsoft.Azure.ActiveDirectory", "type": "AADSSHLoginForLinux", "typeHandlerVersion": "1.0", "autoUpgradeMinorVersion": True},
        },
    ).result()
    assert set_.provisioning_state == "Succeeded", set_
    listed = client.virtual_machine_extensions.list(*place).value
    assert [x.name for x in listed] == ["AADSSHLoginForLinux"], listed
    ok("azure-mgmt-compute: the extension is set, poller; listed")
    client.virtual_machines.begin_power_off(*place).result()
    states = [s.code for s in client.virtual_machines.instance_view(*place).statuses if s.code.startswith("PowerState/")]
    assert states == ["PowerState/stopped"], states
    ok("azure-mgmt-compute: power off, poller; the instance view says so")
    assert "sdkpython" in [m.name.lower() for m in client.virtual_machines.list_all()]
    shown = client.virtual_machines.get(*place, expand="instanceView")
    assert shown.instance_view.statuses and shown.tags == {"made by": "sdk"}, shown
    ok("azure-mgmt-compute: all machines, pager; get with its instance view")
    wrong = machine_of(task, card)
    wrong["properties"]["storageProfile"]["imageReference"]["offer"] = "NoSuchOffer"
    answers("azure-mgmt-compute: an image that is not there", 404, "PlatformImageNotFound", lambda: client.virtual_machines.begin_create_or_update(task["group"], "other", wrong))
    answers("azure-mgmt-compute: nothing was made of it", 404, "ResourceNotFound", lambda: client.virtual_machines.get(task["group"], "other"), ResourceNotFoundError)
    client.virtual_machine_extensions.begin_delete(*place, "AADSSHLoginForLinux").result()
    assert not client.virtual_machine_extensions.list(*place).value
    ok("azure-mgmt-compute: the extension is deleted, poller")
    return made.id


def authorization(client, task, machine):
    roles = list(client.role_definitions.list(machine, filter="roleName eq 'Virtual Machine User Login'"))
    assert len(roles) == 1, roles
    wanted = {"properties": {"principalId": task["person"], "principalType": "User", "roleDefinitionId": roles[0].id}}
    name = str(uuid.uuid4())
    made = client.role_assignments.create(machine, name, wanted)
    assert made.name == name and client.role_assignments.get(machine, name).principal_id == task["person"], made
    answers("azure-mgmt-authorization: the same assignment again", 409, "RoleAssignmentExists", lambda: client.role_assignments.create(machine, str(uuid.uuid4()), wanted), ResourceExistsError)
    here = [a.name for a in client.role_assignments.list_for_scope(machine, filter="atScope()")]
    assert name in here, here
    ok("azure-mgmt-authorization: an assignment is made, got, listed")
    client.role_assignments.delete(machine, name)
    answers("azure-mgmt-authorization: it is deleted", 404, "RoleAssignmentNotFound", lambda: client.role_assignments.get(machine, name), ResourceNotFoundError)
    custom = str(uuid.uuid4())
    within = "/subscriptions/" + task["subscription"]
    role = client.role_definitions.create_or_update(
        within,
        custom,
        {
            "properties": {
                "roleName": "Reader of machines (python)",
                "type": "CustomRole",
                "assignableScopes": [within],
                "permissions": [{"actions": ["Microsoft.Compute/virtualMachines/read"], "notActions": [], "dataActions": [], "notDataActions": []}],
            }
        },
    )
    assert role.role_name == "Reader of machines (python)", role
    client.role_definitions.delete(within, custom)
    ok("azure-mgmt-authorization: a role is defined and deleted")
