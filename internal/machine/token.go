package machine

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/guid"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/scope"
)

// tokenLife is how long a join token can be used.
const tokenLife = time.Hour

// MintJoinToken makes a single-use token with which one machine may join, for
// one hour, as the given machine. Whoever calls has checked the right to do so:
// it is the server's own hand that makes machines.
func (s *Service) MintJoinToken(ctx context.Context, by audit.By, machineID string, resource scope.ID) (string, error) {
	if !guid.Valid(machineID) || resource.IsZero() {
		return "", fault.New(fault.Invalid, "InvalidMachine", "a join token names one machine: its id and its resource id")
	}
	text, _, err := s.mint(ctx, by, func(Tx) (Token, error) { return Token{MachineID: machineID, ResourceID: resource}, nil })
	return text, err
}

// MintFor makes a token as a person asks for it: for a machine that exists, or for
// a new one in a resource group. Whoever makes it holds the right now, and must
// hold it still when the token is used.
func (s *Service) MintFor(ctx context.Context, by audit.By, at scope.ID) (token string, expires time.Time, err error) {
	token, expires, err = s.mint(ctx, by, func(t Tx) (Token, error) {
		id, err := s.cfg.Enroller.MayMint(t, by, at)
		return Token{MachineID: id, ResourceID: at, MintedBy: by.Principal}, err
	})
	if fault.Is(err, fault.Forbidden) {
		if failed := s.denied(ctx, by, "machine.joinToken", at, map[string]string{"reason": "no right to"}); failed != nil {
			return "", expires, failed
		}
	}
	return token, expires, err
}

// denied audits a refusal apart from the transaction that it rolled back.
func (s *Service) denied(ctx context.Context, by audit.By, event string, at scope.ID, detail map[string]string) error {
	return s.cfg.Write(ctx, func(t Tx) error {
		return t.Audit(by, audit.Event{Type: event, Outcome: audit.Denied, Target: at.String(), Detail: detail})
	})
}

func (s *Service) mint(ctx context.Context, by audit.By, what func(Tx) (Token, error)) (string, time.Time, error) {
	var expires time.Time
	if err := s.held(); err != nil {
		return "", expires, err
	}
	secret := make([]byte, 32)
	if _, err := io.ReadFull(s.cfg.Rand, secret); err != nil {
		return "", expires, fmt.Errorf("join token: %w", err)
	}
	text := base64.RawURLEncoding.EncodeToString(secret)
	signed, manifest := s.cfg.Keys.Manifest()
	pin, err := signed.Pin()
	if err != nil {
		return "", expires, err
	}
	err = s.cfg.Write(ctx, func(t Tx) error {
		token, err := what(t)
		if err != nil {
			return err
		}
		expires = t.Now().Add(tokenLife)
		token.Hash, token.ExpiresAt = s.hash(text), expires
		if err := t.PutJoinToken(token); err != nil {
			return err
		}
		return t.Audit(by, audit.Event{Type: "machine.joinToken", Outcome: audit.Success, Target: token.ResourceID.String(),
			Detail: map[string]string{"machineId": token.MachineID, "expires": expires.Format(time.RFC3339)}})
	})
	if err != nil {
		return "", expires, err
	}
	return protocol.JoinToken{URL: manifest.URL, Pin: pin, Secret: text}.String(), expires, nil
}

func (s *Service) hash(secret string) string {
	m := hmac.New(sha256.New, s.cfg.HashKey)
	m.Write([]byte("sallyport join token v1\n" + secret))
	return hex.EncodeToString(m.Sum(nil))
}

func errToken() error {
	return fault.New(fault.Unauthenticated, "JoinTokenRefused", "the join token is unknown, was used before, or is older than one hour").
		WithRemedy("Ask whoever manages the machine for a new token.")
}

