package types_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/internal/resource"
	"sallyport/internal/resource/types"
)

const (
	arcID   = rg + "/providers/Microsoft.HybridCompute/machines/web"
	arcExt  = arcID + "/extensions/AADSSHLoginForLinux"
	arcBody = `{"location":"southcentralus","tags":{"a":"b"},"identity":{"type":"SystemAssigned"},"properties":{}}`
)

// withHost makes a machine that joined, and returns its id. Its agent follows.
func (w *world) withHost() string {
	w.t.Helper()
	w.mustPut(rg, `{"location":"southcentralus"}`)
	w.mustPut(arcID, arcBody)
	machine, _ := w.get(arcID, false)["properties"].(map[string]any)["vmId"].(string)
	w.lab.power[machine] = types.Running
	w.settle(time.Minute)
	return machine
}

func TestHybrid_ShapeAndStatus(t *testing.T) {
	w := newWorld(t)
	machine := w.withHost()
	doc := w.get(arcID, true)
	if machine == "" || dig(doc, "properties", "status") != types.StatusConnected || dig(doc, "properties", "osType") != "linux" || dig(doc, "identity", "principalId") == nil || dig(doc, "properties", "provisioningState") != resource.Succeeded {
		t.Fatalf("%v", doc)
	}
	if got, ok := w.machines.Machine(id(arcID).Key()); !ok || got != machine {
		t.Fatalf("%q", got)
	}
	w.advance(time.Hour)
	if got := w.get(arcID, false); dig(got, "properties", "status") != types.StatusDisconnected {
		t.Errorf("a silent agent: %v", got)
	}
	// What comes back from a GET may be written again; what would have no effect not.
	if _, err := w.engine.Patch(t.Context(), as(admin), resource.Request{ID: id(arcID), Body: []byte(`{"tags":{"c":"d"},"properties":{"status":"Connected","osName":"linux","agentVersion":"9"}}`)}); err != nil {
		t.Error(err)
	}
	for name, properties := range map[string]string{"key": `{"clientPublicKey":"abc"}`, "private link": `{"privateLinkScopeResourceId":"/x"}`, "unknown": `{"surprise":1}`} {
		if _, err := w.put(as(admin), rg+"/providers/Microsoft.HybridCompute/machines/x", strings.Replace(arcBody, `"properties":{}`, `"properties":`+properties, 1)); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func TestHybrid_Extension(t *testing.T) {
	w := newWorld(t)
	machine := w.withHost()
	w.mustPut(arcExt, extBody)
	w.settle(time.Minute)
	if got := w.get(arcExt, true); dig(got, "properties", "provisioningState") != resource.Succeeded {
		t.Fatalf("%v", got)
	}
	if want, _ := w.machines.Want(machine); !want.LoginEnabled || want.AdminName != "" {
		t.Errorf("%+v", want)
	}
	if got := w.get(arcID, true); dig(got, "properties", "extensions", 0, "name") != "AADSSHLoginForLinux" {
		t.Errorf("%v", got)
	}
	if _, err := w.put(as(admin), arcID+"/extensions/second", extBody); code(err) != "BadRequest" {
		t.Errorf("two of them: %v", err)
	}
	_, err := w.engine.Delete(t.Context(), as(admin), resource.Request{ID: id(arcExt)})
	w.must(err)
	w.settle(time.Minute)
	if want, _ := w.machines.Want(machine); want.LoginEnabled {
		t.Error("the extension is still wanted")
	}
	_, err = w.engine.Patch(t.Context(), as(admin), resource.Request{ID: id(arcID), Body: []byte(`{"identity":{"type":"None"}}`)})
	w.must(err)
	w.mustPut(arcExt, extBody)
	got := w.get(arcExt, true)
	text, _ := dig(got, "properties", "instanceView", "statuses", 0, "message").(string)
	if dig(got, "properties", "provisioningState") == resource.Succeeded || !strings.Contains(text, "exit code 22") || !strings.Contains(text, "sally machine identity assign") {
		t.Errorf("%v", got)
	}
	w.failed(arcExt, "exit-22.joined")
	w.allowed.Store(true)
	w.mustPut(arcID+"/extensions/AADLoginForLinux", previewBody)
	w.settle(time.Minute)
	w.mustPut(arcExt, extBody)
	w.failed(arcExt, "exit-23.joined", "NAME", "AADLoginForLinux")
}

// A machine whose agent is there puts everything back before its key goes; one
// whose agent is away is not waited for.
func TestHybrid_Delete(t *testing.T) {
	for name, away := range map[string]bool{"there": false, "away": true} {
		w := newWorld(t)
		machine := w.withHost()
		w.mustPut(arcExt, extBody)
		w.settle(time.Minute)
		w.lab.mute = true
		if away {
			w.advance(time.Hour)
		}
		_, err := w.engine.Delete(t.Context(), as(admin), resource.Request{ID: id(arcID)})
		w.must(err)
		if want, _ := w.machines.Want(machine); want.LoginEnabled {
			t.Errorf("%s: sign-in is still wanted", name)
		}
		w.settle(time.Second)
		if gone := slices.Contains(w.retired, machine); gone != away {
			t.Errorf("%s: the key is gone: %v", name, gone)
		}
		w.lab.mute = false
		w.settle(time.Minute)
		if _, err := w.engine.Get(t.Context(), as(admin), id(arcID), false); err == nil || !slices.Contains(w.retired, machine) {
			t.Errorf("%s: it is not gone: %v", name, err)
		}
	}
}

func TestHybrid_Quarantine(t *testing.T) {
	w := newWorld(t)
	machine := w.withHost()
	if _, err := w.engine.Act(t.Context(), as(alice), id(arcID), "quarantine"); code(err) != "AuthorizationFailed" {
		t.Errorf("without the right: %v", err)
	}
	_, err := w.engine.Act(t.Context(), as(admin), id(arcID), "quarantine")
	w.must(err)
	if _, ok := w.machines.Want(machine); ok {
		t.Error("the old machine is wanted before any worker has looked")
	}
	if !slices.Contains(w.retired, machine) {
		t.Error("its key lives until a worker looks")
	}
	w.settle(time.Minute)
	doc := w.get(arcID, false)
	if !slices.Contains(w.retired, machine) || dig(doc, "properties", "vmId") == machine || dig(doc, "properties", "status") != types.StatusExpired {
		t.Errorf("%v %v", w.retired, doc)
	}
}
