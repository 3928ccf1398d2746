// Package oauth owns OAuth 2.0 and OpenID Connect as Azure's clients speak them:
// the authorize request, client authentication, one file per grant, and
// certificate.go, the one function through which every certificate passes
// whatever the grant: client, session -> policy -> certificate -> audit record.
//
// Everything is judged again at every redemption: the client, the account, the
// time of its sign-in against NotBefore, and policy.
//
// It refuses: HTTP (see httpd/oauth), pages and passwords (see signin), a bearer
// token for the SSH resource on any grant, clients without PKCE or a secret, and
// unknown grants, response types and request parameters that change meaning.
package oauth
