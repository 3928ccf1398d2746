package sshca

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// linted is the linter's one-use permission to sign exactly these bytes. Only
// lint makes one.
type linted struct{ tbs []byte }

func (l *linted) take() ([]byte, error) {
	if l == nil || l.tbs == nil {
		return nil, errors.New("sshca: no linted certificate")
	}
	tbs := l.tbs
	l.tbs = nil
	return tbs, nil
}

// expectation is what the certificate was meant to say.
type expectation struct {
	request   Request
	authority []byte
}

// clause is one numbered rule of docs/certificate-profile.md.
type clause struct {
	number string
	check  func(plainCertificate, expectation) error
}

// clauses lists the profile in its own order.
func clauses() []clause {
	return []clause{
		{"C1", clauseKey}, {"C2", clauseAuthority}, {"C3", clauseSerialNonce}, {"C4", clauseKind}, {"C5", clauseKeyID},
		{"C6", clausePrincipals}, {"C7", clauseValidity}, {"C8", clauseOptions}, {"C9", clauseExtensions}, {"C10", clauseOwnExtensions}, {"C11", clauseReserved},
	}
}

// lint re-parses the bytes and checks every clause.
func lint(tbs []byte, want expectation) (*linted, error) {
	c, err := parsePlain(tbs)
	if err != nil {
		return nil, fmt.Errorf("sshca: lint: %w", err)
	}
	for _, rule := range clauses() {
		if err := rule.check(c, want); err != nil {
			return nil, fmt.Errorf("sshca: lint %s: %w", rule.number, err)
		}
	}
	return &linted{tbs: slices.Clone(tbs)}, nil
}

func clauseKey(c plainCertificate, want expectation) error {
	if !bytes.Equal(c.key, want.request.PublicKey.Marshal()) {
		return errors.New("the certified key is not the one that was asked for")
	}
	if bytes.Equal(c.key, c.authority) {
		return errors.New("the authority would certify itself")
	}
	if c.algorithm == "ssh-rsa-cert-v01@openssh.com" {
		return rsaWide(c.key, minRSA)
	}
	return nil
}

// rsaWide counts the modulus' bits in the bytes themselves.
func rsaWide(blob []byte, least int) error {
	r := reader{blob}
	var n []byte
	for range 3 { // algorithm, e, n
		var err error
		if n, err = r.text(); err != nil {
			return err
		}
	}
	n = bytes.TrimLeft(n, "\x00")
	if len(n) < least/8 || len(n) == least/8 && n[0] < 0x80 {
		return fmt.Errorf("the RSA key is shorter than %d bits", least)
	}
	return nil
}

func clauseAuthority(c plainCertificate, want expectation) error {
	if strings.Contains(c.authorityOf, "-cert-") {
		return errors.New("the authority is a certificate")
	}
	if !bytes.Equal(c.authority, want.authority) {
		return errors.New("the signature key is not this type's authority")
	}
	switch c.authorityOf {
	case "ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521":
		return nil
	case "ssh-rsa":
		return rsaWide(c.authority, minAuthorityRSA)
	}
	return fmt.Errorf("a %q key is no authority", c.authorityOf)
}

func clauseSerialNonce(c plainCertificate, _ expectation) error {
	if c.serial == 0 {
		return errors.New("the serial is zero, which means none")
	}
	if len(c.nonce) < 16 || len(c.nonce) > 64 {
		return errors.New("the nonce has the wrong length")
	}
	if bytes.Count(c.nonce, c.nonce[:1]) == len(c.nonce) {
		return errors.New("the nonce is not random")
	}
	return nil
}

func clauseKind(c plainCertificate, want expectation) error {
	if c.kind != uint32(want.request.Type) || c.kind != 1 && c.kind != 2 {
		return fmt.Errorf("type %d", c.kind)
	}
	return nil
}

// guid reports whether s is a GUID in lower case.
func guid(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i, c := range []byte(s) {
		switch {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return false
			}
		case c >= '0' && c <= '9', c >= 'a' && c <= 'f':
		default:
			return false
		}
	}
	return true
}

func clauseKeyID(c plainCertificate, want expectation) error {
	if !guid(c.keyID) || c.keyID != want.request.KeyID {
		return errors.New("the key id is not the correlation id")
	}
	return nil
}

func clausePrincipals(c plainCertificate, want expectation) error {
	if !slices.Equal(c.principals, want.request.Principals) {
		return errors.New("principals differ from the request")
	}
	if c.kind == 2 {
		return hostPrincipal(c.principals)
	}
	switch len(c.principals) {
	case 1:
		if !guid(c.principals[0]) {
			return errors.New("the only principal is not an object id")
		}
	case 2:
		if !upnShape(c.principals[0]) || !guid(c.principals[1]) {
			return errors.New("principals are not (UPN, object id)")
		}
	default:
		return fmt.Errorf("%d principals", len(c.principals))
	}
	return nil
}

func hostPrincipal(names []string) error {
	if len(names) != 1 {
		return fmt.Errorf("%d host principals", len(names))
	}
	id, domain, ok := strings.Cut(names[0], ".machine.")
	if !ok || !guid(id) || !domainShape(domain) {
		return errors.New("the host principal is not MACHINE.machine.DOMAIN")
	}
	return nil
}

