package types_test

import (
	"strings"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/resource"
	"sallyport/internal/store"
)

// TestDeployment_UnderWay: nothing takes the place of a deployment under way, neither
// another one nor the record of one that was refused.
func TestDeployment_UnderWay(t *testing.T) {
	w := newWorld(t)
	w.mustPut(rg, `{"location":"southcentralus"}`)
	first, err := w.deploy(as(admin), recordedCreate(t))
	w.must(err)
	again := templateOf(`{"type":"Microsoft.Network/publicIPAddresses","name":"again","location":"southcentralus","properties":{}}`)
	for name, body := range map[string]string{
		"another one":    again,
		"a refused part": templateOf(`{"type":"Microsoft.Network/publicIPAddresses","name":"again","location":"southcentralus","properties":{"nosuch":1}}`),
		"a refused name": templateOf(`{"type":"Microsoft.Network/publicIPAddresses","name":"a?","location":"southcentralus","properties":{}}`),
	} {
		_, err := w.deploy(as(admin), body)
		if f := fault.As(err); err == nil || f.Kind != fault.Conflict || f.Code != "DeploymentActive" || !strings.Contains(f.Remedy, "another name") {
			t.Errorf("%s: %v", name, err)
		}
		w.refused(err, "arm.DeploymentActive")
	}
	if w.exists(rg+"/providers/Microsoft.Network/publicIPAddresses/again") || w.status(first.Operation).Status != resource.InProgress {
		t.Error("something was made, or the first is not on its way any more")
	}
	w.settle(time.Minute)
	if s := w.status(first.Operation); s.Status != resource.Succeeded {
		t.Errorf("the first ended with %+v", s)
	}
	_, err = w.deploy(as(admin), again)
	w.must(err)
}

// TestDeployment_RecordGoes: that of one under way can be taken away, as its refusal
// says, and what it makes stays.
func TestDeployment_RecordGoes(t *testing.T) {
	w := newWorld(t)
	w.mustPut(rg, `{"location":"southcentralus"}`)
	_, err := w.deploy(as(admin), recordedCreate(t))
	w.must(err)
	_, err = w.engine.Delete(t.Context(), as(admin), resource.Request{ID: id(deployID)})
	w.must(err)
	w.settle(time.Minute)
	if w.exists(deployID) || !w.exists(vmID) {
		t.Errorf("the record is there: %v; its machine: %v", w.exists(deployID), w.exists(vmID))
	}
	_, err = w.deploy(as(admin), templateOf(`{"type":"Microsoft.Network/publicIPAddresses","name":"again","location":"southcentralus","properties":{}}`))
	w.must(err)
}

// TestDeployment_ReadsAreAudited: whoever has a template read what he may not is in
// the record, as if he had asked for it himself.
func TestDeployment_ReadsAreAudited(t *testing.T) {
	w := newWorld(t)
	w.mustPut(rg, `{"location":"southcentralus"}`)
	other := sub + "/resourceGroups/Other/providers/Microsoft.Network/publicIPAddresses/theirs"
	w.mustPut(sub+"/resourceGroups/Other", `{"location":"southcentralus"}`)
	w.mustPut(other, `{"location":"southcentralus","properties":{}}`)
	w.mustGrant(alice, contributor, rg)
	denied := func() (n int) {
		w.must(w.store.Read(t.Context(), func(tx *store.Tx) error {
			records, err := tx.AuditRecords(store.AuditFilter{Limit: 100})
			for _, r := range records {
				if r.Outcome == audit.Denied && r.Target == other {
					n++
				}
			}
			return err
		}))
		return n
	}
	part := templateOf(`{"type":"Microsoft.Network/publicIPAddresses","name":"mine","location":"southcentralus","tags":{"t":"[reference('` + other + `', '2024', 'Full').location]"},"properties":{}}`)
	output := `{"properties":{"mode":"Incremental","template":{"resources":[],"outputs":{"o":{"type":"string","value":"[reference('` + other + `', '2024', 'Full').location]"}}}}}`
	for i, body := range []string{part, output} {
		if _, err := w.deploy(as(alice), body); err == nil || fault.As(err).Code != "AuthorizationFailed" {
			t.Errorf("deploy: %v", err)
		}
		if n := denied(); n != i+1 {
			t.Errorf("%d refusals are audited, want %d", n, i+1)
		}
	}
	if _, err := w.deployments().Validate(t.Context(), as(alice), resource.Request{ID: id(deployID), Body: []byte(part)}); err == nil || denied() != 3 {
		t.Errorf("validate: %v, %d refusals are audited", err, denied())
	}
}

// TestAdminPassword_ValidateHashesNothing: what is only tried has no need of a hash.
func TestAdminPassword_ValidateHashesNothing(t *testing.T) {
	w := newWorld(t).withNetwork()
	set := strings.NewReplacer(`"disablePasswordAuthentication":true`, `"disablePasswordAuthentication":false`, `"adminUsername"`, `"adminPassword":"`+word+`","adminUsername"`).
		Replace(setBody(0, "Manual", key(t), login, person))
	body := templateOf(`{"type":"Microsoft.Compute/virtualMachineScaleSets","name":"m0",` + set[1:])
	validate := func(body string) error {
		_, err := w.deployments().Validate(t.Context(), as(admin), resource.Request{ID: id(deployID), Body: []byte(body)})
		return err
	}
	w.must(validate(body))
	if err := validate(strings.Replace(body, word, "short", 1)); code(err) != "InvalidParameter" {
		t.Errorf("a bad password: %v", err)
	}
	if n := w.hashed[0].Load() + w.hashed[1].Load(); n != 0 {
		t.Errorf("%d passwords were hashed", n)
	}
	_, err := w.deploy(as(admin), body)
	w.must(err)
	if err := validate(strings.Replace(body, word, word+"x", 1)); code(err) != "PropertyChangeNotAllowed" {
		t.Errorf("another password for what is there: %v", err)
	}
}
