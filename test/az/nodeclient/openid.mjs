// openid-client, which knows nothing of Azure: discovery, authorization code with
// PKCE, refresh, client credentials, keys that are replaced between sign-in and
// validation, userinfo, and logout.
import { createServer } from "node:http";
import * as client from "openid-client";
import { assert, ok, refused } from "./prove.mjs";

// arrival waits for the browser to come back. What else it asks for (an icon) is not
// there, and is not taken for it.
function arrival(server, task, text) {
  return new Promise((resolve) => {
    server.on("request", function come(request, response) {
      const url = new URL(request.url, task.redirect);
      if (url.pathname !== new URL(task.redirect).pathname) {
        if (!response.writableEnded) response.writeHead(404).end();
        return;
      }
      server.off("request", come);
      response.end(text);
      resolve(url);
    });
  });
}

// signIn sends somebody through the browser and returns what the code gave.
// between is done after the sign-in and before the token is asked for.
async function signIn(task, config, server, scope, between) {
  const verifier = client.randomPKCECodeVerifier();
  const state = client.randomState();
  const nonce = client.randomNonce();
  const page = client.buildAuthorizationUrl(config, { redirect_uri: task.redirect, scope, state, nonce, code_challenge: await client.calculatePKCECodeChallenge(verifier), code_challenge_method: "S256" });
  const came = arrival(server, task, "signed in");
  await task.ask("open", page.href);
  const back = await came;
  if (between) await between();
  const checks = { pkceCodeVerifier: verifier, expectedState: state, expectedNonce: nonce, idTokenExpected: true };
  return { tokens: await client.authorizationCodeGrant(config, back, checks), back, checks };
}

async function begin(task) {
  const config = await client.discovery(new URL(`${task.url}/${task.tenant}/v2.0`), task.application, task.secret);
  client.enableNonRepudiationChecks(config); // signatures of id tokens are checked, too
  return config;
}

async function openid(task) {
  let config = await begin(task);
  const known = config.serverMetadata();
  assert.equal(known.issuer, `${task.url}/${task.tenant}/v2.0`);
  assert.ok(known.supportsPKCE());
  ok("openid-client: discovery");
  const place = new URL(task.redirect);
  const server = createServer().listen(Number(place.port), place.hostname);
  await new Promise((resolve) => server.once("listening", resolve));
  const first = await signIn(task, config, server, "openid profile offline_access");
  const claims = first.tokens.claims();
  assert.equal(claims.oid, task.person);
  assert.equal(claims.preferred_username, task.username);
  ok("openid-client: authorization code with PKCE, state, nonce and a signature that holds");
  await refused("openid-client: the code once more", "AADSTS70008", () => client.authorizationCodeGrant(config, first.back, first.checks));
  await rotation(task, config, server);
  config = await begin(task); // its keys were younger than that
  const second = await signIn(task, config, server, "openid profile email offline_access");
  await userinfo(task, config, second.tokens);
  const renewed = await client.refreshTokenGrant(config, second.tokens.refresh_token);
  assert.equal(renewed.claims().sub, claims.sub);
  assert.notEqual(renewed.refresh_token, second.tokens.refresh_token);
  ok("openid-client: refresh, with a new refresh token");
  const alone = await client.clientCredentialsGrant(config, { scope: `${task.url}/arm/.default` });
  assert.equal(alone.token_type, "bearer");
  const basic = await client.discovery(new URL(known.issuer), task.application, undefined, client.ClientSecretBasic(task.secret));
  assert.ok((await client.clientCredentialsGrant(basic, { scope: `${task.url}/arm/.default` })).access_token);
  ok("openid-client: client credentials, the secret in the body and in the header");
  await logout(task, config, server, second.tokens);
  server.close();
}

// rotation: the key that signs is replaced while people sign in.
async function rotation(task, config, server) {
  const cache = client.getJwksCache(config);
  const before = cache.jwks.keys.map((k) => k.kid);
  // The library asks for new keys when those that it has are older than a minute
  // and none of them fits, which is why a rotation publishes the next key a minute
  // before it signs. This one is forced, so the program has kept its keys as long.
  const old = new client.Configuration(config.serverMetadata(), task.application, task.secret);
  client.enableNonRepudiationChecks(old);
  client.setJwksCache(old, { jwks: cache.jwks, uat: cache.uat - 60 });
  const inFlight = await signIn(task, old, server, "openid", () => task.ask("rotate"));
  assert.equal(inFlight.tokens.claims().oid, task.person);
  const after = await (await fetch(config.serverMetadata().jwks_uri)).json();
  assert.ok(after.keys.length > before.length, "the new key is published");
  assert.ok(before.every((kid) => after.keys.some((k) => k.kid === kid)), "the key before is still published");
  ok("openid-client: the signing key is replaced between sign-in and token");
  const fresh = await begin(task);
  assert.equal((await signIn(task, fresh, server, "openid")).tokens.claims().oid, task.person);
  ok("openid-client: a client that begins after it");
}

async function userinfo(task, config, tokens) {
  const info = await client.fetchUserInfo(config, tokens.access_token, tokens.claims().sub);
  assert.equal(info.name, task.name);
  ok("openid-client: userinfo");
  await assert.rejects(client.fetchUserInfo(config, tokens.access_token, "somebody-else"));
  ok("openid-client: userinfo of somebody else");
}

// logout leads back to the program, and the next sign-in asks again.
async function logout(task, config, server, tokens) {
  const state = client.randomState();
  const page = client.buildEndSessionUrl(config, { post_logout_redirect_uri: task.redirect, id_token_hint: tokens.id_token, state });
  const came = arrival(server, task, "signed out");
  await task.ask("open", page.href);
  assert.equal((await came).searchParams.get("state"), state);
  ok("openid-client: logout leads back with its state");
  const silent = client.buildAuthorizationUrl(config, { redirect_uri: task.redirect, scope: "openid", prompt: "none", state, code_challenge: await client.calculatePKCECodeChallenge(client.randomPKCECodeVerifier()), code_challenge_method: "S256" });
  const refusal = arrival(server, task, "refused");
  await task.ask("open", silent.href);
  assert.equal((await refusal).searchParams.get("error"), "login_required");
  ok("openid-client: after logout nobody is signed in (prompt=none)");
}

export default { openid };
