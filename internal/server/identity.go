package server

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/cloud"
	"sallyport/internal/directory"
	"sallyport/internal/fault"
	"sallyport/internal/guid"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/oauth"
	"sallyport/internal/resource"
	"sallyport/internal/resource/types"
	"sallyport/internal/scope"
)

// identities gives machines what their own managed identity may have. Which
// identity a machine has is read from its resource at each request: a machine
// names none.
type identities struct{ *deployment }

// IdentityToken mints an access token of the machine's managed identity.
func (d identities) IdentityToken(ctx context.Context, by audit.By, r protocol.IdentityTokenRequest) (protocol.IdentityToken, error) {
	return d.managed(ctx, by, oauth.Managed{Resource: r.Resource, Caller: r.Caller}, selection{client: r.ClientID, object: r.ObjectID, resource: r.ResourceID})
}

// IdentityCertificate issues a certificate of the machine's managed identity.
func (d identities) IdentityCertificate(ctx context.Context, by audit.By, r protocol.IdentityCertificateRequest) (protocol.IdentityToken, error) {
	if r.Confirmation == "" {
		return protocol.IdentityToken{}, fault.New(fault.Invalid, "invalid_request", "the request names no key")
	}
	if id, ok := guid.Parse(r.Machine); r.Machine != "" && (!ok || id != r.Machine) {
		return protocol.IdentityToken{}, fault.New(fault.Invalid, "invalid_request", "'machine' must be a machine's id")
	}
	return d.managed(ctx, by, oauth.Managed{Confirmation: r.Confirmation, KeyID: r.KeyID, Machine: r.Machine, Caller: r.Caller}, selection{})
}

// selection is what a request says of the identity that it means.
type selection struct{ client, object, resource string }

// pick chooses among the identities that the machine's resource has: the one that
// is named by everything that was given, or with nothing given its own, or its only
// one. "" is none.
func (d identities) pick(w types.Want, s selection) (principal string, err error) {
	refuse := func(text string) error { return fault.New(fault.Invalid, "invalid_request", "%s", text) }
	if s == (selection{}) {
		switch {
		case w.PrincipalID != "" || len(w.Assigned) == 0:
			return w.PrincipalID, nil
		case len(w.Assigned) == 1:
			return w.Assigned[0].PrincipalID, nil
		}
		return "", refuse("Multiple user assigned identities exist, please specify the clientId / resourceId of the identity in the token request")
	}
	all := slices.Clone(w.Assigned)
	if own, ok := d.directory.ServicePrincipal(w.PrincipalID); ok {
		all = append(all, resource.Assigned{ID: w.ResourceID.String(), PrincipalID: own.ID, ClientID: own.AppID})
	}
	for _, a := range all {
		if (s.client == "" || strings.EqualFold(s.client, a.ClientID)) && (s.object == "" || strings.EqualFold(s.object, a.PrincipalID)) && (s.resource == "" || strings.EqualFold(s.resource, a.ID)) {
			return a.PrincipalID, nil
		}
	}
	return "", refuse("Identity not found")
}

func (d identities) managed(ctx context.Context, by audit.By, m oauth.Managed, s selection) (protocol.IdentityToken, error) {
	if err := d.machineGate(); err != nil {
		return protocol.IdentityToken{}, err
	}
	if !callerText(m.Caller) {
		return protocol.IdentityToken{}, fault.New(fault.Invalid, "invalid_request", "'caller' must be at most %d printable characters", protocol.MaxCaller)
	}
	w, err := d.wantOf(by)
	if err != nil {
		return protocol.IdentityToken{}, err
	}
	if m.ObjectID, err = d.pick(w, s); err != nil {
		return protocol.IdentityToken{}, err
	}
	answer, sp, err := d.oauth.Managed(ctx, by, m)
	var refused *oauth.Error
	if errors.As(err, &refused) {
		return protocol.IdentityToken{}, fault.Wrap(err, fault.Invalid, refused.Code, "%s", refused.Description())
	}
	if err != nil {
		return protocol.IdentityToken{}, err
	}
	return protocol.IdentityToken{TokenType: answer.TokenType, AccessToken: answer.AccessToken, ExpiresIn: answer.ExpiresIn, NotBefore: by.At.Truncate(time.Second).Unix(),
		Resource: m.Resource, ClientID: sp.AppID, ObjectID: sp.ID}, nil
}

// Instance is what the machine's resource says of it.
func (d identities) Instance(_ context.Context, by audit.By) (protocol.Instance, error) {
	w, err := d.wantOf(by)
	if err != nil {
		return protocol.Instance{}, err
	}
	i := protocol.Instance{MachineID: w.MachineID, ResourceID: w.ResourceID.String(), Location: w.Location, Size: w.Size, Tags: w.Tags, Hostname: w.Name, AdminName: w.AdminName, Passwords: w.Passwords}
	if c := d.oauth.Cloud(); c.Name != cloud.Global {
		i.Environment = c.Environment
	}
	if sp, ok := d.directory.ServicePrincipal(w.PrincipalID); ok {
		i.ClientID, i.ObjectID = sp.AppID, sp.ID
	}
	return i, nil
}

// wantOf finds the resource of the machine that asks; a machine without one has
// nothing to ask for.
func (d identities) wantOf(by audit.By) (types.Want, error) {
	w, ok := d.wanted.Want(by.Principal)
	if !ok {
		return types.Want{}, fault.New(fault.Forbidden, "MachineGone", "no resource is this machine any more")
	}
	return w, nil
}

func callerText(s string) bool {
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return len(s) <= protocol.MaxCaller
}

// identityOf finds the resource whose managed identity a principal is.
func (d *deployment) identityOf(objectID string) (scope.ID, bool) {
	p, ok := d.directory.ServicePrincipal(objectID)
	if !ok || p.Type != directory.TypeManagedIdentity {
		return scope.ID{}, false
	}
	at, err := scope.Parse(p.ResourceID)
	return at, err == nil
}
