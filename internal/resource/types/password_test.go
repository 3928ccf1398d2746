package types_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"sallyport/internal/fault"
	"sallyport/internal/resource"
	"sallyport/internal/resource/types"
	"sallyport/internal/shacrypt"
	"sallyport/internal/store"
)

const word = "Meadow-Quartz-83-Lamp"

// wordBody is the machine of az vm create --admin-password: without keys there is
// no linuxConfiguration.
func wordBody(password string) string {
	text, _ := json.Marshal(password)
	body := vmBody("KEY")
	begin, end := strings.Index(body, `"linuxConfiguration"`), strings.Index(body, `},
"networkProfile"`)
	return body[:begin] + `"adminPassword":` + string(text) + body[end:]
}

// both is the machine of --authentication-type all.
func both(k, password string) string {
	return strings.NewReplacer(`"disablePasswordAuthentication":true`, `"disablePasswordAuthentication":false`, `"adminUsername"`, `"adminPassword":"`+password+`","adminUsername"`).Replace(vmBody(k))
}

// holds reports whether a resource as it is stored has a password's hash, and fails
// where it has the password.
func (w *world) holds(at string) bool {
	w.t.Helper()
	var r resource.Resource
	w.must(w.store.Read(w.t.Context(), func(tx *store.Tx) (err error) { r, _, err = tx.ResourceByID(id(at).Key()); return err }))
	if all, err := json.Marshal(r); err != nil || strings.Contains(string(all), word) || strings.Contains(string(r.Properties)+string(r.Top), "$6$") {
		w.t.Errorf("%s: %s %v", at, all, err)
	}
	return strings.Contains(string(r.Private), "$6$")
}

func TestAdminPassword_Rules(t *testing.T) {
	w := newWorld(t).withNetwork()
	for name, tc := range map[string]struct{ password, text string }{
		"short": {"Abc-1234567", "12-72"}, "long": {strings.Repeat("Ab1-", 18) + "x", "12-72"}, "two kinds": {"abcdefghijkl1", "at least 3"},
		"control": {"Meadow-Quartz\n83", "Control"}, "bell": {"Meadow-Quartz\x0783", "Control"}, "known": {"P@ssw0rd", "everybody knows"}, "known in capitals": {"PA$$WORD", "everybody knows"},
	} {
		_, err := w.put(as(admin), vmID, wordBody(tc.password))
		if said := fault.As(err).Public(); code(err) != "InvalidParameter" || !strings.Contains(said, tc.text) || strings.Contains(said, tc.password) || fault.As(err).Target != "adminPassword" {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, body := range map[string]string{
		"nobody's":      strings.Replace(wordBody(word), `"adminUsername":"azureuser",`, "", 1),
		"no word":       strings.Replace(wordBody(word), `"adminPassword":"`+word+`"`, `"adminPassword":12`, 1),
		"neither":       strings.Replace(wordBody(word), `"adminPassword":"`+word+`"`, `"adminPassword":null`, 1),
		"key and empty": both(key(t), ""),
	} {
		if _, err := w.put(as(admin), vmID, body); code(err) != "InvalidParameter" && code(err) != "InvalidRequestContent" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(w.lab.ops) != 0 {
		t.Errorf("made: %v", w.lab.ops)
	}
	for i, good := range []string{"Abc-12345678", strings.Repeat("Ab1-", 18), "meadow quartz 83", "\u00c4pfel-und-Birnen"} {
		w.mustPut(vmID, wordBody(good))
		w.settle(time.Minute)
		if !shacrypt.Verify(w.lab.made.PasswordHash, good) {
			t.Errorf("%d: the back end got %q", i, w.lab.made.PasswordHash)
		}
		_, err := w.engine.Delete(t.Context(), as(admin), resource.Request{ID: id(vmID)})
		w.must(err)
		w.settle(time.Minute)
	}
}

// TestAdminPassword_IsWriteOnly: the password goes to the machine as a hash, which
// the server forgets when the machine has reported, and nothing shows either.
func TestAdminPassword_IsWriteOnly(t *testing.T) {
	for name, body := range map[string]string{"password": wordBody(word), "all": both(key(t), word)} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t).withNetwork()
			w.lab.mute = true
			made := w.mustPut(vmID, body)
			if !w.holds(vmID) {
				t.Fatal("the hash is gone before the machine is made")
			}
			w.settle(time.Second)
			if !shacrypt.Verify(w.lab.made.PasswordHash, word) {
				t.Fatalf("the back end got %q", w.lab.made.PasswordHash)
			}
			// The same request once more is the same machine; another password is not.
			if _, err := w.put(as(admin), vmID, body); err != nil {
				t.Error("the same request again:", err)
			}
			if _, err := w.put(as(admin), vmID, strings.Replace(body, word, word+"x", 1)); code(err) != "PropertyChangeNotAllowed" {
				t.Error("another password:", err)
			}
			w.lab.mute = false
			w.settle(time.Minute)
			if w.holds(vmID) {
				t.Error("the server keeps the hash of a machine that is made")
			}
			shown, err := json.Marshal(w.get(vmID, true))
			w.must(err)
			answer, err := json.Marshal(made)
			w.must(err)
			for _, text := range []string{string(shown), string(answer)} {
				if strings.Contains(text, word) || strings.Contains(text, "$6$") || strings.Contains(text, "adminPassword") {
					t.Errorf("shown: %s", text)
				}
			}
			if got := dig(w.get(vmID, false), "properties", "osProfile", "linuxConfiguration", "disablePasswordAuthentication"); got != false {
				t.Errorf("disablePasswordAuthentication: %v", got)
			}
			w.afterwards(t, body, name == "all")
		})
	}
}

