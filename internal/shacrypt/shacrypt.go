package shacrypt

import (
	"crypto/sha512"
	"crypto/subtle"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// rounds is what New asks for: ten times the scheme's default, some 30 ms, which
// every login by that password costs the machine.
const rounds = 50_000

// What New writes and wrote: rounds may become more, what is read stays bounded.
const (
	leastRounds, mostRounds = 1000, 1_000_000
	saltLength              = 16
	hashLength              = 86
	prefix                  = "$6$rounds="
)

// alphabet is crypt(3)'s base64, which has an order and a bit order of its own.
const alphabet = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// New hashes a password with a salt from rand.
func New(rand io.Reader, password string) (string, error) {
	salt := make([]byte, saltLength)
	if _, err := io.ReadFull(rand, salt); err != nil {
		return "", fmt.Errorf("salt of a password: %w", err)
	}
	for i := range salt {
		salt[i] = alphabet[salt[i]&63]
	}
	return text(password, string(salt), rounds), nil
}

// Verify reports whether hash, as New wrote it, is of this password.
func Verify(hash, password string) bool {
	salt, n, ok := parse(hash)
	return ok && subtle.ConstantTimeCompare([]byte(text(password, salt, n)), []byte(hash)) == 1
}

// Valid reports whether s is a text that New writes: nothing in it means anything
// to a shell, to chpasswd(8) or to a line of /etc/shadow.
func Valid(s string) bool {
	_, _, ok := parse(s)
	return ok
}

func parse(s string) (salt string, n int, ok bool) {
	rest, ok := strings.CutPrefix(s, prefix)
	parts := strings.Split(rest, "$")
	if !ok || len(parts) != 3 || len(parts[1]) != saltLength || len(parts[2]) != hashLength || strings.Trim(parts[1]+parts[2], alphabet) != "" {
		return "", 0, false
	}
	n, err := strconv.Atoi(parts[0])
	if err != nil || strconv.Itoa(n) != parts[0] || n < leastRounds || n > mostRounds {
		return "", 0, false
	}
	return parts[1], n, true
}

func text(password, salt string, n int) string {
	return prefix + strconv.Itoa(n) + "$" + salt + "$" + sum(password, salt, n)
}

// sum is the scheme's digest in its base64, step for step as its author describes
// it.
func sum(password, salt string, n int) string {
	key := []byte(password)
	between := sha512.Sum512([]byte(password + salt + password))
	first := []byte(password + salt)
	first = append(first, stretch(between[:], len(key))...)
	for bits := len(key); bits > 0; bits >>= 1 {
		if bits&1 == 1 {
			first = append(first, between[:]...)
		} else {
			first = append(first, key...)
		}
	}
	a := sha512.Sum512(first)
	ofKey := sha512.Sum512([]byte(strings.Repeat(password, len(key))))
	ofSalt := sha512.Sum512([]byte(strings.Repeat(salt, 16+int(a[0]))))
	p, s := stretch(ofKey[:], len(key)), stretch(ofSalt[:], len(salt))
	round := make([]byte, 0, 2*(len(p)+sha512.Size)+len(s))
	for i := range n {
		one, other := a[:], p
		if i&1 == 1 {
			one, other = p, a[:]
		}
		round = append(round[:0], one...)
		if i%3 != 0 {
			round = append(round, s...)
		}
		if i%7 != 0 {
			round = append(round, p...)
		}
		a = sha512.Sum512(append(round, other...))
	}
	return encode(a)
}

// stretch repeats b until it is n bytes.
func stretch(b []byte, n int) []byte {
	return slices.Repeat(b, n/len(b)+1)[:n]
}

// encode takes the bytes three at a time, from three places that go round.
func encode(a [sha512.Size]byte) string {
	out := make([]byte, 0, hashLength)
	put := func(v uint32, digits int) {
		for range digits {
			out = append(out, alphabet[v&63])
			v >>= 6
		}
	}
	const third = 21
	for i := range third {
		at := [3]int{i, i + third, i + 2*third}
		put(uint32(a[at[i%3]])<<16|uint32(a[at[(i+1)%3]])<<8|uint32(a[at[(i+2)%3]]), 4)
	}
	put(uint32(a[3*third]), 2)
	return string(out)
}
