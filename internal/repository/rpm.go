package repository

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
)

const (
	rpmLead      = 96
	maxRPMHeader = 8 << 20
	maxRPMIndex  = 1 << 10
	maxRPMValues = 1 << 20 // of one header
)

// Tags of the header (rpmtag.h).
const (
	tagName        = 1000
	tagVersion     = 1001
	tagRelease     = 1002
	tagEpoch       = 1003
	tagSummary     = 1004
	tagDescription = 1005
	tagBuildTime   = 1006
	tagBuildHost   = 1007
	tagSize        = 1009
	tagVendor      = 1011
	tagLicense     = 1014
	tagPackager    = 1015
	tagGroup       = 1016
	tagURL         = 1020
	tagArch        = 1022
	tagFileModes   = 1030
	tagSourceRPM   = 1044
	tagProvideName = 1047
	tagRequireFlag = 1048
	tagRequireName = 1049
	tagRequireVer  = 1050
	tagProvideFlag = 1112
	tagProvideVer  = 1113
	tagDirIndexes  = 1116
	tagBaseNames   = 1117
	tagDirNames    = 1118
	tagPayloadSize = 1007 // of the signature header
)

// Types of values.
const (
	rpmInt16   = 3
	rpmInt32   = 4
	rpmString  = 6
	rpmStrings = 8
	rpmI18N    = 9
)

// rpmPackage is one RPM package.
type rpmPackage struct {
	header, signature rpmHeader
	start, end        int64 // of the header in the file
}

// rpmHeader holds values by tag: strings or numbers.
type rpmHeader struct {
	texts   map[uint32][]string
	numbers map[uint32][]uint32
}

func (h rpmHeader) text(tag uint32) string {
	if v := h.texts[tag]; len(v) > 0 {
		return v[0]
	}
	return ""
}

func (h rpmHeader) number(tag uint32) uint32 {
	if v := h.numbers[tag]; len(v) > 0 {
		return v[0]
	}
	return 0
}

// Closed alphabets of names and versions. They are made when they are first used:
// every start of the program would pay for them.
var (
	rpmName    = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9+._-]{0,99}$`) })
	rpmVersion = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9+._~^]{0,99}$`) })
)

// readRPM reads what a package says of itself: lead, signature header, header
// (RPM file format 4).
func readRPM(r io.Reader) (rpmPackage, error) {
	var p rpmPackage
	lead := make([]byte, rpmLead)
	if _, err := io.ReadFull(r, lead); err != nil || !bytes.HasPrefix(lead, []byte{0xed, 0xab, 0xee, 0xdb}) {
		return p, errors.New("it is no RPM package")
	}
	var size int64
	var err error
	if p.signature, size, err = readHeader(r); err != nil {
		return p, fmt.Errorf("its signature header: %w", err)
	}
	pad := (8 - size%8) % 8
	if _, err := io.CopyN(io.Discard, r, pad); err != nil {
		return p, errors.New("it is cut off")
	}
	p.start = rpmLead + size + pad
	if p.header, size, err = readHeader(r); err != nil {
		return p, fmt.Errorf("its header: %w", err)
	}
	p.end = p.start + size
	h := p.header
	if !rpmName().MatchString(h.text(tagName)) || !rpmVersion().MatchString(h.text(tagVersion)) || !rpmVersion().MatchString(h.text(tagRelease)) {
		return p, errors.New("it names no package, version and release")
	}
	switch h.text(tagArch) {
	case "x86_64", "aarch64", "noarch":
		return p, nil
	}
	return p, fmt.Errorf("it is for the architecture %q; known are x86_64, aarch64 and noarch", h.text(tagArch))
}

// readHeader reads one header structure and says how long it is.
func readHeader(r io.Reader) (rpmHeader, int64, error) {
	h := rpmHeader{texts: map[uint32][]string{}, numbers: map[uint32][]uint32{}}
	head := make([]byte, 16)
	if _, err := io.ReadFull(r, head); err != nil || !bytes.HasPrefix(head, []byte{0x8e, 0xad, 0xe8, 0x01}) {
		return h, 0, errors.New("it is missing")
	}
	count, length := binary.BigEndian.Uint32(head[8:]), binary.BigEndian.Uint32(head[12:])
	if count > maxRPMIndex || length > maxRPMHeader {
		return h, 0, errors.New("it is too long")
	}
	body := make([]byte, int(count)*16+int(length))
	if _, err := io.ReadFull(r, body); err != nil {
		return h, 0, errors.New("it is cut off")
	}
	store := body[count*16:]
	left := uint32(maxRPMValues)
	for i := range int(count) {
		e := body[i*16 : i*16+16]
		tag, kind := binary.BigEndian.Uint32(e), binary.BigEndian.Uint32(e[4:])
		offset, n := binary.BigEndian.Uint32(e[8:]), binary.BigEndian.Uint32(e[12:])
		if n > left {
			return h, 0, errors.New("it holds too much")
		}
		left -= n
		if err := h.value(store, tag, kind, offset, n); err != nil {
			return h, 0, err
		}
	}
	return h, int64(len(head) + len(body)), nil
}

// value reads one entry. Types that no index needs are passed over.
func (h rpmHeader) value(store []byte, tag, kind, offset, n uint32) error {
	wrong := fmt.Errorf("the tag %d leads out of it", tag)
	if uint64(offset) > uint64(len(store)) {
		return wrong
	}
	rest := store[offset:]
	switch kind {
	case rpmInt16, rpmInt32:
		width := uint64(2)
		if kind == rpmInt32 {
			width = 4
		}
		if uint64(n)*width > uint64(len(rest)) {
			return wrong
		}
		list := make([]uint32, n)
		for i := range list {
			if kind == rpmInt32 {
				list[i] = binary.BigEndian.Uint32(rest[i*4:])
			} else {
				list[i] = uint32(binary.BigEndian.Uint16(rest[i*2:]))
			}
		}
		h.numbers[tag] = list
	case rpmString, rpmStrings, rpmI18N:
		var list []string
		for range n {
			end := bytes.IndexByte(rest, 0)
			if end < 0 {
				return wrong
			}
			list = append(list, strings.ToValidUTF8(string(rest[:end]), "?"))
			rest = rest[end+1:]
		}
		h.texts[tag] = list
	}
	return nil
}

// rpmFile is a file of a package.
type rpmFile struct {
	path   string
	folder bool
}

// files lists what the package installs.
func (h rpmHeader) files() ([]rpmFile, error) {
	names, folders, index := h.texts[tagBaseNames], h.texts[tagDirNames], h.numbers[tagDirIndexes]
	modes := h.numbers[tagFileModes]
	if len(names) != len(index) || len(names) != len(modes) {
		return nil, errors.New("its list of files does not add up")
	}
	list := make([]rpmFile, len(names))
	for i, name := range names {
		if uint64(index[i]) >= uint64(len(folders)) {
			return nil, errors.New("its list of files does not add up")
		}
		list[i] = rpmFile{path: folders[index[i]] + name, folder: modes[i]&0o170000 == 0o040000}
	}
	return list, nil
}

// rpmRelation is one thing that a package needs or gives.
type rpmRelation struct {
	name, version string
	flags         uint32
}

func (h rpmHeader) relations(name, version, flag uint32) ([]rpmRelation, error) {
	names, versions, flags := h.texts[name], h.texts[version], h.numbers[flag]
	if len(names) != len(versions) || len(names) != len(flags) {
		return nil, errors.New("its list of relations does not add up")
	}
	list := make([]rpmRelation, len(names))
	for i := range names {
		list[i] = rpmRelation{names[i], versions[i], flags[i]}
	}
	return list, nil
}
