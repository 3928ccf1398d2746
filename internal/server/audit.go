package server

import (
	"context"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/audit/proof"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/store"
)

const (
	// followEvery is how often somebody who follows the audit log looks for more.
	// Other servers write too, so that a look at the store is needed.
	followEvery = 500 * time.Millisecond
	// followPages bounds how many pages one answer looks through for records
	// that a filter selects.
	followPages = 20
	// followPage is how many records one page has at most.
	followPage = 1000
)

// auditor is the audit log as arm wants it.
type auditor struct{ *deployment }

// Records returns records, newest first.
func (a auditor) Records(ctx context.Context, f audit.Filter) (records []audit.Record, err error) {
	err = a.store.Read(ctx, func(t *store.Tx) error {
		records, err = t.AuditRecords(f)
		return err
	})
	return records, err
}

// Heads returns the ends of all chains.
func (a auditor) Heads(ctx context.Context) (heads []audit.Head, err error) {
	err = a.store.Read(ctx, func(t *store.Tx) error {
		heads, err = t.AuditHeads()
		return err
	})
	return heads, err
}

// Follow returns records behind a cursor, oldest first, and moves it. It waits
// for the first one; caughtUp says that there were no more.
func (a auditor) Follow(ctx context.Context, f audit.Filter, c audit.Cursor, patience time.Duration) (found []audit.Record, caughtUp bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for pages := 0; ; {
		var page []audit.Record
		if err := a.store.Read(context.WithoutCancel(ctx), func(t *store.Tx) (err error) {
			page, err = t.AuditAfter(c, followPage)
			return err
		}); err != nil {
			return nil, false, err
		}
		for _, r := range page {
			if f.Matches(r) {
				found = append(found, r)
			}
		}
		pages++
		switch {
		case len(found) > 0, pages == followPages && len(page) > 0:
			return found, len(page) == 0, nil
		case len(page) > 0:
			continue
		}
		pages = 0
		if wait(ctx, followEvery, nil); ctx.Err() != nil {
			return nil, true, nil
		}
	}
}

// Proof signs the heads and gathers the evidence beside the records.
func (a auditor) Proof(ctx context.Context) (proof.Proof, error) {
	key, err := a.keys.Signer(protocol.Audit)
	if err != nil {
		return proof.Proof{}, err
	}
	heads, err := a.Heads(ctx)
	if err != nil {
		return proof.Proof{}, err
	}
	signed, _ := a.trust.Manifest()
	p := proof.Proof{Manifest: signed, Heads: []protocol.SignedHead{}, Checkpoints: []protocol.Envelope{}, Witnesses: []proof.Witness{}}
	for _, h := range heads {
		s, err := protocol.SignHead(a.cfg.Rand, key, h)
		if err != nil {
			return proof.Proof{}, err
		}
		p.Heads = append(p.Heads, s)
	}
	return p, a.store.Read(ctx, func(t *store.Tx) error { return readEvidence(t, &p) })
}

// readEvidence adds checkpoints and what machines have witnessed.
func readEvidence(t *store.Tx, p *proof.Proof) error {
	checkpoints, err := t.AuditCheckpoints()
	if err != nil {
		return err
	}
	p.Checkpoints = append(p.Checkpoints, checkpoints...)
	return t.EachWitness(func(machineID string, w protocol.Witnessed) error {
		p.Witnesses = append(p.Witnesses, proof.Witness{MachineID: machineID, Witnessed: w})
		return nil
	})
}

// Verify walks every chain and holds it to what was signed and witnessed. A
// chain that is not whole is an *audit.Broken.
func (a auditor) Verify(ctx context.Context) (audit.Verdict, error) {
	signed, manifest := a.trust.Manifest()
	var verdict audit.Verdict
	err := a.store.Read(ctx, func(t *store.Tx) error {
		p := proof.Proof{Manifest: signed}
		if err := readEvidence(t, &p); err != nil {
			return err
		}
		evidence, err := p.Open(manifest)
		if err != nil {
			return err
		}
		v := audit.NewVerifier(evidence.Checkpoints, evidence.Claims)
		if err := t.WalkAudit(v); err != nil {
			// Finish still tells how far the chains were good.
			verdict, _ = v.Finish()
			return err
		}
		verdict, err = v.Finish()
		verdict.Notes = append(evidence.Notes, verdict.Notes...)
		return err
	})
	return verdict, err
}
