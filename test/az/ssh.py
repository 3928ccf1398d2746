"""What the Azure CLI's ssh extension asks of a server, through azure-cli itself.

    ssh.py cert PUBLIC_KEY CERTIFICATE   a certificate for an RSA key
    ssh.py find GROUP MACHINE            where a machine is reached, as JSON
    ssh.py bearer                        a token for the SSH resource, if there is one

The extension is no part of this; the requests are those that were recorded of
it (reference: az 2.45.0, ssh 2.0.6). Tokens come from the cache that `az login`
wrote, by the way of the extension: Profile.get_msal_token, which asks silently
and then, if it is refused, opens the sign-in page.
"""
import base64
import hashlib
import json
import struct
import sys

from azure.cli.core import get_default_cli
from azure.cli.core._profile import Profile
from azure.cli.core.util import send_raw_request

SCOPES = {
    "azurecloud": "https://pas.windows.net/CheckMyAccess/Linux/.default",
    "azurechinacloud": "https://pas.chinacloudapi.cn/CheckMyAccess/Linux/.default",
    "azureusgovernment": "https://pasff.usgovcloudapi.net/CheckMyAccess/Linux/.default",
}


def mpints(path):
    """The words of an RSA public key's line: n and e as they stand, sign byte and all."""
    kind, text = open(path).read().split()[:2]
    if kind != "ssh-rsa":
        sys.exit("Public key is not ssh-rsa algorithm")
    blob, words = base64.b64decode(text), []
    while blob:
        size = struct.unpack(">I", blob[:4])[0]
        words.append(blob[4:4 + size])
        blob = blob[4 + size:]
    _, e, n = words
    return n, e


def certificate(cli, public, out):
    """The request of reference 11.1, and its answer's file of 11.2."""
    n, e = (base64.urlsafe_b64encode(x).decode() for x in mpints(public))
    key_id = hashlib.sha256((n + e).encode()).hexdigest()
    jwk = {"kty": "RSA", "n": n, "e": e, "kid": key_id}
    data = {"token_type": "ssh-cert", "req_cnf": json.dumps(jwk), "key_id": key_id}
    _, text = Profile(cli_ctx=cli).get_msal_token([SCOPES[cli.cloud.name.lower()]], data)
    with open(out, "w") as f:
        f.write("ssh-rsa-cert-v01@openssh.com " + text)


def get(cli, address):
    return send_raw_request(cli, "GET", address).json()


def find(cli, group, name):
    """The requests of reference 11.6, and every field that is read of them."""
    subscription = Profile(cli_ctx=cli).get_subscription()["id"]
    at = "/subscriptions/" + subscription + "/resourceGroups/" + group
    listed = get(cli, at + "/resources?$filter=name eq '" + name + "'&api-version=2022-09-01")["value"]
    kinds = [r["type"].lower() for r in listed]
    if "microsoft.compute/virtualmachines" not in kinds:
        sys.exit("A valid resource " + name + " was not found")
    if any(k.startswith(("microsoft.hybridcompute/", "microsoft.connectedvmwarevsphere/")) for k in kinds):
        sys.exit("ambiguous")
    vm = get(cli, at + "/providers/Microsoft.Compute/virtualMachines/" + name + "?api-version=2022-11-01")
    seen = {"kinds": kinds, "os": vm["properties"]["storageProfile"]["osDisk"]["osType"], "private": None, "public": None}
    for nic in vm["properties"]["networkProfile"]["networkInterfaces"]:
        card = get(cli, nic["id"] + "?api-version=2022-01-01")
        for ip in card["properties"]["ipConfigurations"]:
            seen["private"] = seen["private"] or ip["properties"]["privateIPAddress"]
            public = ip["properties"].get("publicIPAddress")
            if public and not seen["public"]:
                seen["public"] = get(cli, public["id"] + "?api-version=2022-05-01")["properties"].get("ipAddress")
    print(json.dumps(seen))


def bearer(cli):
    """The second try of older MSALs: the same scope without the certificate's fields."""
    token = Profile(cli_ctx=cli).get_raw_token(scopes=[SCOPES[cli.cloud.name.lower()]])
    print(token[0][1])


def main():
    cli = get_default_cli()
    {"cert": certificate, "find": find, "bearer": bearer}[sys.argv[1]](cli, *sys.argv[2:])


main()
