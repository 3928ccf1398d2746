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
// one hour, as the given machine. Whoever calls has checked the right to do so.
// A token for a machine that has joined before lets a new key take its place.
func (s *Service) MintJoinToken(ctx context.Context, by audit.By, machineID string, resource scope.ID) (string, error) {
	if !guid.Valid(machineID) || resource.IsZero() {
		return "", fault.New(fault.Invalid, "InvalidMachine", "a join token names one machine: its id and its resource id")
	}
	if err := s.held(); err != nil {
		return "", err
	}
	secret := make([]byte, 32)
	if _, err := io.ReadFull(s.cfg.Rand, secret); err != nil {
		return "", fmt.Errorf("join token: %w", err)
	}
	text := base64.RawURLEncoding.EncodeToString(secret)
	signed, manifest := s.cfg.Keys.Manifest()
	pin, err := signed.Pin()
	if err != nil {
		return "", err
	}
	err = s.cfg.Write(ctx, func(t Tx) error {
		token := Token{Hash: s.hash(text), MachineID: machineID, ResourceID: resource, ExpiresAt: t.Now().Add(tokenLife)}
		if err := t.PutJoinToken(token); err != nil {
			return err
		}
		return t.Audit(by, audit.Event{Type: "machine.joinToken", Outcome: audit.Success, Target: resource.String(),
			Detail: map[string]string{"machineId": machineID, "expires": token.ExpiresAt.Format(time.RFC3339)}})
	})
	if err != nil {
		return "", err
	}
	return protocol.JoinToken{URL: manifest.URL, Pin: pin, Secret: text}.String(), nil
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
	refused := false
	err = s.cfg.Write(ctx, func(t Tx) error {
		used, ok, err := t.UseJoinToken(s.hash(token.Secret), thumbprint, t.Now())
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
			if used.MachineID == "" {
				return nil // a guess; the limiter and the log have it
			}
			return t.Audit(by, audit.Event{Type: "machine.join", Outcome: audit.Denied, Target: used.ResourceID.String(), Detail: map[string]string{"reason": "token used before or expired"}})
		}
		m = Machine{ID: used.MachineID, ResourceID: used.ResourceID, Thumbprint: thumbprint, JoinedAt: t.Now(),
			Hostname: r.Hostname, OS: r.OS, OpenSSH: r.OpenSSH, Agent: r.Agent}
		return s.enter(t, by, m)
	})
	if err != nil {
		return protocol.JoinAnswer{}, err
	}
	if refused {
		return protocol.JoinAnswer{}, errToken()
	}
	s.forget(m.ID)
	return protocol.JoinAnswer{MachineID: m.ID, ResourceID: m.ResourceID.String(), Manifest: signed}, nil
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
	for _, v := range []string{r.Hostname, r.OS, r.OpenSSH, r.Agent} {
		if !short(v) {
			return fault.New(fault.Invalid, "InvalidJoinRequest", "hostname, os, openssh and agent are printable texts of at most 256 bytes")
		}
	}
	return nil
}

// short accepts printable ASCII of at most 256 bytes.
func short(v string) bool {
	return len(v) <= 256 && strings.IndexFunc(v, func(r rune) bool { return r < ' ' || r > '~' }) < 0
}

// Remove forgets a machine: its key opens nothing from now on. It is idempotent.
func (s *Service) Remove(ctx context.Context, by audit.By, machineID string) error {
	err := s.cfg.Write(ctx, func(t Tx) error {
		m, had, err := t.MachineByID(machineID)
		if err != nil || !had {
			return err
		}
		if err := t.DropMachine(machineID); err != nil {
			return err
		}
		return t.Audit(by, audit.Event{Type: "machine.remove", Outcome: audit.Success, Target: m.ResourceID.String(), Detail: map[string]string{"machineId": m.ID, "key": m.Thumbprint}})
	})
	if err == nil {
		s.forget(machineID)
	}
	return err
}
