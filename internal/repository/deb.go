package repository

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

const (
	maxControl = 256 << 10 // of a package's description, unpacked
	maxMember  = 4 << 20   // of the part that holds it, packed
	arMagic    = "!<arch>\n"
	arHeader   = 60
)

// deb is one Debian package.
type deb struct {
	name, version, architecture string
	control                     string // as it stands in the package, without an empty line
}

// fieldName is the start of a line of a control file that begins a field.
var fieldName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]*:`)

// Closed alphabets of Debian Policy 5.6.1 and 5.6.12.
var (
	debName    = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]{0,99}$`) })
	debVersion = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9][A-Za-z0-9.+~:-]{0,99}$`) })
)

// readDeb reads what a package says of itself: deb(5), format 2.0, control part
// plain or with gzip.
func readDeb(r io.Reader) (deb, error) {
	head := make([]byte, len(arMagic))
	if _, err := io.ReadFull(r, head); err != nil || string(head) != arMagic {
		return deb{}, errors.New("it is no ar archive")
	}
	format, err := arMember(r, "debian-binary", 64)
	if err != nil {
		return deb{}, err
	}
	if !bytes.HasPrefix(format, []byte("2.")) {
		return deb{}, errors.New("it is not of the format 2.0")
	}
	packed, err := arMember(r, "control.tar", maxMember)
	if err != nil {
		return deb{}, err
	}
	text, err := controlFile(packed)
	if err != nil {
		return deb{}, err
	}
	return parseControl(text)
}

// arMember reads the next member, whose name has to begin as given (ar(5)).
func arMember(r io.Reader, name string, limit int64) ([]byte, error) {
	head := make([]byte, arHeader)
	if _, err := io.ReadFull(r, head); err != nil || string(head[58:]) != "`\n" {
		return nil, fmt.Errorf("its member %s is missing", name)
	}
	if !strings.HasPrefix(string(head[:16]), name) {
		return nil, fmt.Errorf("its member %s is not where it belongs", name)
	}
	size, err := strconv.ParseInt(strings.TrimRight(string(head[48:58]), " "), 10, 64)
	if err != nil || size < 0 || size > limit {
		return nil, fmt.Errorf("its member %s has no sensible size", name)
	}
	body := make([]byte, size+size%2)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, fmt.Errorf("its member %s is cut off", name)
	}
	return body[:size], nil
}

// controlFile finds ./control in the control part.
func controlFile(packed []byte) (string, error) {
	var unpacked io.Reader = bytes.NewReader(packed)
	if bytes.HasPrefix(packed, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(unpacked)
		if err != nil {
			return "", fmt.Errorf("its control part: %w", err)
		}
		unpacked = z
	}
	files := tar.NewReader(io.LimitReader(unpacked, maxMember))
	for {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			return "", errors.New("it has no control file")
		}
		if err != nil {
			return "", fmt.Errorf("its control part cannot be read (plain or gzip): %w", err)
		}
		if strings.TrimPrefix(h.Name, "./") != "control" || h.Typeflag != tar.TypeReg {
			continue
		}
		text, err := io.ReadAll(io.LimitReader(files, maxControl+1))
		if err != nil || len(text) > maxControl {
			return "", errors.New("its control file is too long or cut off")
		}
		return string(text), nil
	}
}

// parseControl checks a control file: one paragraph, every line a field or the
// continuation of one, and no field that an index adds.
func parseControl(text string) (deb, error) {
	d := deb{control: strings.Trim(text, "\n") + "\n"}
	seen := map[string]string{}
	for i, line := range strings.Split(strings.TrimSuffix(d.control, "\n"), "\n") {
		if strings.ContainsAny(line, "\r\x00") || strings.TrimSpace(line) == "" {
			return deb{}, errors.New("its control file is not one paragraph")
		}
		if i > 0 && (line[0] == ' ' || line[0] == '\t') {
			continue
		}
		if !fieldName.MatchString(line) {
			return deb{}, fmt.Errorf("its control file has the line %q", line)
		}
		name, value, _ := strings.Cut(line, ":")
		name = strings.ToLower(name)
		if _, twice := seen[name]; twice {
			return deb{}, fmt.Errorf("its control file has %s twice", name)
		}
		seen[name] = strings.TrimSpace(value)
	}
	for _, ours := range []string{"filename", "size", "md5sum", "sha1", "sha256", "sha512"} {
		if _, there := seen[ours]; there {
			return deb{}, fmt.Errorf("its control file has the field %s, which is the index's", ours)
		}
	}
	d.name, d.version, d.architecture = seen["package"], seen["version"], seen["architecture"]
	if !debName().MatchString(d.name) || !debVersion().MatchString(d.version) {
		return deb{}, errors.New("its control file names no package and version")
	}
	switch d.architecture {
	case "amd64", "arm64", "all":
		return d, nil
	}
	return deb{}, fmt.Errorf("it is for the architecture %q; known are amd64, arm64 and all", d.architecture)
}
