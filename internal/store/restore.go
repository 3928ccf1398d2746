package store

import (
	"encoding/base64"
	"fmt"

	"sallyport/internal/audit"
	"sallyport/internal/directory"
	"sallyport/internal/fault"
	"sallyport/internal/rollout"
)

// factRestore is the store's name of the last restore.
const factRestore = "restore"

// KindRestore is the change feed's kind of it.
const KindRestore = "restore"

// PutRestoreFact stores what is known of the last restore.
func (t *Tx) PutRestoreFact(v any) error {
	if err := t.SetFact(factRestore, v); err != nil {
		return err
	}
	return t.changed(KindRestore, factRestore)
}

// RestoreFact reads it; found is false in a deployment that was never restored.
func (t *Tx) RestoreFact(v any) (found bool, err error) { return t.Fact(factRestore, v) }

// After a restore, what a table holds is kept as it was, ended, or changed.
// Every table of the schema has its line: a test asks for one.
const (
	restoreKeeps   = "keeps"
	restoreEmpties = "empties"
	restoreChanges = "changes" // by a statement below, or by the caller of EndIssued
)

func restoredTables() map[string]string {
	return map[string]string{
		// Who exists, what proves them, what they may do: an administrator reviews it.
		"tenant": restoreKeeps, "directory_group": restoreKeeps, "group_member": restoreKeeps, "group_owner": restoreKeeps, "application": restoreKeeps,
		"password": restoreKeeps, "client_secret": restoreKeeps, "client_certificate": restoreKeeps,
		"role_assignment": restoreKeeps, "app_role_assignment": restoreKeeps, "permission_grant": restoreKeeps, "directory_policy": restoreKeeps, "conditional_policy": restoreKeeps, "revoked_certificate": restoreKeeps, "ended_session": restoreKeeps, "revocation": restoreKeeps, "role_definition": restoreKeeps, "resource": restoreKeeps, "operation": restoreKeeps, "machines": restoreKeeps,
		// What must not be taken twice stays taken.
		"signin_attempt": restoreKeeps, "familiar_place": restoreKeeps, "client_assertion": restoreKeeps, "machine_events": restoreKeeps, "machine_stream": restoreKeeps, "machine_manifest": restoreKeeps, "machine_inventory": restoreKeeps, "agent_upgrade": restoreChanges, "feed": restoreKeeps, "feed_position": restoreKeeps,
		// What was given to somebody before is dead.
		"signin_session": restoreEmpties, "machine_session": restoreEmpties, "machine_session_list": restoreEmpties, "oauth_code": restoreEmpties, "device_request": restoreEmpties, "join_tokens": restoreEmpties,
		"directory_user": restoreChanges, "service_principal": restoreChanges, "refresh_family": restoreChanges,
		"audit_witness": restoreKeeps, "audit_checkpoint": restoreKeeps, "audit_cursor": restoreKeeps, "audit_output": restoreEmpties, // a lease
		"posix_counter": restoreChanges, "audit": restoreChanges, "deployment": restoreChanges,
	}
}

// EndIssued ends everything that anybody was given before this transaction's
// time: sign-in sessions, codes, device codes, join tokens, refresh families
// with the reason, and by NotBefore of every user, service principal and managed
// identity also access tokens and certificates.
func (t *Tx) EndIssued(reason string) error {
	for name, what := range restoredTables() {
		if what == restoreEmpties {
			if _, err := t.exec(`DELETE FROM ` + quoted(name)); err != nil {
				return fmt.Errorf("table %s: %w", name, err)
			}
		}
	}
	if _, err := t.exec(`UPDATE refresh_family SET ended_for = $1 WHERE ended_for = ''`, reason); err != nil {
		return err
	}
	// Machines are told nothing that somebody may have taken back since.
	if _, err := t.exec(`UPDATE agent_upgrade SET state = $1, reason = $2 WHERE state IN ('Running', 'Paused', 'Stopped', 'Succeeded')`, string(rollout.Canceled), reason); err != nil {
		return err
	}
	for _, name := range []string{"directory_user", "service_principal"} {
		if _, err := t.exec(`UPDATE `+name+` SET not_before = $1 WHERE not_before < $1`, micros(t.now)); err != nil {
			return err
		}
	}
	return nil
}

// SkipPOSIXIDs leaves out the next n ids: whoever was given one of them after
// the backup keeps it alone, although nothing here knows of him.
func (t *Tx) SkipPOSIXIDs(n int64) error {
	var next int64
	found, err := t.row(`UPDATE posix_counter SET next = next + $1 RETURNING next`, []any{n}, &next)
	if err == nil && found && next > directory.LastPOSIXID {
		return fault.New(fault.Exhausted, "PosixIdsExhausted", "fewer than %d POSIX ids are left, which a restore passes over so that none is given to two people", n)
	}
	return err
}

// ContinueChains adds to every audit chain the record by which it goes on after
// a restore. event makes it from the chain's end in the restored data. Sequence
// numbers go on at floor, and at least step higher, so that no record that was lost and no new one
// ever have the same number: machines that have seen the lost ones see a gap that
// the record explains, not a fork.
func (t *Tx) ContinueChains(by audit.By, floor, step int64, event func(last audit.Head) audit.Event) ([]audit.Head, error) {
	ends, err := t.chainEnds()
	if err != nil {
		return nil, err
	}
	for i, last := range ends {
		e := event(last)
		if err := audit.Declared(e); err != nil {
			return nil, err
		}
		next := audit.NewRecord(by, e).Seal(last.Writer, max(floor, last.Sequence+step), last.Hash)
		if err := next.Verify(audit.Record{Sequence: last.Sequence, Hash: last.Hash}); err != nil {
			return nil, err
		}
		if err := t.appendRecord(next); err != nil {
			return nil, err
		}
		if last.Writer == t.store.cfg.Writer {
			t.chain = chain{sequence: next.Sequence, hash: next.Hash}
		}
		ends[i] = audit.Head{Writer: next.Writer, Sequence: next.Sequence, Hash: next.Hash}
	}
	return ends, nil
}

// chainEnds returns the end of every chain.
func (t *Tx) chainEnds() (ends []audit.Head, err error) {
	err = t.query(`SELECT a.writer, a.sequence, a.hash FROM audit a JOIN (SELECT writer, MAX(sequence) AS last FROM audit GROUP BY writer) m ON m.writer = a.writer AND m.last = a.sequence ORDER BY a.writer`, nil,
		func(scan func(...any) error) error {
			var h audit.Head
			var hash string
			if err := scan(&h.Writer, &h.Sequence, &hash); err != nil {
				return err
			}
			var err error
			h.Hash, err = base64.StdEncoding.DecodeString(hash)
			ends = append(ends, h)
			return err
		})
	return ends, err
}
