package sshca

import (
	"encoding/binary"
	"errors"
)

// reader takes SSH wire values (RFC 4251 section 5) from the front of a buffer.
// It is the linter's own and knows nothing of the library that builds.
type reader struct{ rest []byte }

var errShort = errors.New("the bytes end inside a value")

func (r *reader) text() ([]byte, error) {
	if len(r.rest) < 4 {
		return nil, errShort
	}
	n := uint64(binary.BigEndian.Uint32(r.rest))
	if n > uint64(len(r.rest)-4) {
		return nil, errShort
	}
	v := r.rest[4 : 4+n]
	r.rest = r.rest[4+n:]
	return v, nil
}

func (r *reader) number32() (uint32, error) {
	if len(r.rest) < 4 {
		return 0, errShort
	}
	v := binary.BigEndian.Uint32(r.rest)
	r.rest = r.rest[4:]
	return v, nil
}

func (r *reader) number64() (uint64, error) {
	if len(r.rest) < 8 {
		return 0, errShort
	}
	v := binary.BigEndian.Uint64(r.rest)
	r.rest = r.rest[8:]
	return v, nil
}

// texts reads a packed list of strings.
func texts(packed []byte) ([]string, error) {
	r := reader{packed}
	var out []string
	for len(r.rest) > 0 {
		v, err := r.text()
		if err != nil {
			return nil, err
		}
		out = append(out, string(v))
	}
	return out, nil
}

// field is one critical option or extension.
type field struct{ name, value string }

// fields reads packed options. Names must rise strictly, as PROTOCOL.certkeys
// demands, so none repeats. A value is empty or one packed string.
func fields(packed []byte) ([]field, error) {
	r := reader{packed}
	var out []field
	for len(r.rest) > 0 {
		name, err := r.text()
		if err != nil {
			return nil, err
		}
		data, err := r.text()
		if err != nil {
			return nil, err
		}
		f := field{name: string(name)}
		if len(out) > 0 && out[len(out)-1].name >= f.name {
			return nil, errors.New("options are not in rising order")
		}
		if len(data) > 0 {
			inner := reader{data}
			v, err := inner.text()
			if err != nil {
				return nil, err
			}
			if len(inner.rest) != 0 || len(v) == 0 {
				return nil, errors.New("an option's value is not one packed text")
			}
			f.value = string(v)
		}
		out = append(out, f)
	}
	return out, nil
}

// plainCertificate is a certificate without its signature, as bytes mean it.
type plainCertificate struct {
	algorithm   string
	nonce       []byte
	key         []byte // the subject's key, as a plain public key blob
	serial      uint64
	kind        uint32
	keyID       string
	principals  []string
	after       uint64
	before      uint64
	options     []field
	extensions  []field
	reserved    []byte
	authority   []byte
	authorityOf string
}

// parsePlain reads the to-be-signed bytes of PROTOCOL.certkeys.
func parsePlain(tbs []byte) (plainCertificate, error) {
	r := &reader{tbs}
	var c plainCertificate
	algorithm, err := r.text()
	if err != nil {
		return c, err
	}
	c.algorithm = string(algorithm)
	if c.nonce, err = r.text(); err != nil {
		return c, err
	}
	if c.key, err = subjectKey(c.algorithm, r); err != nil {
		return c, err
	}
	if err := c.parseBody(r); err != nil {
		return c, err
	}
	if len(r.rest) != 0 {
		return c, errors.New("bytes follow the certificate")
	}
	a := reader{c.authority}
	kind, err := a.text()
	if err != nil {
		return c, err
	}
	c.authorityOf = string(kind)
	return c, nil
}

func (c *plainCertificate) parseBody(r *reader) error {
	var err error
	if c.serial, err = r.number64(); err != nil {
		return err
	}
	if c.kind, err = r.number32(); err != nil {
		return err
	}
	var id, principals, options, extensions []byte
	for _, into := range []*[]byte{&id, &principals} {
		if *into, err = r.text(); err != nil {
			return err
		}
	}
	if c.after, err = r.number64(); err != nil {
		return err
	}
	if c.before, err = r.number64(); err != nil {
		return err
	}
	for _, into := range []*[]byte{&options, &extensions, &c.reserved, &c.authority} {
		if *into, err = r.text(); err != nil {
			return err
		}
	}
	c.keyID = string(id)
	if c.principals, err = texts(principals); err != nil {
		return err
	}
	if c.options, err = fields(options); err != nil {
		return err
	}
	c.extensions, err = fields(extensions)
	return err
}

// subjectKey reads the key's fields, whose number depends on the algorithm, and
// returns them as a plain public key blob.
func subjectKey(algorithm string, r *reader) ([]byte, error) {
	plain, count := plainAlgorithm(algorithm)
	if count == 0 {
		return nil, errors.New("unknown certificate algorithm")
	}
	before := r.rest
	for range count {
		if _, err := r.text(); err != nil {
			return nil, err
		}
	}
	blob := binary.BigEndian.AppendUint32(nil, uint32(len(plain)))
	blob = append(blob, plain...)
	return append(blob, before[:len(before)-len(r.rest)]...), nil
}

// plainAlgorithm maps a certificate algorithm to the key's own and to the number
// of fields that its key has. No key type that is missing here can be certified.
func plainAlgorithm(algorithm string) (string, int) {
	switch algorithm {
	case "ssh-ed25519-cert-v01@openssh.com":
		return "ssh-ed25519", 1
	case "ssh-rsa-cert-v01@openssh.com":
		return "ssh-rsa", 2
	case "ecdsa-sha2-nistp256-cert-v01@openssh.com":
		return "ecdsa-sha2-nistp256", 2
	case "ecdsa-sha2-nistp384-cert-v01@openssh.com":
		return "ecdsa-sha2-nistp384", 2
	case "ecdsa-sha2-nistp521-cert-v01@openssh.com":
		return "ecdsa-sha2-nistp521", 2
	case "sk-ssh-ed25519-cert-v01@openssh.com":
		return "sk-ssh-ed25519@openssh.com", 2
	case "sk-ecdsa-sha2-nistp256-cert-v01@openssh.com":
		return "sk-ecdsa-sha2-nistp256@openssh.com", 3
	}
	return "", 0
}
