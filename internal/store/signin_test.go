package store_test

import (
	"strconv"
	"testing"
	"time"

	"sallyport/internal/credential"
	"sallyport/internal/oauth"
	"sallyport/internal/oauth/token"
	"sallyport/internal/signin"
	"sallyport/internal/store"
	"sallyport/internal/store/storetest"
)

// The neighbourhood with most requests gives its oldest up, and only to one with
// fewer.
func TestDevices_WhoFillsTheRoomEmptiesHisOwn(t *testing.T) {
	now := time.Unix(1_800_000_000, 0).UTC()
	s := storetest.New(t, func() time.Time { return now })
	err := s.Write(t.Context(), func(tx *store.Tx) error {
		for i, address := range []string{"192.0.2.1", "192.0.2.2", "192.0.2.2", "198.51.100.1"} {
			d := oauth.Device{Hash: []byte{byte(i)}, UserCode: strconv.Itoa(i), Address: address, State: oauth.DevicePending, CreatedAt: now.Add(time.Duration(i) * time.Second), Ends: now.Add(time.Hour)}
			if _, err := tx.PutDeviceRequest(d); err != nil {
				return err
			}
		}
		mine, near, all, err := tx.PendingDevices("192.0.2.2", "192.0.2.0/24", now)
		if err != nil || mine != 2 || near != 3 || all != 4 {
			t.Error(mine, near, all, err)
		}
		if dropped, err := tx.DropPendingDevice(3, now); dropped || err != nil {
			t.Error("dropped for one who has as many", err)
		}
		if dropped, err := tx.DropPendingDevice(2, now); !dropped || err != nil {
			t.Error("nothing dropped", err)
		}
		for i, want := range []bool{false, true, true, true} {
			if _, found, err := tx.DeviceRequest([]byte{byte(i)}); found != want || err != nil {
				t.Errorf("%d: %v %v", i, found, err)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// What one user can make the server remember is bounded; the oldest goes.
func TestSignIns_OfOneUserAreBounded(t *testing.T) {
	now := time.Unix(1_800_000_000, 0).UTC()
	s := storetest.New(t, func() time.Time { return now })
	err := s.Write(t.Context(), func(tx *store.Tx) error {
		for i := range 600 {
			at, id := now.Add(time.Duration(i)*time.Second), strconv.Itoa(i)
			if err := tx.PutSignInSession(signin.Session{ID: id, KeyHash: []byte(id), UserID: "u", SeenAt: at, Ends: at.Add(time.Hour)}); err != nil {
				return err
			}
			if err := tx.PutRefreshFamily(token.Family{ID: id, Principal: "u", RotatedAt: at, Slides: at.Add(time.Hour), Ends: at.Add(time.Hour)}); err != nil {
				return err
			}
			if err := tx.PutFamiliarPlace("u", id, at); err != nil {
				return err
			}
		}
		if err := tx.PutSignInSession(signin.Session{ID: "other", KeyHash: []byte("other"), UserID: "v", SeenAt: now}); err != nil {
			return err
		}
		sessions, err := tx.SignInSessionsOf("u")
		if err != nil || len(sessions) != 50 || sessions[0].ID != "599" {
			t.Errorf("%d sessions %v", len(sessions), err)
		}
		families, err := tx.RefreshFamiliesOf("u")
		if err != nil || len(families) != 500 || families[0].ID != "599" {
			t.Errorf("%d families %v", len(families), err)
		}
		for place, want := range map[string]bool{"549": false, "550": true} {
			if _, found, err := tx.FamiliarPlace("u", place); found != want || err != nil {
				t.Error(place, found, err)
			}
		}
		if others, err := tx.SignInSessionsOf("v"); err != nil || len(others) != 1 {
			t.Error("another's session went", err)
		}
		_, _, err = tx.AttemptsOf(credential.Any, "x")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
