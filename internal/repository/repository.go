package repository

import (
	"cmp"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
)

// What stands in a machine's configuration, below the repositories' own address.
const (
	KeyPath = "key.asc" // the public key
	AptRoot = "deb"     // of apt's repository
	YumRoot = "rpm"     // of yum's
)

const maxPackages = 1000

// Config is what a Repository stands on.
type Config struct {
	// Folder holds the packages, *.deb and *.rpm; other files are passed over. It
	// and they may be changed by their owner alone, who is root or this process.
	Folder string
	// Signer is the deployment's repository key, RSA.
	Signer crypto.Signer
	// Name is what the key is called by, "corp.example".
	Name string
	Rand io.Reader
	Now  func() time.Time
}

// Repository hands out a folder's packages. It is safe for concurrent use.
type Repository struct {
	cfg Config
	key *pgpKey

	mu  sync.RWMutex
	now *view
}

// view is the repository at one time. It is not changed.
type view struct {
	marks   string // of the folder, when it was read
	signed  time.Time
	list    []entry
	indexes struct{ apt, yum map[string][]byte }
	texts   map[string]File // by path
}

// File is what stands at one path: Data, or the file at Path.
type File struct {
	Data     []byte
	Path     string
	Type     string
	Modified time.Time
}

// entry is one package.
type entry struct {
	file     string // its name in the folder
	size     int64
	modified time.Time
	sha256   string
	deb      *deb
	rpm      *rpmPackage
}

// Open reads the folder.
func Open(cfg Config) (*Repository, error) {
	key, err := newPGPKey(cfg.Signer, cfg.Rand, "Sallyport packages of "+cfg.Name)
	if err != nil {
		return nil, err
	}
	r := &Repository{cfg: cfg, key: key}
	return r, r.Look()
}

// Fingerprint names the signing key as gpg does.
func (r *Repository) Fingerprint() string { return fingerprint(r.key) }

func fingerprint(k *pgpKey) string { return strings.ToUpper(hex.EncodeToString(k.fingerprint())) }

// PublicKey returns a repository key as its users are given it, and its
// fingerprint.
func PublicKey(signer crypto.Signer, rand io.Reader, name string) (armor []byte, print string, err error) {
	key, err := newPGPKey(signer, rand, "Sallyport packages of "+name)
	if err != nil {
		return nil, "", err
	}
	armor, err = key.public()
	return armor, fingerprint(key), err
}

// Versions lists the versions that machines can be upgraded to.
func (r *Repository) Versions() []string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.SortedFunc(maps.Keys(releases(r.now.list)), protocol.CompareVersions)
}

// Len is how many packages there are.
func (r *Repository) Len() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.now.list)
}

// File returns what stands at a path below the repository's own address.
func (r *Repository) File(path string) (File, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	f, ok := r.now.texts[path]
	return f, ok
}

// Look reads the folder again if it has changed, and signs anew when it is time.
// On an error what was there before stays.
func (r *Repository) Look() error {
	at := r.cfg.Now().UTC().Truncate(time.Second)
	r.mu.RLock()
	before := r.now
	r.mu.RUnlock()
	marks, names, err := r.survey()
	if err != nil {
		return err
	}
	if before != nil && before.marks == marks && at.Sub(before.signed) < signEvery {
		return nil
	}
	next := &view{marks: marks, signed: at}
	if before != nil && before.marks == marks {
		next.list = before.list
	} else if next.list, err = r.read(names); err != nil {
		return err
	}
	if before != nil && !next.signed.After(before.signed) {
		next.signed = before.signed.Add(time.Second) // apt takes nothing older than it holds
	}
	if err := r.publish(next, before); err != nil {
		return err
	}
	r.mu.Lock()
	r.now = next
	r.mu.Unlock()
	return nil
}

