package store

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"sallyport/internal/fault"
)

// refused is what a database that answers has against this server, or this
// server against it; nil when err is neither. It does not pass by waiting.
func refused(err error, place string) error {
	var p *pgconn.PgError
	if errors.As(err, &p) {
		switch {
		case strings.HasPrefix(p.Code, "28"): // PostgreSQL's manual, appendix A: invalid authorization
			return fault.Wrap(err, fault.Forbidden, "DatabaseRefuses", "%s refuses this server: %s", place, p.Message).WithTarget("database").
				WithRemedy("Check the role in --database, the password in --database-password-file, and pg_hba.conf there.")
		case p.Code == "3D000":
			return fault.Wrap(err, fault.NotFound, "DatabaseNotFound", "%s does not exist", place).WithTarget("database").
				WithRemedy("Make it with: createdb --owner ROLE --encoding UTF8 --template template0 NAME")
		}
	}
	if unproven(err) {
		return fault.Wrap(err, fault.Forbidden, "DatabaseUnproven", "%s does not prove itself: its certificate is not one of the authority that is asked for, or not for this name and time", place).WithTarget("database").
			WithRemedy("Name the authority of its certificate with sslrootcert=FILE in the URL, and the host as the certificate does.")
	}
	return nil
}

// unproven: verify-full fails in crypto/tls, verify-ca in crypto/x509.
func unproven(err error) bool {
	var full *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	return errors.As(err, &full) || errors.As(err, &authority) || errors.As(err, &invalid)
}
