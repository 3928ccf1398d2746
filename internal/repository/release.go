package repository

import (
	"encoding/json"
	"fmt"
	"strings"

	"sallyport/internal/machine/protocol"
)

// The packages that a machine's agent is.
const (
	agentPackage = "sallyport-agent"
	basePackage  = "sallyport"
)

// revision is what our packages have behind their version.
const revision = "-1"

// releases are the versions of the agent that the folder holds whole: with both
// packages of the same version, format and architecture. What is in a document
// follows from the packages alone, so it is the same at every signing.
func releases(list []entry) map[string]protocol.ReleaseDocument {
	type set struct{ version, format, architecture string }
	found := map[set][]protocol.ReleasePackage{}
	for _, e := range list {
		p := protocol.ReleasePackage{File: e.file, Size: e.size, SHA256: e.sha256}
		version := ""
		if e.deb != nil {
			p.Format, p.Name, p.Architecture, version = "deb", e.deb.name, e.deb.architecture, e.deb.version
		} else {
			h := e.rpm.header
			p.Format, p.Name, p.Architecture, version = "rpm", h.text(tagName), h.text(tagArch), h.text(tagVersion)+"-"+h.text(tagRelease)
		}
		version, ours := strings.CutSuffix(version, revision)
		if ours && protocol.ValidVersion(version) && p.Size <= protocol.MaxPackage && (p.Name == agentPackage || p.Name == basePackage) {
			at := set{version, p.Format, p.Architecture}
			found[at] = append(found[at], p)
		}
	}
	out := map[string]protocol.ReleaseDocument{}
	for _, format := range []string{"deb", "rpm"} {
		for _, architecture := range []string{"amd64", "arm64", "x86_64", "aarch64"} {
			for at, pair := range found {
				if at.format != format || at.architecture != architecture || len(pair) != 2 {
					continue
				}
				d := out[at.version]
				d.Version, d.Packages = at.version, append(d.Packages, pair...)
				out[at.version] = d
			}
		}
	}
	return out
}

// vouch signs a release. The key also makes OpenPGP signatures: what those hash
// begins with the text of an index or with a key packet, and this with the name of
// its form, so neither stands in for the other.
func (r *Repository) vouch(d protocol.ReleaseDocument) ([]byte, error) {
	payload, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("repository: release %s: %w", d.Version, err)
	}
	e, err := protocol.Sign(r.cfg.Rand, r.cfg.Signer, protocol.TypeRelease, payload)
	if err != nil {
		return nil, fmt.Errorf("repository: release %s: %w", d.Version, err)
	}
	return json.Marshal(e)
}
