package repository

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"strconv"
	"strings"
	"time"
)

const xmlHead = `<?xml version="1.0" encoding="UTF-8"?>` + "\n"

// Bits of a relation's flags (rpmds.h).
const (
	senseLess    = 1 << 1
	senseGreater = 1 << 2
	senseEqual   = 1 << 3
	sensePrereq  = 1 << 6
)

// yumIndexes are the three files that repomd.xml names, by kind.
func yumIndexes(list []entry) (map[string][]byte, error) {
	var primary, files, other strings.Builder
	fmt.Fprintf(&primary, xmlHead+`<metadata xmlns="http://linux.duke.edu/metadata/common" xmlns:rpm="http://linux.duke.edu/metadata/rpm" packages="%d">`+"\n", len(list))
	fmt.Fprintf(&files, xmlHead+`<filelists xmlns="http://linux.duke.edu/metadata/filelists" packages="%d">`+"\n", len(list))
	fmt.Fprintf(&other, xmlHead+`<otherdata xmlns="http://linux.duke.edu/metadata/other" packages="%d">`+"\n", len(list))
	for _, e := range list {
		all, err := e.rpm.header.files()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.file, err)
		}
		if err := e.primary(&primary, all); err != nil {
			return nil, fmt.Errorf("%s: %w", e.file, err)
		}
		e.filelist(&files, all)
		fmt.Fprintf(&other, "<package pkgid=%q name=%q arch=%q>%s</package>\n", e.sha256, e.rpm.header.text(tagName), e.rpm.header.text(tagArch), e.evr())
	}
	primary.WriteString("</metadata>\n")
	files.WriteString("</filelists>\n")
	other.WriteString("</otherdata>\n")
	return map[string][]byte{"primary": []byte(primary.String()), "filelists": []byte(files.String()), "other": []byte(other.String())}, nil
}

func escaped(s string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(s)) // a buffer takes everything
	return b.String()
}

// evr is <version/>: name, version and release are of closed alphabets.
func (e entry) evr() string {
	h := e.rpm.header
	return fmt.Sprintf(`<version epoch="%d" ver="%s" rel="%s"/>`, h.number(tagEpoch), h.text(tagVersion), h.text(tagRelease))
}

func (e entry) primary(b *strings.Builder, all []rpmFile) error {
	h := e.rpm.header
	fmt.Fprintf(b, `<package type="rpm"><name>%s</name><arch>%s</arch>%s<checksum type="sha256" pkgid="YES">%s</checksum>`+"\n",
		h.text(tagName), h.text(tagArch), e.evr(), e.sha256)
	fmt.Fprintf(b, "<summary>%s</summary><description>%s</description><packager>%s</packager><url>%s</url>\n",
		escaped(h.text(tagSummary)), escaped(h.text(tagDescription)), escaped(h.text(tagPackager)), escaped(h.text(tagURL)))
	fmt.Fprintf(b, `<time file="%d" build="%d"/><size package="%d" installed="%d" archive="%d"/><location href="%s"/>`+"\n",
		e.modified.Unix(), h.number(tagBuildTime), e.size, h.number(tagSize), e.rpm.signature.number(tagPayloadSize), "Packages/"+e.file)
	fmt.Fprintf(b, "<format><rpm:license>%s</rpm:license><rpm:vendor>%s</rpm:vendor><rpm:group>%s</rpm:group><rpm:buildhost>%s</rpm:buildhost><rpm:sourcerpm>%s</rpm:sourcerpm>",
		escaped(h.text(tagLicense)), escaped(h.text(tagVendor)), escaped(h.text(tagGroup)), escaped(h.text(tagBuildHost)), escaped(h.text(tagSourceRPM)))
	fmt.Fprintf(b, `<rpm:header-range start="%d" end="%d"/>`+"\n", e.rpm.start, e.rpm.end)
	provides, err := h.relations(tagProvideName, tagProvideVer, tagProvideFlag)
	if err != nil {
		return err
	}
	requires, err := h.relations(tagRequireName, tagRequireVer, tagRequireFlag)
	if err != nil {
		return err
	}
	relationsXML(b, "provides", provides)
	relationsXML(b, "requires", requires)
	for _, f := range all {
		if f.primary() {
			b.WriteString(f.xml())
		}
	}
	b.WriteString("</format></package>\n")
	return nil
}

