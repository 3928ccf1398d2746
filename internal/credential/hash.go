package credential

import (
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
)

// Cost is what one argon2id hash takes (RFC 9106).
type Cost struct {
	MemoryKiB uint32
	Passes    uint32
	Lanes     uint8
}

// DefaultCost is OWASP's first recommendation for argon2id: 19 MiB, two passes,
// one lane. Stronger hashes are verified with their own cost.
func DefaultCost() Cost { return Cost{MemoryKiB: 19456, Passes: 2, Lanes: 1} }

const (
	saltLength = 16
	hashLength = 32
	// A stored hash beyond these was not made here, and would be a way to
	// exhaust the server.
	maxMemoryKiB = 1 << 18
	maxPasses    = 16
	maxLanes     = 8
)

// phc is an argon2id hash in the PHC string format:
// $argon2id$v=19$m=M,t=T,p=P$salt$hash, base64 without padding.
type phc struct {
	cost       Cost
	salt, hash []byte
}

func makeHash(random io.Reader, cost Cost, password string) (string, error) {
	salt := make([]byte, saltLength)
	if _, err := io.ReadFull(random, salt); err != nil {
		return "", fmt.Errorf("password salt: %w", err)
	}
	return phc{cost, salt, argon2.IDKey([]byte(password), salt, cost.Passes, cost.MemoryKiB, cost.Lanes, hashLength)}.String(), nil
}

func (p phc) String() string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, p.cost.MemoryKiB, p.cost.Passes, p.cost.Lanes,
		base64.RawStdEncoding.EncodeToString(p.salt), base64.RawStdEncoding.EncodeToString(p.hash))
}

var errHash = errors.New("the stored password hash is malformed")

// parseHash accepts exactly what String writes.
func parseHash(text string) (phc, error) {
	parts := strings.Split(text, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != "v="+strconv.Itoa(argon2.Version) {
		return phc{}, errHash
	}
	params := strings.Split(parts[3], ",")
	if len(params) != 3 {
		return phc{}, errHash
	}
	m, errM := parameter(params[0], "m=", maxMemoryKiB)
	t, errT := parameter(params[1], "t=", maxPasses)
	l, errL := parameter(params[2], "p=", maxLanes)
	salt, errS := base64.RawStdEncoding.Strict().DecodeString(parts[4])
	hash, errH := base64.RawStdEncoding.Strict().DecodeString(parts[5])
	if err := errors.Join(errM, errT, errL, errS, errH); err != nil || len(salt) != saltLength || len(hash) != hashLength {
		return phc{}, errHash
	}
	p := phc{Cost{uint32(m), uint32(t), uint8(l)}, salt, hash}
	if p.String() != text { // leading zeros, line breaks inside base64
		return phc{}, errHash
	}
	return p, nil
}

func parameter(text, prefix string, limit uint64) (uint64, error) {
	digits, ok := strings.CutPrefix(text, prefix)
	n, err := strconv.ParseUint(digits, 10, 32)
	if !ok || err != nil || n == 0 || n > limit {
		return 0, errHash
	}
	return n, nil
}

// matches compares in constant time.
func (p phc) matches(password string) bool {
	got := argon2.IDKey([]byte(password), p.salt, p.cost.Passes, p.cost.MemoryKiB, p.cost.Lanes, hashLength)
	return subtle.ConstantTimeCompare(got, p.hash) == 1
}
