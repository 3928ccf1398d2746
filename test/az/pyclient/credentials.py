"""azure-identity: with a secret, a certificate, a device code, and the identity
of the machine that it runs on."""

from azure.core.exceptions import ClientAuthenticationError
from azure.identity import (
    CertificateCredential,
    ClientSecretCredential,
    CredentialUnavailableError,
    DeviceCodeCredential,
    ManagedIdentityCredential,
)


def ok(what):
    print("ok", what, flush=True)


def refused(what, words, call, kind=ClientAuthenticationError):
    """call must raise an error of the kind that says the words."""
    try:
        call()
    except kind as failed:
        assert words in str(failed), f"{what}: {words} wanted, got: {failed}"
    else:
        raise AssertionError(f"{what}: not refused")
    ok(what)


def scope(task):
    return task["url"] + "/arm/.default"


def where(task):
    return {"authority": task["url"], "disable_instance_discovery": True}


def sign_in(task):
    """Returns the credential that the rest of the program goes on with."""
    secret = ClientSecretCredential(task["tenant"], task["application"], task["secret"], **where(task))
    token = secret.get_token(scope(task))
    assert token.token.count(".") == 2, "an access token is a JWT"
    again = secret.get_token(scope(task))
    assert again.token == token.token, "the second token comes from the cache"
    ok("azure-identity: client secret, and its cache")
    wrong = ClientSecretCredential(task["tenant"], task["application"], task["secret"] + "x", **where(task))
    refused("azure-identity: a wrong secret", "AADSTS7000215", lambda: wrong.get_token(scope(task)))
    away = ClientSecretCredential("11111111-2222-4333-8444-555555555555", task["application"], task["secret"], **where(task))
    refused("azure-identity: another tenant", "Unable to get authority configuration", lambda: away.get_token(scope(task)))
    nothing = ClientSecretCredential(task["tenant"], task["application"], task["secret"], **where(task))
    refused("azure-identity: a resource that is not there", "AADSTS500011", lambda: nothing.get_token("https://nowhere.example/.default"))
    certificate = CertificateCredential(task["tenant"], task["application"], task["certificate"], **where(task))
    certificate.get_token(scope(task))
    ok("azure-identity: client certificate")
    chained = CertificateCredential(task["tenant"], task["application"], task["certificate"], send_certificate_chain=True, **where(task))
    chained.get_token(scope(task))
    ok("azure-identity: client certificate that sends its chain (x5c)")
    return certificate


def device(task):
    """Somebody who reads the output enters the code into the page."""

    def show(page, code, _expires):
        print("code", page, code, flush=True)

    credential = DeviceCodeCredential(tenant_id=task["tenant"], prompt_callback=show, **where(task))
    record = credential.authenticate(scopes=[scope(task)])
    assert record.username == task["username"] and record.tenant_id == task["tenant"], f"signed in: {record.username}"
    ok("azure-identity: device code, and whose account it is")
    silent = DeviceCodeCredential(tenant_id=task["tenant"], prompt_callback=show, disable_automatic_authentication=True, **where(task))
    refused("azure-identity: nobody is signed in with another credential", "", lambda: silent.get_token(scope(task)), Exception)
    first = credential.get_token(scope(task)).token
    graph = credential.get_token(task["url"] + "/.default").token
    assert first != graph, "a token for each resource"
    ok("azure-identity: a token for Graph from the same sign-in, silently")


def managed(task):
    """On a machine that has an identity of its own."""
    credential = ManagedIdentityCredential()
    token = credential.get_token(scope(task))
    assert token.token.count(".") == 2, "an access token is a JWT"
    ok("azure-identity: managed identity")
    resources_of_identity(task, credential)
    other = ManagedIdentityCredential(client_id="11111111-2222-4333-8444-555555555555")
    refused("azure-identity: an identity that the machine does not have", "", lambda: other.get_token(scope(task)), (ClientAuthenticationError, CredentialUnavailableError))


def resources_of_identity(task, credential):
    from azure.mgmt.resource.resources import ResourceManagementClient

    client = ResourceManagementClient(credential, task["subscription"], base_url=task["url"], credential_scopes=[scope(task)])
    group = client.resource_groups.get(task["group"])
    assert group.name == task["group"], group.name
    ok("azure-mgmt-resource: with the machine's identity")
