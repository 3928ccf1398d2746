package types_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"sallyport/internal/resource"
	"sallyport/internal/store"
)

// TestOlderServer: what an older server has taken and has another shape today gets a tag
// and an identity all the same; whoever writes it is told what is wrong with it.
func TestOlderServer(t *testing.T) {
	for _, old := range []string{
		`"patchSettings":{"nosuch":1}`,
		`"patchSettings":{"patchMode":"ImageDefault","automaticByPlatformSettings":{}}`, // as an older server kept it
	} {
		w := newWorld(t).withMachine()
		w.mustPut(setID, setBody(1, "Manual", key(t), login, ""))
		w.settle(2 * time.Minute)
		w.must(w.store.Write(t.Context(), func(tx *store.Tx) error {
			for _, at := range []string{vmID, setID} {
				r, ok, err := tx.ResourceByID(id(at).Key())
				if err != nil || !ok {
					return err
				}
				now := strings.Replace(string(r.Properties), `"linuxConfiguration":{`, `"linuxConfiguration":{`+old+`,`, 1)
				if r.Properties = json.RawMessage(now); !strings.Contains(now, old) {
					t.Errorf("%s: %s", at, now)
				}
				if err := tx.PutResource(r); err != nil {
					return err
				}
			}
			return nil
		}))
		for _, at := range []string{vmID, setID} {
			for _, body := range []string{`{"tags":{"a":"b"}}`, `{"identity":{"type":"SystemAssigned"}}`} {
				if _, err := w.engine.Patch(t.Context(), as(admin), resource.Request{ID: id(at), Body: []byte(body)}); err != nil {
					t.Errorf("%s, %s: %s: %v", old, at, body, err)
				}
				w.settle(time.Minute)
			}
			if !strings.Contains(old, "nosuch") {
				continue
			}
			_, err := w.engine.Patch(t.Context(), as(admin), resource.Request{ID: id(at), Body: []byte(`{"properties":{"proximityPlacementGroup":{"id":"` + rg + `"}}}`)})
			if code(err) != "InvalidRequestContent" || !strings.Contains(err.Error(), "nosuch") {
				t.Errorf("%s is written: %v", at, err)
			}
		}
		w.mustPut(setID, `{"location":"southcentralus","sku":{"name":"Standard_DS1_v2","capacity":1},"properties":{}}`) // as az vmss scale
	}
}

// TestOlderServer_ModelStays: a tag for a scale set of an older server makes no instance
// an old one.
func TestOlderServer_ModelStays(t *testing.T) {
	w := withSet(t, "Manual", login)
	w.must(w.store.Write(t.Context(), func(tx *store.Tx) error {
		r, _, err := tx.ResourceByID(id(setID).Key())
		if err != nil {
			return err
		}
		r.Properties = json.RawMessage(strings.Replace(string(r.Properties), `"osDisk":{`, `"osDisk":{"managedDisk":{},`, 1))
		return tx.PutResource(r)
	}))
	_, err := w.engine.Patch(t.Context(), as(admin), resource.Request{ID: id(setID), Body: []byte(`{"tags":{"a":"b"}}`)})
	w.must(err)
	w.settle(time.Minute)
	if is := dig(w.get(instanceID(0), false), "properties", "latestModelApplied"); is != true {
		t.Errorf("latestModelApplied: %v", is)
	}
}
