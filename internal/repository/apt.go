package repository

import (
	"crypto/md5"  //nolint:gosec // apt of older systems wants it listed; SHA256 is what decides
	"crypto/sha1" //nolint:gosec // the same
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	aptSuite     = "stable"
	aptComponent = "main"
	// validFor bounds how long somebody in between can keep machines from newer
	// indexes with an old one; it is signed anew long before.
	validFor  = 7 * 24 * time.Hour
	signEvery = 12 * time.Hour
)

func aptArchitectures() []string { return []string{"amd64", "arm64"} }

// aptIndexes are the Packages files, by their path below dists/stable.
func aptIndexes(list []entry) (map[string][]byte, error) {
	out := map[string][]byte{}
	for _, arch := range aptArchitectures() {
		var b strings.Builder
		for _, e := range list {
			if e.deb.architecture != arch && e.deb.architecture != "all" {
				continue
			}
			fmt.Fprintf(&b, "%sFilename: pool/%s\nSize: %d\nSHA256: %s\n\n", e.deb.control, e.file, e.size, e.sha256)
		}
		path := aptComponent + "/binary-" + arch + "/Packages"
		z, err := zipped([]byte(b.String()))
		if err != nil {
			return nil, err
		}
		out[path], out[path+".gz"] = []byte(b.String()), z
	}
	return out, nil
}

// release is the file that is signed: it names every index with its hashes.
func release(indexes map[string][]byte, at time.Time) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "Origin: Sallyport\nLabel: Sallyport\nSuite: %s\nCodename: %s\nDate: %s\nValid-Until: %s\nAcquire-By-Hash: yes\nArchitectures: %s\nComponents: %s\nDescription: Packages that this Sallyport server hands out\n",
		aptSuite, aptSuite, aptTime(at), aptTime(at.Add(validFor)), strings.Join(aptArchitectures(), " "), aptComponent)
	paths := make([]string, 0, len(indexes))
	for path := range indexes {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	for _, kind := range []struct {
		name string
		sum  func([]byte) string
	}{{"MD5Sum", md5Sum}, {"SHA1", sha1Sum}, {"SHA256", digest}} {
		b.WriteString(kind.name + ":\n")
		for _, path := range paths {
			fmt.Fprintf(&b, " %s %d %s\n", kind.sum(indexes[path]), len(indexes[path]), path)
		}
	}
	return []byte(b.String())
}

// aptTime is RFC 2822 in UTC, as apt reads it.
func aptTime(t time.Time) string { return t.UTC().Format("Mon, 02 Jan 2006 15:04:05 UTC") }

func md5Sum(b []byte) string {
	sum := md5.Sum(b) //nolint:gosec // see the import
	return hex.EncodeToString(sum[:])
}

func sha1Sum(b []byte) string {
	sum := sha1.Sum(b) //nolint:gosec // see the import
	return hex.EncodeToString(sum[:])
}

// byHash is where apt finds an index although a newer one has come meanwhile.
func byHash(path string, content []byte) string {
	folder := path[:strings.LastIndexByte(path, '/')]
	return folder + "/by-hash/SHA256/" + digest(content)
}