// fileName is the closed alphabet of names that are handed out.
var fileName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9+._~^-]{0,200}\.(deb|rpm)$`) })

// survey lists the packages with what tells one content from another.
func (r *Repository) survey() (marks string, names []string, err error) {
	if err := ownAlone(r.cfg.Folder, os.ModeDir); err != nil {
		return "", nil, err
	}
	list, err := os.ReadDir(r.cfg.Folder)
	if err != nil {
		return "", nil, unusable(err, "the folder of packages %s cannot be read", r.cfg.Folder)
	}
	var b strings.Builder
	for _, e := range list {
		if !fileName().MatchString(e.Name()) {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return "", nil, unusable(err, "the package %s cannot be read", filepath.Join(r.cfg.Folder, e.Name()))
		}
		names = append(names, e.Name())
		fmt.Fprintf(&b, "%s %d %d\n", e.Name(), info.Size(), info.ModTime().UnixNano())
	}
	if len(names) > maxPackages {
		return "", nil, unusable(nil, "the folder of packages %s has %d packages; %d are the most", r.cfg.Folder, len(names), maxPackages)
	}
	return b.String(), names, nil
}

func unusable(err error, format string, args ...any) *fault.Error {
	return fault.Wrap(err, fault.Invalid, "Packages", format, args...).WithTarget("packages")
}

// ownAlone refuses what others could change: whoever writes packages here is
// root on every machine that installs them.
func ownAlone(path string, kind os.FileMode) error {
	info, err := os.Stat(path)
	if err != nil {
		return unusable(err, "the packages at %s cannot be read", path)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || info.Mode().Type() != kind {
		return unusable(nil, "%s is not what it should be, a folder with packages in it", path)
	}
	if info.Mode().Perm()&0o022 != 0 || st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return unusable(nil, "%s can be changed by others than root and the server's user, who would be root on every machine", path).
			WithRemedy("Run: chown root %[1]s && chmod go-w %[1]s", path)
	}
	return nil
}

func (r *Repository) read(names []string) ([]entry, error) {
	var list []entry
	seen := map[string]string{}
	for _, name := range names {
		path := filepath.Join(r.cfg.Folder, name)
		if err := ownAlone(path, 0); err != nil {
			return nil, err
		}
		e, err := readPackage(path)
		if err != nil {
			return nil, unusable(err, "%s is no package that can be handed out: %v", path, err)
		}
		id := e.id()
		if other, twice := seen[id]; twice {
			return nil, unusable(nil, "%s and %s are both %s", other, name, id)
		}
		seen[id] = name
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b entry) int { return cmp.Compare(a.file, b.file) })
	return list, nil
}

// id is what a package manager tells packages apart by.
func (e entry) id() string {
	if e.deb != nil {
		return "deb " + e.deb.name + " " + e.deb.version + " " + e.deb.architecture
	}
	h := e.rpm.header
	return fmt.Sprintf("rpm %s %d:%s-%s %s", h.text(tagName), h.number(tagEpoch), h.text(tagVersion), h.text(tagRelease), h.text(tagArch))
}

func readPackage(path string) (e entry, err error) {
	f, err := os.Open(path)
	if err != nil {
		return e, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return e, err
	}
	h := sha256.New()
	both := io.TeeReader(f, h)
	e = entry{file: filepath.Base(path), modified: info.ModTime().UTC().Truncate(time.Second)}
	if strings.HasSuffix(path, ".deb") {
		d, err := readDeb(both)
		if err != nil {
			return e, err
		}
		e.deb = &d
	} else {
		p, err := readRPM(both)
		if err != nil {
			return e, err
		}
		e.rpm = &p
	}
	if _, err = io.Copy(io.Discard, both); err != nil {
		return e, err
	}
	if e.size, err = f.Seek(0, io.SeekCurrent); err != nil {
		return e, err
	}
	e.sha256 = hex.EncodeToString(h.Sum(nil))
	return e, nil
}

// publish signs the indexes of a view and lays out its paths. Indexes of the view
// before stay reachable by their hashes: who began to read them ends in peace.
func (r *Repository) publish(v, before *view) error {
	var debs, rpms []entry
	for _, e := range v.list {
		if e.deb != nil {
			debs = append(debs, e)
		} else {
			rpms = append(rpms, e)
		}
	}
	v.texts = map[string]File{}
	if before != nil {
		for path, f := range before.texts {
			if strings.Contains(path, "/by-hash/") || strings.HasPrefix(path, YumRoot+"/repodata/") {
				if v.signed.Sub(f.Modified) < validFor {
					v.texts[path] = f
				}
			}
		}
	}
	var err error
	if v.indexes.apt, err = aptIndexes(debs); err != nil {
		return err
	}
	if v.indexes.yum, err = yumIndexes(rpms); err != nil {
		return unusable(err, "%v", err)
	}
	for _, e := range v.list {
		folder := AptRoot + "/pool/"
		kind := "application/vnd.debian.binary-package"
		if e.rpm != nil {
			folder, kind = YumRoot+"/Packages/", "application/x-rpm"
		}
		v.texts[folder+e.file] = File{Path: filepath.Join(r.cfg.Folder, e.file), Type: kind, Modified: e.modified}
	}
	return r.sign(v)
}

// sign adds the indexes and their signatures to the paths.
func (r *Repository) sign(v *view) error {
	put := func(path, kind string, data []byte) {
		v.texts[path] = File{Data: data, Type: kind, Modified: v.signed}
	}
	const text, packed, armor = "text/plain; charset=utf-8", "application/gzip", "application/pgp-signature"
	dists := AptRoot + "/dists/" + aptSuite + "/"
	for _, path := range slices.Sorted(maps.Keys(v.indexes.apt)) {
		kind := text
		if strings.HasSuffix(path, ".gz") {
			kind = packed
		}
		put(dists+path, kind, v.indexes.apt[path])
		put(dists+byHash(path, v.indexes.apt[path]), kind, v.indexes.apt[path])
	}
	file := release(v.indexes.apt, v.signed)
	inline, err := r.key.clear(file, v.signed)
	if err != nil {
		return err
	}
	beside, err := r.key.detached(file, v.signed)
	if err != nil {
		return err
	}
	put(dists+"Release", text, file)
	put(dists+"InRelease", text, inline)
	put(dists+"Release.gpg", armor, beside)
	index, files, err := repomd(v.indexes.yum, v.signed)
	if err != nil {
		return err
	}
	for path, z := range files {
		put(YumRoot+"/"+path, packed, z)
	}
	if beside, err = r.key.detached(index, v.signed); err != nil {
		return err
	}
	put(YumRoot+"/repodata/repomd.xml", "application/xml", index)
	put(YumRoot+"/repodata/repomd.xml.asc", armor, beside)
	public, err := r.key.public()
	if err != nil {
		return err
	}
	put(KeyPath, "application/pgp-keys", public)
	put(YumRoot+"/repodata/repomd.xml.key", "application/pgp-keys", public)
	for version, document := range releases(v.list) {
		signed, err := r.vouch(document)
		if err != nil {
			return err
		}
		put(protocol.ReleasePath(version), "application/json", signed)
	}
	return nil
}