// Join makes the holder of a TLS key the machine that the token names. The
// token is used up by it; only the same key may repeat the request within the
// token's life. The key that the machine had before is dead after it.
func (s *Service) Join(ctx context.Context, by audit.By, r protocol.JoinRequest, thumbprint string) (protocol.JoinAnswer, error) {
	if err := checkJoin(r, thumbprint); err != nil {
		return protocol.JoinAnswer{}, err
	}
	if err := s.held(); err != nil {
		return protocol.JoinAnswer{}, err
	}
	signed, _ := s.cfg.Keys.Manifest()
	token, err := protocol.ParseJoinToken(r.Token)
	if err != nil {
		return protocol.JoinAnswer{}, errToken()
	}
	var m Machine
	var used Token
	refused := false
	err = s.cfg.Write(ctx, func(t Tx) error {
		var ok bool
		used, ok, err = t.UseJoinToken(s.hash(token.Secret), thumbprint, t.Now())
		if err != nil {
			return err
		}
		if again := !ok && used.UsedBy == thumbprint && t.Now().Before(used.ExpiresAt); again {
			// The answer got lost: the same key may ask again with its token.
			m, ok, err = t.MachineByKey(thumbprint)
			refused = !ok || m.ID != used.MachineID
			return err
		}
		if refused = !ok; refused {
			if used.ResourceID.IsZero() {
				return nil // a guess; the limiter and the log have it
			}
			return t.Audit(by, audit.Event{Type: "machine.join", Outcome: audit.Denied, Target: used.ResourceID.String(), Detail: map[string]string{"reason": "token used before or expired"}})
		}
		m = Machine{ID: used.MachineID, ResourceID: used.ResourceID, Thumbprint: thumbprint, JoinedAt: t.Now(),
			Hostname: r.Hostname, OS: r.OS, OpenSSH: r.OpenSSH, Agent: r.Agent}
		if err := s.enroll(t, by, r, used, &m); err != nil {
			return err
		}
		return s.enter(t, by, m)
	})
	if fault.Is(err, fault.Forbidden) || fault.Is(err, fault.Unauthenticated) {
		if failed := s.denied(ctx, by, "machine.join", used.ResourceID, map[string]string{"reason": "who made the token may not do this any more, or its machine is another one"}); failed != nil {
			return protocol.JoinAnswer{}, failed
		}
	}
	if err != nil {
		return protocol.JoinAnswer{}, err
	}
	if refused {
		return protocol.JoinAnswer{}, errToken()
	}
	s.forget(m.ID)
	return protocol.JoinAnswer{MachineID: m.ID, ResourceID: m.ResourceID.String(), Manifest: signed}, nil
}

// enroll asks the resource model about a token that a person made. Any error
// leaves the token as good as it was.
func (s *Service) enroll(t Tx, by audit.By, r protocol.JoinRequest, used Token, m *Machine) error {
	if used.MintedBy == "" {
		if r.Name != "" || r.Group != "" || len(r.Tags) > 0 || r.EnableLogin {
			return fault.New(fault.Invalid, "InvalidJoinRequest", "this token is for a machine that the server made; it takes no name, group, tags or extension")
		}
		return nil
	}
	if err := sameTarget(r, used); err != nil {
		return err
	}
	minter, err := s.cfg.Enroller.Minter(used.MintedBy, used.ExpiresAt.Add(-tokenLife), by)
	if err != nil {
		return err
	}
	m.ID, m.ResourceID, err = s.cfg.Enroller.Enroll(t, Enrolment{By: minter, At: used.ResourceID, Name: r.Name, Tags: r.Tags, EnableLogin: r.EnableLogin})
	if err != nil || used.MachineID != "" && used.MachineID == m.ID {
		return err
	}
	if used.MachineID != "" {
		// The machine was quarantined after the token was made for what it was.
		return errToken()
	}
	return t.BindJoinToken(used.Hash, m.ID)
}

// sameTarget refuses a token for another machine than the one that is asked for.
func sameTarget(r protocol.JoinRequest, used Token) error {
	at := used.ResourceID
	if r.Group != "" && !strings.EqualFold(r.Group, at.ResourceGroupName()) {
		return fault.New(fault.Invalid, "JoinTokenElsewhere", "the join token is for the resource group '%s', not for '%s'", at.ResourceGroupName(), r.Group).WithRemedy("Ask for a token for that group.")
	}
	switch {
	case used.MachineID == "" && r.Name == "":
		return fault.New(fault.Invalid, "InvalidJoinRequest", "the join token is for a new machine, which needs a name").WithRemedy("Give --name.")
	case used.MachineID != "" && r.Name != "" && !strings.EqualFold(r.Name, at.Name()):
		return fault.New(fault.Invalid, "JoinTokenElsewhere", "the join token is for the machine '%s', not for '%s'", at.Name(), r.Name).
			WithRemedy("If this host is to be that machine, give --name %s; a name that is not given is the host's own. Otherwise ask for a token for '%s'.", at.Name(), r.Name)
	case used.MachineID != "" && len(r.Tags) > 0:
		return fault.New(fault.Invalid, "InvalidJoinRequest", "the machine '%s' exists, and joining changes none of its tags", at.Name()).WithRemedy("Leave --tags out; use: sally machine update --tags")
	}
	return nil
}

