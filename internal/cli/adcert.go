package cli

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"sallyport/internal/cli/client"
)

func flagCert() flag {
	return flag{name: "cert", usage: "Certificate in the place of a secret: PEM, or its base64 alone; @FILE reads a file"}
}

// certificateOf reads the public certificate of --cert. What comes beside it in the
// text, such as a key, is not sent.
func certificateOf(text string) (*x509.Certificate, error) {
	wrong := clientError{"argument --cert: it is no certificate in PEM or base64; @FILE reads a file"}
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type == "CERTIFICATE" {
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, wrong
			}
			return c, nil
		}
	}
	der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil {
		return nil, usageError(wrong)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, wrong
	}
	return c, nil
}

// keyCredential is Microsoft Graph's type, good for the asked time within the
// certificate's own.
func (a *app) keyCredential(c *x509.Certificate, in values) (map[string]any, error) {
	years, err := yearsOf(in)
	if err != nil {
		return nil, err
	}
	start := a.cfg.Now().UTC().Truncate(time.Second)
	end := start.AddDate(years, 0, 0)
	if c.NotBefore.After(start) {
		a.warn("Certificate is not valid until " + c.NotBefore.UTC().String() + ". Adjusting key credential start date to match.")
		start = c.NotBefore.UTC().Add(time.Second)
	}
	if c.NotAfter.Before(end) {
		a.warn("Certificate expires " + c.NotAfter.UTC().String() + ". Adjusting key credential end date to match.")
		end = c.NotAfter.UTC().Add(-time.Second)
	}
	key := map[string]any{"type": "AsymmetricX509Cert", "usage": "Verify", "key": base64.StdEncoding.EncodeToString(c.Raw), "startDateTime": start.Format(time.RFC3339), "endDateTime": end.Format(time.RFC3339)}
	if name := in.text("display-name"); name != "" {
		key["displayName"] = name
	}
	return key, nil
}

// setCertificate makes a certificate what proves a service principal, in the place of
// its other certificates, unless they are kept.
func (a *app) setCertificate(ctx context.Context, s *client.Session, sp map[string]any, in values) error {
	c, err := certificateOf(in.text("cert"))
	if err != nil {
		return err
	}
	key, err := a.keyCredential(c, in)
	if err != nil {
		return err
	}
	keys := []any{}
	if list, ok := sp["keyCredentials"].([]any); ok && in.on("append") {
		keys = list
	}
	if err := putCertificates(ctx, s, provenPrincipal(sp).path, append(keys, key)); err != nil {
		return fmt.Errorf("register the certificate: %w", err)
	}
	delete(sp, "keyCredentials") // they are gone, or kept
	return nil
}

func putCertificates(ctx context.Context, s *client.Session, path string, keys []any) error {
	change := graph(http.MethodPatch, path)
	change.Body = map[string]any{"keyCredentials": keys}
	return do(ctx, s, change, nil)
}

// proven is an application or a service principal as it was before: the secrets and
// certificates of either prove both.
type proven struct {
	path string
	was  map[string]any
}

func provenPrincipal(sp map[string]any) proven {
	return proven{"/servicePrincipals/" + url.PathEscape(text(sp, "id")), sp}
}

// endOthers ends the secrets and certificates that there were before, unless they are
// kept.
func (a *app) endOthers(ctx context.Context, s *client.Session, owners []proven, in values) error {
	if in.on("append") {
		return nil
	}
	for _, p := range owners {
		old, _ := p.was["passwordCredentials"].([]any)
		for _, o := range old {
			one, _ := o.(map[string]any)
			if text(one, "keyId") == "" {
				continue
			}
			c := graph(http.MethodPost, p.path+"/removePassword")
			c.Body = map[string]any{"keyId": text(one, "keyId")}
			if err := do(ctx, s, c, nil); err != nil {
				return err
			}
		}
		if keys, _ := p.was["keyCredentials"].([]any); len(keys) > 0 {
			if err := putCertificates(ctx, s, p.path, []any{}); err != nil {
				return err
			}
		}
	}
	return nil
}
