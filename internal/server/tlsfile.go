package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"sallyport/internal/fault"
)

const (
	// lookEvery is how often the files are looked at for a change.
	lookEvery = 10 * time.Second
	maxPEM    = 1 << 20
)

type tlsFilesConfig struct {
	Certificate, Key string
	Host             string // that the certificate has to name; "" for any
	Now              func() time.Time
	Log              *slog.Logger
}

// tlsFiles is a certificate and its key in two files that somebody else
// renews. A pair that does not belong together, names another host, has ended,
// or whose key others may read is not taken; the one before stays.
type tlsFiles struct {
	cfg tlsFilesConfig

	mu    sync.Mutex
	cert  *tls.Certificate
	seen  [2]stamp // of the files at the last look
	wrong string
}

// stamp tells one content of a file from another.
type stamp struct {
	size  int64
	mtime time.Time
	inode os.FileInfo
}

func (s stamp) same(other stamp) bool {
	return s.inode != nil && other.inode != nil && os.SameFile(s.inode, other.inode) && s.size == other.size && s.mtime.Equal(other.mtime)
}

func openTLSFiles(cfg tlsFilesConfig) (*tlsFiles, error) {
	f := &tlsFiles{cfg: cfg}
	return f, f.load()
}

// load reads and checks the pair.
func (f *tlsFiles) load() error {
	certPEM, certStamp, err := f.read(f.cfg.Certificate, 0o022)
	if err != nil {
		return err
	}
	keyPEM, keyStamp, err := f.read(f.cfg.Key, 0o027)
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.seen = [2]stamp{certStamp, keyStamp}
	f.mu.Unlock()
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return fault.Wrap(err, fault.Invalid, "TLSCertificate", "%s and %s are no certificate with its key: %v", f.cfg.Certificate, f.cfg.Key, err).
			WithRemedy("Both are PEM; the certificate file holds the server's certificate first and then its chain.")
	}
	if err := f.check(cert.Leaf); err != nil {
		return err
	}
	f.mu.Lock()
	f.cert = &cert
	f.mu.Unlock()
	return nil
}

func (f *tlsFiles) check(leaf *x509.Certificate) error {
	if err := leaf.VerifyHostname(f.cfg.Host); err != nil && f.cfg.Host != "" {
		return fault.Wrap(err, fault.Invalid, "TLSCertificate", "the certificate in %s does not name %s, the host of the server's URL: %v", f.cfg.Certificate, f.cfg.Host, err)
	}
	if now := f.cfg.Now(); now.Before(leaf.NotBefore) || !now.Before(leaf.NotAfter) {
		return fault.New(fault.Invalid, "TLSCertificate", "the certificate in %s is valid from %s to %s, which is not now", f.cfg.Certificate, leaf.NotBefore.UTC().Format(time.RFC3339), leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	return nil
}

// read reads a file that has none of the given permission bits.
func (f *tlsFiles) read(path string, loose os.FileMode) (text []byte, s stamp, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, s, fault.Wrap(err, fault.Invalid, "TLSCertificate", "the TLS file %s cannot be read: %s", path, system(err))
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, s, fault.Wrap(err, fault.Invalid, "TLSCertificate", "the TLS file %s is no regular file", path)
	}
	if info.Mode().Perm()&loose != 0 {
		return nil, s, fault.New(fault.Forbidden, "TLSCertificate", "the TLS file %s can be read or changed by others", path).WithRemedy("Run: chmod %o %s", 0o777&^loose&0o640, path)
	}
	text, err = io.ReadAll(io.LimitReader(file, maxPEM))
	if err != nil {
		return nil, s, fault.Wrap(err, fault.Invalid, "TLSCertificate", "the TLS file %s cannot be read: %s", path, system(err))
	}
	return text, stamp{size: info.Size(), mtime: info.ModTime(), inode: info}, nil
}

// changed says whether either file is another one than at the last look.
func (f *tlsFiles) changed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, path := range []string{f.cfg.Certificate, f.cfg.Key} {
		info, err := os.Stat(path)
		if err != nil {
			return true // load says why
		}
		if !f.seen[i].same(stamp{size: info.Size(), mtime: info.ModTime(), inode: info}) {
			return true
		}
	}
	return false
}

// look takes a changed pair. A renewal may replace one file before the other:
// then the pair is broken at one look and whole at the next.
func (f *tlsFiles) look(always bool) {
	if !always && !f.changed() {
		return
	}
	err := f.load()
	f.mu.Lock()
	before := f.wrong
	f.wrong = ""
	if err != nil {
		f.wrong = "the new TLS certificate is not taken"
	}
	ends := f.cert.Leaf.NotAfter
	f.mu.Unlock()
	switch {
	case err == nil:
		f.cfg.Log.Info("tls certificate loaded", "file", f.cfg.Certificate, "ends", ends)
	case before == "" || always:
		f.cfg.Log.Error("tls certificate not taken, the one before stays", "error", err.Error(), "ends", ends)
	}
}

func (f *tlsFiles) certificate(hello *tls.ClientHelloInfo) *tls.Certificate {
	f.mu.Lock()
	defer f.mu.Unlock()
	name := hello.ServerName
	if name == "" {
		name = f.cfg.Host // an address in the URL sends no name
	}
	if f.cert.Leaf.VerifyHostname(name) != nil {
		return nil
	}
	return f.cert
}

func (f *tlsFiles) state() (time.Time, string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cert.Leaf.NotAfter, f.wrong
}

func (f *tlsFiles) run(ctx context.Context, reload <-chan struct{}) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			f.look(false)
		case <-reload:
			f.look(true)
		}
	}
}
