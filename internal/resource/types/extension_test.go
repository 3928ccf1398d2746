package types_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"sallyport/internal/fault"
	"sallyport/internal/handbooktest"
	"sallyport/internal/resource"
)

const (
	previewID   = vmID + "/extensions/AADLoginForLinux"
	previewBody = `{"location":"southcentralus","properties":{"publisher":"Microsoft.Azure.ActiveDirectory.LinuxSSH","type":"AADLoginForLinux","typeHandlerVersion":"1.0"}}`
)

// extensionStatus is the one status of an extension's instance view.
func (w *world) extensionStatus(at string) (state, code, message string) {
	w.t.Helper()
	r := w.get(at, true)
	state, _ = dig(r, "properties", "provisioningState").(string)
	code, _ = dig(r, "properties", "instanceView", "statuses", 0, "code").(string)
	message, _ = dig(r, "properties", "instanceView", "statuses", 0, "message").(string)
	if when, _ := dig(r, "properties", "instanceView", "statuses", 0, "time").(string); when == "" {
		w.t.Error("a status without a time")
	}
	return state, code, message
}

func TestExtension_PreviewIsOffUntilAllowed(t *testing.T) {
	w := newWorld(t).withMachine()
	if _, err := w.put(as(admin), previewID, previewBody); code(err) != "PreviewNotAllowed" || !strings.Contains(err.Error(), "AADLoginForLinux") {
		t.Fatalf("%v", err)
	} else {
		handbooktest.Said(t, fault.As(err).Public(), "PreviewNotAllowed")
	}
	if w.want().LoginEnabled {
		t.Error("wanted although it was refused")
	}
}

// TestExtension_OtherVersionIsExitCode23, in both orders, and as in the article:
// without the other one the failed one is set up by itself.
func TestExtension_OtherVersionIsExitCode23(t *testing.T) {
	for _, c := range []struct{ first, firstBody, second, secondBody string }{{previewID, previewBody, extID, extBody}, {extID, extBody, previewID, previewBody}} {
		w := newWorld(t).withMachine()
		w.allowed.Store(true)
		w.mustPut(c.first, c.firstBody)
		w.settle(time.Minute)
		preview := c.first == previewID
		if want := w.want(); !want.LoginEnabled || want.Preview != preview {
			t.Fatalf("%+v", want)
		}
		r := w.mustPut(c.second, c.secondBody)
		if s := w.status(r.Operation); s.Status != resource.Failed || !strings.Contains(s.Error.Message, "exit code 23") || !strings.Contains(s.Error.Message, "sally vm extension delete") || !strings.Contains(s.Error.Message, id(c.first).Name()) {
			t.Fatalf("%+v %+v", s, s.Error)
		} else {
			handbooktest.Said(t, s.Error.Message, "exit-23", "NAME", id(c.first).Name())
		}
		if state, code, message := w.extensionStatus(c.second); state != "Transitioning" || code != "ProvisioningState/transitioning/23" || !strings.Contains(message, "exit code 23") {
			t.Errorf("%s %s %s", state, code, message)
		}
		if want := w.want(); want.Preview != preview {
			t.Errorf("the one that is installed was changed: %+v", want)
		}
		_, err := w.engine.Delete(t.Context(), as(admin), resource.Request{ID: id(c.first)})
		w.must(err)
		w.settle(time.Minute)
		if state, code, _ := w.extensionStatus(c.second); state != "Succeeded" || code != "ProvisioningState/succeeded" {
			t.Errorf("not set up by itself: %s %s", state, code)
		}
		if want := w.want(); !want.LoginEnabled || want.Preview == preview {
			t.Errorf("%+v", want)
		}
	}
}

