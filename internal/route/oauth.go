package route

import "sallyport/internal/machine/protocol"

// oauthRows is the directory's protocol side. {tenant} is the tenant's id, a
// verified domain, common, organizations or adfs.
func oauthRows() []Row {
	const (
		discovery = "discovery holds nothing that is not public"
		client    = "the client proves itself in the request"
		userinfo  = "says of the caller himself what his id token says"
	)
	return []Row{
		{ID: "oauth.discovery", Method: "GET", Pattern: "/{tenant}/v2.0/.well-known/openid-configuration", Door: Public, Surface: OAuth, Why: discovery, Limiter: "read"},
		{ID: "oauth.discoveryADFS", Method: "GET", Pattern: "/{tenant}/.well-known/openid-configuration", Door: Public, Surface: OAuth, Why: discovery, Limiter: "read"},
		{ID: "oauth.keys", Method: "GET", Pattern: "/{tenant}/discovery/v2.0/keys", Door: Public, Surface: OAuth, Why: discovery, Limiter: "read"},
		{ID: "oauth.keysADFS", Method: "GET", Pattern: "/{tenant}/discovery/keys", Door: Public, Surface: OAuth, Why: discovery, Limiter: "read"},
		{ID: "oauth.instance", Method: "GET", Pattern: "/common/discovery/instance", Door: Public, Surface: OAuth, Why: discovery, Limiter: "read"},
		{ID: "oauth.realm", Method: "GET", Pattern: "/{tenant}/userrealm/{upn}", Door: Public, Surface: OAuth, Why: "tells the kind of a domain, never whether a user exists", Limiter: "read"},
		{ID: "oauth.token", Method: "POST", Pattern: "/{tenant}/oauth2/v2.0/token", Door: Client, Surface: OAuth, Why: client, Limiter: "token"},
		{ID: "oauth.tokenADFS", Method: "POST", Pattern: "/{tenant}/oauth2/token", Door: Client, Surface: OAuth, Why: client, Limiter: "token"},
		{ID: "oauth.device", Method: "POST", Pattern: "/{tenant}/oauth2/v2.0/devicecode", Door: Client, Surface: OAuth, Why: client, Limiter: "device"},
		{ID: "oauth.deviceADFS", Method: "POST", Pattern: "/{tenant}/oauth2/devicecode", Door: Client, Surface: OAuth, Why: client, Limiter: "device"},
		{ID: "oauth.userinfo", Method: "GET", Pattern: "/oidc/userinfo", Door: Caller, Surface: OAuth, Why: userinfo, Limiter: "read"},
		{ID: "oauth.userinfo.post", Method: "POST", Pattern: "/oidc/userinfo", Door: Caller, Surface: OAuth, Why: userinfo, Limiter: "read"},
		{ID: "oauth.password", Method: "POST", Pattern: "/sallyport/v1/password", Door: Public, Surface: Agent, Why: "the present password is the proof", Limiter: "login"},
		{ID: "oauth.manifest", Method: "GET", Pattern: "/.well-known/sallyport/manifest", Door: Public, Surface: Agent, Why: "signed public keys; readers pin the signing key", Limiter: "read", Response: protocol.SignedManifest{}},
	}
}
