// @azure/msal-node: confidential clients with a secret and with a certificate;
// people in a browser with PKCE and a loopback address, with a device code, and
// silently afterwards.
import { X509Certificate, createPrivateKey } from "node:crypto";
import { readFileSync } from "node:fs";
import { ConfidentialClientApplication, PublicClientApplication } from "@azure/msal-node";
import { assert, ok, refused } from "./prove.mjs";

const auth = (task, more) => ({ authority: `${task.url}/${task.tenant}`, knownAuthorities: [new URL(task.url).host], ...more });

// Who signs in with one resource asks for another in the next call.
const arm = (task) => [`${task.url}/arm/.default`];
const graph = (task) => [`${task.url}/.default`];

async function msal(task) {
  const clientId = task.application;
  const secret = new ConfidentialClientApplication({ auth: auth(task, { clientId, clientSecret: task.secret }) });
  const first = await secret.acquireTokenByClientCredential({ scopes: arm(task) });
  assert.equal(first.fromCache, false);
  assert.equal(first.accessToken.split(".").length, 3);
  const again = await secret.acquireTokenByClientCredential({ scopes: arm(task) });
  assert.equal(again.fromCache, true);
  const anew = await secret.acquireTokenByClientCredential({ scopes: arm(task), skipCache: true });
  assert.equal(anew.fromCache, false);
  ok("msal-node: client secret; from the cache; past the cache");
  const wrong = new ConfidentialClientApplication({ auth: auth(task, { clientId, clientSecret: task.secret + "x" }) });
  await refused("msal-node: a wrong secret", "AADSTS7000215", () => wrong.acquireTokenByClientCredential({ scopes: arm(task) }));
  await refused("msal-node: a resource that is not there", "AADSTS500011", () => secret.acquireTokenByClientCredential({ scopes: ["https://nowhere.example/.default"] }));
  await refused("msal-node: no bearer token for SSH", "AADSTS", () => secret.acquireTokenByClientCredential({ scopes: [task.ssh] }));
  const pem = readFileSync(task.certificate, "utf8");
  const certificate = new X509Certificate(pem.slice(pem.indexOf("-----BEGIN CERTIFICATE")));
  const privateKey = createPrivateKey(pem).export({ type: "pkcs8", format: "pem" });
  for (const x5c of [undefined, certificate.toString()]) {
    const client = new ConfidentialClientApplication({
      auth: auth(task, { clientId, clientCertificate: { thumbprintSha256: certificate.fingerprint256.replaceAll(":", "").toLowerCase(), privateKey, x5c } }),
    });
    assert.ok((await client.acquireTokenByClientCredential({ scopes: arm(task) })).accessToken);
    ok(`msal-node: client certificate${x5c ? " that is sent along (x5c)" : ""}`);
  }
}

// silently checks what a sign-in left behind.
async function silently(task, client, account, what) {
  const cached = await client.acquireTokenSilent({ account, scopes: arm(task) });
  assert.equal(cached.fromCache, true);
  const fresh = await client.acquireTokenSilent({ account, scopes: arm(task), forceRefresh: true });
  assert.equal(fresh.fromCache, false);
  assert.notEqual(fresh.accessToken, cached.accessToken);
  const other = await client.acquireTokenSilent({ account, scopes: graph(task) });
  assert.notEqual(other.accessToken, fresh.accessToken);
  const me = await fetch(`${task.url}/v1.0/me`, { headers: { authorization: `Bearer ${other.accessToken}` } });
  assert.equal((await me.json()).userPrincipalName, task.username);
  // The cache as a program would keep it: another process goes on with it.
  const kept = client.getTokenCache().serialize();
  const next = new PublicClientApplication({ auth: auth(task, { clientId: task.cli }) });
  next.getTokenCache().deserialize(kept);
  const [same] = await next.getTokenCache().getAllAccounts();
  assert.equal(same.username, task.username);
  assert.equal((await next.acquireTokenSilent({ account: same, scopes: arm(task), forceRefresh: true })).fromCache, false);
  ok(`msal-node: ${what}, then silent: from the cache, by refresh, for another resource, from a cache that was kept`);
}

async function interactive(task) {
  const client = new PublicClientApplication({ auth: auth(task, { clientId: task.cli }) });
  const result = await client.acquireTokenInteractive({ scopes: arm(task), loginHint: task.username, openBrowser: (page) => task.ask("open", page) });
  assert.equal(result.account.username, task.username);
  assert.equal(result.account.tenantId, task.tenant);
  assert.equal(result.idTokenClaims.oid, task.person);
  await silently(task, client, result.account, "authorization code with PKCE, loopback");
  const second = new PublicClientApplication({ auth: auth(task, { clientId: task.cli }) });
  const coded = await second.acquireTokenByDeviceCode({ scopes: arm(task), deviceCodeCallback: (r) => task.ask("code", r.verificationUri, r.userCode) });
  await silently(task, second, coded.account, "device code");
  const denied = new PublicClientApplication({ auth: auth(task, { clientId: task.cli }) });
  await refused("msal-node: a device code that is denied", "authorization_declined", () => denied.acquireTokenByDeviceCode({ scopes: arm(task), deviceCodeCallback: (r) => task.ask("deny", r.verificationUri, r.userCode) }));
  await client.getTokenCache().removeAccount(result.account);
  await refused("msal-node: an account that was removed", "no_tokens_found", () => client.acquireTokenSilent({ account: result.account, scopes: arm(task) }));
}

export default { msal, interactive };