func upnShape(s string) bool {
	name, domain, ok := strings.Cut(s, "@")
	if !ok || name == "" || len(name) > 64 || !domainShape(domain) || strings.IndexByte("-.'", name[0]) >= 0 {
		return false
	}
	return !strings.ContainsFunc(name, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789._-'", r)
	})
}

func domainShape(s string) bool {
	if s == "" || len(s) > 113 {
		return false
	}
	for _, label := range strings.Split(s, ".") {
		if label == "" || label[0] == '-' || label[len(label)-1] == '-' || strings.ContainsFunc(label, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-'
		}) {
			return false
		}
	}
	return true
}

func clauseValidity(c plainCertificate, want expectation) error {
	issued := want.request.IssuedAt.Unix()
	if issued <= 0 || c.after >= 1<<62 || c.before >= 1<<62 {
		return errors.New("validity is not finite")
	}
	life := int64(c.before) - issued
	longest := int64(MaxLifetime / time.Second)
	if c.kind == 2 {
		longest = int64(HostLifetime / time.Second)
	}
	if life < int64(MinLifetime/time.Second) || life > longest {
		return fmt.Errorf("it would live %d seconds", life)
	}
	if early := issued - int64(c.after); early < 0 || early > int64(Skew/time.Second) {
		return fmt.Errorf("it would start %d seconds before its issue", early)
	}
	return nil
}

func clauseOptions(c plainCertificate, want expectation) error {
	if c.kind == 2 && len(c.options) != 0 {
		return errors.New("a host certificate has no critical options")
	}
	if len(c.options) != len(want.request.Options) {
		return errors.New("critical options differ from the request")
	}
	for _, o := range c.options {
		if v, asked := want.request.Options[o.name]; !asked || v != o.value {
			return fmt.Errorf("option %q was not asked for", o.name)
		}
		switch o.name {
		case "verify-required":
			if o.value != "" {
				return errors.New("verify-required has a value")
			}
		case "source-address":
			for _, part := range strings.Split(o.value, ",") {
				if p, err := netip.ParsePrefix(part); err != nil || p.Masked() != p {
					return fmt.Errorf("source-address %q is no network", part)
				}
			}
		default:
			return fmt.Errorf("unknown critical option %q", o.name)
		}
	}
	return nil
}

func clauseExtensions(c plainCertificate, want expectation) error {
	if c.kind == 2 && len(c.extensions) != 0 {
		return errors.New("a host certificate has no extensions")
	}
	if len(c.extensions) != len(want.request.Extensions) {
		return errors.New("extensions differ from the request")
	}
	for _, e := range c.extensions {
		if v, asked := want.request.Extensions[e.name]; !asked || v != e.value {
			return fmt.Errorf("extension %q was not asked for", e.name)
		}
		switch e.name {
		case "permit-X11-forwarding", "permit-agent-forwarding", "permit-port-forwarding", "permit-pty", "permit-user-rc":
			if e.value != "" {
				return fmt.Errorf("extension %q has a value", e.name)
			}
		case ExtObjectID, ExtTenant, ExtIssued, ExtFactors, ExtPolicy, ExtMachine:
		default:
			return fmt.Errorf("unknown extension %q", e.name)
		}
	}
	return nil
}

func clauseOwnExtensions(c plainCertificate, want expectation) error {
	if c.kind == 2 {
		return nil
	}
	values := map[string]string{}
	for _, e := range c.extensions {
		values[e.name] = e.value
	}
	if id := values[ExtObjectID]; !guid(id) || id != c.principals[len(c.principals)-1] {
		return errors.New("the object id is missing or is not the last principal")
	}
	if !guid(values[ExtTenant]) {
		return errors.New("the tenant is missing")
	}
	if values[ExtIssued] != strconv.FormatInt(want.request.IssuedAt.UnixMicro(), 10) {
		return errors.New("the time of issue is missing or is not the request's")
	}
	if m, targeted := values[ExtMachine]; targeted && !guid(m) {
		return errors.New("the target machine is not a GUID")
	}
	if p, ok := values[ExtPolicy]; ok && (len(p) > 64 || strings.ContainsFunc(p, notToken)) {
		return errors.New("the policy revision is malformed")
	}
	if !factorShape(values[ExtFactors]) {
		return errors.New("the factors are malformed")
	}
	return nil
}

func notToken(r rune) bool {
	return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '.'
}

// factorShape accepts "name:unixtime" pairs, sorted by name, none twice; at
// least one.
func factorShape(s string) bool {
	last := ""
	for _, part := range strings.Split(s, ",") {
		name, at, ok := strings.Cut(part, ":")
		if !ok || name <= last || len(name) > 16 || strings.ContainsFunc(name, func(r rune) bool { return r < 'a' || r > 'z' }) {
			return false
		}
		if len(at) < 9 || len(at) > 12 || strings.ContainsFunc(at, func(r rune) bool { return r < '0' || r > '9' }) {
			return false
		}
		last = name
	}
	return true
}

func clauseReserved(c plainCertificate, _ expectation) error {
	if len(c.reserved) != 0 {
		return errors.New("the reserved field is not empty")
	}
	return nil
}
