// @azure/identity, and @azure/arm-compute with its credentials: a secret, a
// certificate, a device code, and the identity of the machine.
import { ComputeManagementClient } from "@azure/arm-compute";
import { ClientCertificateCredential, ClientSecretCredential, DeviceCodeCredential, ManagedIdentityCredential } from "@azure/identity";
import { assert, ok, refused } from "./prove.mjs";

const scope = (task) => `${task.url}/arm/.default`;
const where = (task) => ({ authorityHost: task.url, disableInstanceDiscovery: true });
const jwt = (token) => assert.equal(token.token.split(".").length, 3);

async function resources(task) {
  const secret = new ClientSecretCredential(task.tenant, task.application, task.secret, where(task));
  jwt(await secret.getToken(scope(task)));
  ok("@azure/identity: client secret");
  const wrong = new ClientSecretCredential(task.tenant, task.application, task.secret + "x", where(task));
  await refused("@azure/identity: a wrong secret", "AADSTS7000215", () => wrong.getToken(scope(task)));
  const away = new ClientSecretCredential("11111111-2222-4333-8444-555555555555", task.application, task.secret, where(task));
  await refused("@azure/identity: another tenant", "endpoints_resolution_error", () => away.getToken(scope(task)));
  for (const sendCertificateChain of [false, true]) {
    const certificate = new ClientCertificateCredential(task.tenant, task.application, { certificatePath: task.certificate }, { ...where(task), sendCertificateChain });
    jwt(await certificate.getToken(scope(task)));
    ok(`@azure/identity: client certificate${sendCertificateChain ? " with its chain" : ""}`);
  }
  await machines(task, secret);
}

// client reaches the server as the documentation of its packages says.
const client = (task, credential) => new ComputeManagementClient(credential, task.subscription, { endpoint: task.url, credentialScopes: [scope(task)] });

async function machines(task, credential) {
  const compute = client(task, credential);
  const names = [];
  for await (const page of compute.virtualMachines.listAll().byPage()) names.push(...page.map((m) => m.name));
  assert.ok(names.includes(task.machine), `${task.machine} is not among ${names}`);
  ok("@azure/arm-compute: all machines, page by page");
  const shown = await compute.virtualMachines.get(task.machineGroup, task.machine, { expand: "instanceView" });
  assert.equal(shown.identity.type, "SystemAssigned");
  assert.ok(shown.instanceView.statuses.some((s) => s.code === "PowerState/running"));
  ok("@azure/arm-compute: a machine with its instance view");
  await assert.rejects(compute.virtualMachines.get(task.machineGroup, "nobody"), (failed) => failed.statusCode === 404 && failed.code === "ResourceNotFound");
  ok("@azure/arm-compute: a machine that is not there");
  const poller = await compute.virtualMachines.beginUpdate(task.machineGroup, task.machine, { tags: { "made by": "node" } }, { updateIntervalInMs: 500 });
  const tagged = await poller.pollUntilDone();
  assert.deepEqual(tagged.tags, { "made by": "node" });
  ok("@azure/arm-compute: a machine is updated, poller");
}

async function device(task) {
  const options = { ...where(task), tenantId: task.tenant, userPromptCallback: (r) => task.ask("code", r.verificationUri, r.userCode) };
  const credential = new DeviceCodeCredential(options);
  const record = await credential.authenticate(scope(task));
  assert.equal(record.username, task.username);
  jwt(await credential.getToken(scope(task)));
  jwt(await credential.getToken(`${task.url}/.default`));
  ok("@azure/identity: device code, then a token for Graph, silently");
}

async function identity(task) {
  const credential = new ManagedIdentityCredential();
  jwt(await credential.getToken(scope(task)));
  ok("@azure/identity: managed identity");
  const shown = await client(task, credential).virtualMachines.get(task.machineGroup, task.machine);
  assert.equal(shown.name, task.machine);
  ok("@azure/arm-compute: with the machine's identity");
  const other = new ManagedIdentityCredential({ clientId: "11111111-2222-4333-8444-555555555555" });
  await refused("@azure/identity: an identity that the machine does not have", "", () => other.getToken(scope(task)));
}

export default { resources, device, identity };