// afterwards is what az does with a machine that is made: it writes what it has
// read, without the password.
func (w *world) afterwards(t *testing.T, body string, keys bool) {
	want, _ := w.machines.Want(w.lab.made.ID)
	if !want.Passwords || (len(want.AdminKeys) == 1) != keys {
		t.Errorf("%+v", want)
	}
	read, err := json.Marshal(map[string]any{"location": "southcentralus", "properties": w.get(vmID, false)["properties"]})
	w.must(err)
	if _, err := w.put(as(admin), vmID, string(read)); err != nil {
		t.Error("written as it was read:", err)
	}
	if _, err := w.engine.Patch(t.Context(), as(admin), resource.Request{ID: id(vmID), Body: []byte(`{"tags":{"a":"b"}}`)}); err != nil {
		t.Error("tagged:", err)
	}
	for name, change := range map[string]string{
		"the password again": `{"properties":{"osProfile":{"adminPassword":"` + word + `"}}}`, "sign-in off": `{"properties":{"osProfile":{"linuxConfiguration":{"disablePasswordAuthentication":true}}}}`,
	} {
		if _, err := w.engine.Patch(t.Context(), as(admin), resource.Request{ID: id(vmID), Body: []byte(change)}); code(err) != "PropertyChangeNotAllowed" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := w.put(as(admin), vmID, body); code(err) != "PropertyChangeNotAllowed" || !strings.Contains(fault.As(err).Public(), "does not keep it") {
		t.Error("made again:", err)
	}
}

// TestAdminPassword_OfAMachineThatHasNone: nobody gives a machine with keys a
// password later.
func TestAdminPassword_OfAMachineThatHasNone(t *testing.T) {
	w := newWorld(t).withMachine()
	if w.lab.made.PasswordHash != "" || w.holds(vmID) {
		t.Error("a machine with keys has a password")
	}
	for _, change := range []string{`{"adminPassword":"` + word + `"}`, `{"adminPassword":"` + word + `","linuxConfiguration":{"disablePasswordAuthentication":false}}`, `{"linuxConfiguration":{"disablePasswordAuthentication":false}}`} {
		if _, err := w.engine.Patch(t.Context(), as(admin), resource.Request{ID: id(vmID), Body: []byte(`{"properties":{"osProfile":` + change + `}}`)}); err == nil {
			t.Errorf("taken: %s", change)
		}
	}
}

// TestAdminPassword_InADeployment: the history of a template has none of it.
func TestAdminPassword_InADeployment(t *testing.T) {
	w := newWorld(t).withNetwork()
	var vm map[string]any
	w.must(json.Unmarshal([]byte(wordBody("[parameters('adminPassword')]")), &vm))
	vm["type"], vm["apiVersion"], vm["name"] = types.VirtualMachine, "2022-11-01", "myVM"
	body, err := json.Marshal(map[string]any{"properties": map[string]any{"mode": "Incremental", "parameters": map[string]any{"adminPassword": map[string]any{"value": word}},
		"template": map[string]any{"$schema": "https://schema.management.azure.com/schemas/2015-01-01/deploymentTemplate.json#", "contentVersion": "1.0.0.0",
			"parameters": map[string]any{"adminPassword": map[string]any{"type": "secureString"}}, "resources": []any{vm},
			"outputs": map[string]any{"os": map[string]any{"type": "object", "value": "[reference('myVM').osProfile]"}}}}})
	w.must(err)
	at := rg + "/providers/" + types.Deployment + "/d1"
	made, err := w.deployments().Start(t.Context(), as(admin), resource.Request{ID: id(at), Body: body})
	w.must(err)
	w.settle(time.Minute)
	shown, err := json.Marshal(w.get(at, false))
	w.must(err)
	answer, err := json.Marshal(made)
	w.must(err)
	for _, text := range []string{string(shown), string(answer)} {
		if strings.Contains(text, word) || strings.Contains(text, "$6$") || !strings.Contains(text, "secureString") {
			t.Errorf("%s", text)
		}
	}
	if w.holds(at); !shacrypt.Verify(w.lab.made.PasswordHash, word) {
		t.Errorf("the back end got %q", w.lab.made.PasswordHash)
	}
}

// TestAdminPassword_OfAScaleSet: the set keeps the hash for the instances that it
// makes later, each of them until it has reported.
func TestAdminPassword_OfAScaleSet(t *testing.T) {
	w := newWorld(t).withNetwork()
	body := strings.NewReplacer(`"disablePasswordAuthentication":true`, `"disablePasswordAuthentication":false`, `"adminUsername"`, `"adminPassword":"`+word+`","adminUsername"`).
		Replace(setBody(1, "Manual", key(t), login, person))
	w.mustPut(setID, body)
	w.settle(time.Minute)
	if first := w.lab.made; !shacrypt.Verify(first.PasswordHash, word) || !w.holds(setID) || w.holds(instanceID(0)) {
		t.Errorf("the first instance: %+v", first)
	}
	w.mustPut(setID, strings.Replace(body, `"capacity":1`, `"capacity":2`, 1)) // with the password, as az sends it again
	w.settle(time.Minute)
	if w.lab.ensured != 2 || !shacrypt.Verify(w.lab.made.PasswordHash, word) || w.holds(instanceID(1)) {
		t.Errorf("the second: %d %+v", w.lab.ensured, w.lab.made)
	}
	if _, err := w.put(as(admin), setID, strings.Replace(body, word, word+"x", 1)); code(err) != "PropertyChangeNotAllowed" {
		t.Error("another password:", err)
	}
	for _, at := range []string{setID, instanceID(0)} {
		if text, err := json.Marshal(w.get(at, true)); err != nil || strings.Contains(string(text), "$6$") || strings.Contains(string(text), "dminPassword") || strings.Contains(string(text), "asswordHash") {
			t.Errorf("%s: %s %v", at, text, err)
		}
	}
}

// TestAdminPassword_IsHashedWhileOthersWrite: a hash takes as long as hundreds of
// writes, and whoever may make a machine could ask for one again and again.
func TestAdminPassword_IsHashedWhileOthersWrite(t *testing.T) {
	w := newWorld(t).withNetwork()
	w.lab.mute = true
	w.mustPut(vmID, wordBody(word))
	w.mustPut(vmID, wordBody(word))
	set := strings.NewReplacer(`"disablePasswordAuthentication":true`, `"disablePasswordAuthentication":false`, `"adminUsername"`, `"adminPassword":"`+word+`","adminUsername"`).
		Replace(setBody(0, "Manual", key(t), login, person))
	w.mustPut(setID, set)
	_, err := w.deploy(as(admin), templateOf(`{"type":"`+types.ScaleSet+`","name":"m0",`+set[1:]+`,{"type":"`+types.ScaleSet+`","name":"m1",`+set[1:]))
	w.must(err)
	if outside, inside := w.hashed[0].Load(), w.hashed[1].Load(); outside != 4 || inside != 0 {
		t.Errorf("%d hashes while nobody held the store, %d while it was held", outside, inside)
	}
	var found [2]struct{ PasswordHash string }
	w.must(w.store.Read(t.Context(), func(tx *store.Tx) error {
		for i, name := range []string{"m0", "m1"} {
			r, _, err := tx.ResourceByID(id(strings.Replace(setID, "/myVMSS", "/"+name, 1)).Key())
			if err != nil {
				return err
			}
			w.must(r.ReadPrivate(&found[i]))
		}
		return nil
	}))
	if a, b := found[0].PasswordHash, found[1].PasswordHash; !shacrypt.Verify(a, word) || !shacrypt.Verify(b, word) || a == b {
		t.Errorf("two scale sets of a template: %q and %q", a, b)
	}
}

// TestAdminPassword_OfWhatChanges: a template whose passwords are other ones each time
// that it is tried does not have them hashed while everybody waits for the store.
func TestAdminPassword_OfWhatChanges(t *testing.T) {
	w := newWorld(t).withNetwork()
	made := rg + "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/u"
	set := strings.NewReplacer(`"disablePasswordAuthentication":true`, `"disablePasswordAuthentication":false`, `"adminUsername"`,
		`"adminPassword":"[concat('Aa1!', reference('`+made+`', '2023-01-31', 'full').identity.principalId)]","adminUsername"`).Replace(setBody(0, "Manual", key(t), login, person))
	_, err := w.deploy(as(admin), templateOf(`{"type":"Microsoft.ManagedIdentity/userAssignedIdentities","name":"u","location":"southcentralus","properties":{}},{"type":"`+types.ScaleSet+`","name":"m0",`+set[1:]))
	if code(err) != "InvalidParameter" || !strings.Contains(err.Error(), "hashed") || w.hashed[1].Load() != 0 || w.hashed[0].Load() == 0 || w.exists(made) {
		t.Errorf("%v, %d hashes while the store was held, %d while it was not", err, w.hashed[1].Load(), w.hashed[0].Load())
	}
}

// TestAdminPassword_OfWhoMayNoMore: hashing takes its time, and who has lost his right
// in it makes no machine.
func TestAdminPassword_OfWhoMayNoMore(t *testing.T) {
	w := newWorld(t).withNetwork()
	w.mustGrant(alice, contributor, nicID) // which the machine is linked to
	right := w.mustGrant(alice, contributor, rg)
	w.salted = func() {
		w.salted = nil
		w.must(w.store.Write(t.Context(), func(tx *store.Tx) error { _, err := tx.DeleteRoleAssignment(right); return err }))
	}
	if _, err := w.put(as(alice), vmID, wordBody(word)); code(err) != "AuthorizationFailed" || w.exists(vmID) || w.salted != nil {
		t.Errorf("%v, made: %t", err, w.exists(vmID))
	}
}