// TestExtension_PreviewTakenBackIsNotSetUp: what waited for the other version to go
// is judged by what the tenant allows then.
func TestExtension_PreviewTakenBackIsNotSetUp(t *testing.T) {
	w := newWorld(t).withMachine()
	w.mustPut(extID, extBody)
	w.settle(time.Minute)
	w.allowed.Store(true)
	w.mustPut(previewID, previewBody)
	w.settle(time.Minute)
	w.allowed.Store(false)
	_, err := w.engine.Delete(t.Context(), as(admin), resource.Request{ID: id(extID)})
	w.must(err)
	w.settle(time.Minute)
	if want := w.want(); want.LoginEnabled || want.Preview {
		t.Errorf("set up although it is switched off: %+v", want)
	}
	if state, code, message := w.extensionStatus(previewID); state != "Failed" || code != "ProvisioningState/failed/PreviewNotAllowed" || !strings.Contains(message, "switched off") {
		t.Errorf("%s %s %s", state, code, message)
	}
}

// TestExtension_PreviewNeedsNoIdentity, and what replaces it does: the article's
// migration without its second step.
func TestExtension_PreviewNeedsNoIdentity(t *testing.T) {
	w := newWorld(t).withMachine()
	w.allowed.Store(true)
	_, err := w.engine.Patch(t.Context(), as(admin), resource.Request{ID: id(vmID), Body: []byte(`{"identity":{"type":"None"}}`)})
	w.must(err)
	w.mustPut(previewID, previewBody)
	w.settle(time.Minute)
	if state, _, _ := w.extensionStatus(previewID); state != "Succeeded" {
		t.Fatal(state)
	}
	w.mustPut(extID, extBody)
	_, err = w.engine.Delete(t.Context(), as(admin), resource.Request{ID: id(previewID)})
	w.must(err)
	w.settle(time.Minute)
	if state, code, message := w.extensionStatus(extID); state != "Transitioning" || code != "ProvisioningState/transitioning/22" || !strings.Contains(message, "sally vm identity assign") {
		t.Fatalf("%s %s %s", state, code, message)
	}
	_, err = w.engine.Patch(t.Context(), as(admin), resource.Request{ID: id(vmID), Body: []byte(`{"identity":{"type":"SystemAssigned"}}`)})
	w.must(err)
	w.settle(time.Minute)
	w.mustPut(extID, extBody)
	w.settle(time.Minute)
	if state, _, _ := w.extensionStatus(extID); state != "Succeeded" {
		t.Fatalf("set again after the remedy: %s", state)
	}
}

// TestExtension_DeleteNamesWhoIsLoggedIn: nothing is taken from under people, and
// the next try, after they have gone, removes it.
func TestExtension_DeleteNamesWhoIsLoggedIn(t *testing.T) {
	w := newWorld(t).withMachine()
	w.mustPut(extID, extBody)
	w.settle(time.Minute)
	people := []string{"alice@example.test", "bob@example.test"}
	w.loggedIn = func(context.Context, string) ([]string, error) { return people, nil }
	del := func() resource.Status {
		r, err := w.engine.Delete(t.Context(), as(admin), resource.Request{ID: id(extID)})
		w.must(err)
		w.settle(time.Minute)
		return w.status(r.Operation)
	}
	s := del()
	if s.Status != resource.Failed || s.Error.Code != "VMExtensionInUse" || !w.want().LoginEnabled {
		t.Fatalf("%+v %+v", s, s.Error)
	}
	handbooktest.Said(t, s.Error.Message, "VMExtensionInUse", "WHO", "alice@example.test, bob@example.test")
	people = nil
	if s := del(); s.Status != resource.Succeeded || w.want().LoginEnabled {
		t.Fatalf("%+v %+v", s, s.Error)
	}
	// A machine that says nothing any more keeps nobody from removing it.
	w.mustPut(extID, extBody)
	w.settle(time.Minute)
	people, w.lab.mute = []string{"ghost@example.test"}, true
	w.advance(10 * time.Minute)
	if s := del(); s.Status != resource.Succeeded {
		t.Fatalf("%+v %+v", s, s.Error)
	}
}