func relationsXML(b *strings.Builder, kind string, list []rpmRelation) {
	fmt.Fprintf(b, "<rpm:%s>", kind)
	for _, r := range list {
		if strings.HasPrefix(r.name, "rpmlib(") {
			continue // of rpm itself, which no repository provides
		}
		fmt.Fprintf(b, `<rpm:entry name="%s"`, escaped(r.name))
		if sense := senses(r.flags); sense != "" && r.version != "" {
			epoch, version, release := splitEVR(r.version)
			fmt.Fprintf(b, ` flags="%s" epoch="%s" ver="%s"`, sense, epoch, escaped(version))
			if release != "" {
				fmt.Fprintf(b, ` rel="%s"`, escaped(release))
			}
		}
		if kind == "requires" && r.flags&sensePrereq != 0 {
			b.WriteString(` pre="1"`)
		}
		b.WriteString("/>")
	}
	fmt.Fprintf(b, "</rpm:%s>\n", kind)
}

func senses(flags uint32) string {
	switch flags & (senseLess | senseGreater | senseEqual) {
	case senseEqual:
		return "EQ"
	case senseLess:
		return "LT"
	case senseGreater:
		return "GT"
	case senseLess | senseEqual:
		return "LE"
	case senseGreater | senseEqual:
		return "GE"
	}
	return ""
}

// splitEVR cuts EPOCH:VERSION-RELEASE.
func splitEVR(s string) (epoch, version, release string) {
	epoch = "0"
	if before, after, ok := strings.Cut(s, ":"); ok {
		if _, err := strconv.ParseUint(before, 10, 32); err == nil {
			epoch, s = before, after
		}
	}
	version, release, _ = strings.Cut(s, "-")
	return epoch, version, release
}

// primary says which files the first index lists, so that dependencies on them
// are found without the second (createrepo_c's rule).
func (f rpmFile) primary() bool {
	return strings.HasPrefix(f.path, "/etc/") || strings.Contains(f.path, "bin/") || f.path == "/usr/lib/sendmail"
}

func (f rpmFile) xml() string {
	if f.folder {
		return `<file type="dir">` + escaped(f.path) + "</file>"
	}
	return "<file>" + escaped(f.path) + "</file>"
}

func (e entry) filelist(b *strings.Builder, all []rpmFile) {
	fmt.Fprintf(b, "<package pkgid=%q name=%q arch=%q>%s", e.sha256, e.rpm.header.text(tagName), e.rpm.header.text(tagArch), e.evr())
	for _, f := range all {
		b.WriteString(f.xml())
	}
	b.WriteString("</package>\n")
}

// repomd names the three indexes with their hashes, and returns their packed
// forms by path.
func repomd(indexes map[string][]byte, at time.Time) (text []byte, packed map[string][]byte, err error) {
	var b strings.Builder
	packed = map[string][]byte{}
	fmt.Fprintf(&b, xmlHead+`<repomd xmlns="http://linux.duke.edu/metadata/repo" xmlns:rpm="http://linux.duke.edu/metadata/rpm">`+"\n<revision>%d</revision>\n", at.Unix())
	for _, kind := range []string{"primary", "filelists", "other"} {
		z, err := zipped(indexes[kind])
		if err != nil {
			return nil, nil, err
		}
		path := "repodata/" + digest(z) + "-" + kind + ".xml.gz"
		packed[path] = z
		fmt.Fprintf(&b, `<data type="%s"><checksum type="sha256">%s</checksum><open-checksum type="sha256">%s</open-checksum><location href="%s"/><timestamp>%d</timestamp><size>%d</size><open-size>%d</open-size></data>`+"\n",
			kind, digest(z), digest(indexes[kind]), path, at.Unix(), len(z), len(indexes[kind]))
	}
	b.WriteString("</repomd>\n")
	return []byte(b.String()), packed, nil
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// zipped is gzip without a name or a time: equal bytes give equal bytes.
func zipped(b []byte) ([]byte, error) {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(b); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
