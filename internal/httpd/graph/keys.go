package graph

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"strings"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/credential"
	"sallyport/internal/httpd"
)

// key is one entry of keyCredentials, of Microsoft Graph's type keyCredential. An
// entry without a key stands for one that is there already, and says of it what is so.
type key struct {
	ID, DisplayName, Thumbprint *string
	DER                         []byte
	Life                        credential.Life
}

// keys takes keyCredentials, nil for none named.
func (b *body) keys() *[]key {
	var list []map[string]json.RawMessage
	b.present("keyCredentials")
	if !b.take("keyCredentials", &list) || b.err != nil {
		return nil
	}
	keys := make([]key, 0, len(list))
	for _, fields := range list {
		o := &body{fields: fields, resource: "keyCredential"}
		k := key{ID: o.text("keyId"), DisplayName: o.text("displayName"), Thumbprint: o.text("customKeyIdentifier"), Life: o.life()}
		kind, usage, text := o.text("type"), o.text("usage"), value(o.text("key"))
		if kind != nil && *kind != "AsymmetricX509Cert" || usage != nil && *usage != "Verify" {
			o.fail(badBody("keyCredentials are of type AsymmetricX509Cert and usage Verify.").WithTarget("keyCredentials"))
		}
		if text != "" {
			o.fail(k.read(text))
		}
		b.within(o)
		keys = append(keys, k)
	}
	return &keys
}

// read checks the certificate of an entry.
func (k *key) read(text string) (err error) {
	if k.DER, err = decodeKey(text); err != nil {
		return err
	}
	c, err := credential.ParseCertificate(k.DER)
	if err != nil {
		return err
	}
	start, end := k.Life.Start, k.Life.End
	if start.IsZero() {
		start = c.Start
	}
	if end.IsZero() {
		end = c.End
	}
	if start.Before(c.Start) || end.After(c.End) || !start.Before(end) {
		return badBody("the certificate is good from %s to %s, and startDateTime to endDateTime is not within that.", c.Start.Format(time.RFC3339), c.End.Format(time.RFC3339)).WithTarget("keyCredentials")
	}
	if value(k.Thumbprint) != "" && !thumbprint(*k.Thumbprint, c.SHA1) {
		return badBody("customKeyIdentifier is the certificate's thumbprint.").WithTarget("keyCredentials")
	}
	return nil
}

// life takes the time for which a credential is good.
func (b *body) life() credential.Life {
	var start, end *time.Time
	b.take("startDateTime", &start)
	b.take("endDateTime", &end)
	var l credential.Life
	if start != nil {
		l.Start = start.UTC()
	}
	if end != nil {
		l.End = end.UTC()
	}
	return l
}

// same reports whether an entry says nothing of a certificate that is not so.
func (k key) same(c credential.Certificate) bool {
	return (k.DisplayName == nil || *k.DisplayName == c.DisplayName) && (value(k.Thumbprint) == "" || thumbprint(*k.Thumbprint, c.SHA1)) &&
		(k.Life.Start.IsZero() || k.Life.Start.Equal(c.Start.Truncate(time.Second))) && (k.Life.End.IsZero() || k.Life.End.Equal(c.End.Truncate(time.Second)))
}

// thumbprint reports whether a customKeyIdentifier is a certificate's SHA-1, as it is
// shown or in the base64 of Edm.Binary.
func thumbprint(given, is string) bool {
	raw, err := base64.StdEncoding.DecodeString(given)
	return strings.EqualFold(given, is) || err == nil && hex.EncodeToString(raw) == is
}

// changed is what makes the certificates of an application or service principal, which
// set names, the given ones: those that are there and not named go, those with a key
// come. All that can be refused is refused here, before anything is changed.
func (h *Handler) changed(c *httpd.Call, set, ownerID string, keys *[]key) (gone []string, added []credential.NewCertificate, err error) {
	if keys == nil {
		return nil, nil, nil
	}
	if c.By.Type == audit.User {
		// The row's action is another one, and a client may have that alone.
		if err := h.cfg.Directory.MayAsk(c.By, "microsoft.directory/"+set+"/credentials/update"); err != nil {
			return nil, nil, err
		}
	}
	_, present, err := h.cfg.Credentials.Credentials(c.R.Context(), ownerID)
	if err != nil {
		return nil, nil, err
	}
	named := map[string]key{}
	for _, k := range *keys {
		if k.DER != nil {
			added = append(added, credential.NewCertificate{DisplayName: value(k.DisplayName), DER: k.DER, Life: k.Life})
		} else {
			named[strings.ToLower(value(k.ID))] = k
		}
	}
	for _, p := range present {
		k, stays := named[p.ID]
		if !stays {
			gone = append(gone, p.ID)
		} else if !k.same(p) {
			return nil, nil, badBody("a certificate that is there is not changed: keyCredentials says something else of '%s'.", p.ID).WithTarget("keyCredentials")
		}
		delete(named, p.ID)
	}
	if len(named) > 0 {
		return nil, nil, badBody("keyCredentials names a keyId that is not there, without its key.").WithTarget("keyCredentials")
	}
	return gone, added, credential.CheckCertificates(added, c.By.At)
}

// decodeKey reads base64 of DER, or of PEM as some clients send it.
func decodeKey(text string) ([]byte, error) {
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, badBody("the key is not base64.").WithTarget("keyCredentials")
	}
	if bytes.HasPrefix(raw, []byte("-----BEGIN CERTIFICATE-----")) {
		if block, _ := pem.Decode(raw); block != nil {
			return block.Bytes, nil
		}
	}
	return raw, nil
}