// enter stores a machine that has proved its token.
func (s *Service) enter(t Tx, by audit.By, m Machine) error {
	other, taken, err := t.MachineByKey(m.Thumbprint)
	if err != nil {
		return err
	}
	if taken && other.ID != m.ID {
		return fault.New(fault.Conflict, "MachineKeyInUse", "this machine's key belongs to another machine: a disk was copied").
			WithRemedy("Remove /var/lib/sallyport and /etc/sallyport on the copy and join again with a new token.")
	}
	event := audit.Event{Type: "machine.join", Outcome: audit.Success, Target: m.ResourceID.String(), Detail: map[string]string{"machineId": m.ID, "key": m.Thumbprint}}
	old, had, err := t.MachineByID(m.ID)
	if err != nil {
		return err
	}
	if had {
		event.Type = "machine.rejoin"
		event.Detail["replacedKey"] = old.Thumbprint
		m.Replaced, m.ReplacedAt = old.Thumbprint, m.JoinedAt
	}
	if err := t.PutMachine(m); err != nil {
		return err
	}
	return t.Audit(by, event)
}

func checkJoin(r protocol.JoinRequest, thumbprint string) error {
	if thumbprint == "" {
		return fault.New(fault.Unauthenticated, "MachineKeyMissing", "a machine joins over TLS with its own key")
	}
	if r.Capability < 1 || r.Capability > protocol.Capability {
		return fault.New(fault.Invalid, "CapabilityUnknown", "this server speaks the machine protocol up to %d, the machine asks for %d", protocol.Capability, r.Capability).
			WithRemedy("Install the same version of sally on both.")
	}
	for _, v := range []string{r.Hostname, r.OS, r.OpenSSH, r.Agent, r.Name, r.Group} {
		if !short(v) {
			return fault.New(fault.Invalid, "InvalidJoinRequest", "hostname, os, openssh, agent, name and group are printable texts of at most 256 bytes")
		}
	}
	if len(r.Tags) > maxTags {
		return fault.New(fault.Invalid, "InvalidJoinRequest", "a machine has at most %d tags", maxTags)
	}
	return nil
}

// maxTags is Azure's limit.
const maxTags = 50

// short accepts printable ASCII of at most 256 bytes.
func short(v string) bool {
	return len(v) <= 256 && strings.IndexFunc(v, func(r rune) bool { return r < ' ' || r > '~' }) < 0
}

// Remove forgets a machine: its key opens nothing from now on. It is idempotent.
func (s *Service) Remove(ctx context.Context, by audit.By, machineID string) error {
	err := s.cfg.Write(ctx, func(t Tx) error { return Drop(t, by, machineID) })
	if err == nil {
		s.forget(machineID)
	}
	return err
}

// Drop is Remove inside a transaction of the caller's.
func Drop(t Tx, by audit.By, machineID string) error {
	m, had, err := t.MachineByID(machineID)
	if err != nil || !had {
		return err
	}
	if err := t.DropMachine(machineID); err != nil {
		return err
	}
	return t.Audit(by, audit.Event{Type: "machine.remove", Outcome: audit.Success, Target: m.ResourceID.String(), Detail: map[string]string{"machineId": m.ID, "key": m.Thumbprint}})
}

// Leave lets a machine give up its own key, which is all that it may: its resource
// stays, until somebody deletes it or another host joins as it.
func (s *Service) Leave(ctx context.Context, by audit.By) error {
	err := s.cfg.Write(ctx, func(t Tx) error {
		m, had, err := t.MachineByID(by.Principal)
		if err != nil {
			return err
		}
		if !had {
			return errUnknownMachine()
		}
		if err := s.cfg.Enroller.Left(t, m.ResourceID); err != nil {
			return err
		}
		return Drop(t, by, m.ID)
	})
	if err == nil {
		s.forget(by.Principal)
	}
	return err
}
