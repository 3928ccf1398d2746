package cli

import (
	"strings"
	"testing"

	"sallyport/internal/handbooktest"
)

const setPath = rg + "/providers/Microsoft.Compute/virtualMachineScaleSets/S"

// TestVmss_Calls: each row sends what az sends (azure-wire-protocol.md 9.8).
func TestVmss_Calls(t *testing.T) {
	const q = "?api-version=2022-09-01"
	sends(t, []exchange{
		{"vmss list -g RG", `{"value":[]}`, "GET " + rg + "/providers/Microsoft.Compute/virtualMachineScaleSets" + q},
		{"vmss show -g RG -n S", `{}`, "GET " + setPath + q},
		{"vmss show -g RG -n S --instance-id 3", `{}`, "GET " + setPath + "/virtualMachines/3" + q},
		{"vmss show --ids " + setPath, `{}`, "GET " + setPath + q},
		{"vmss list-instances -g RG -n S --expand instanceView", `{"value":[]}`, "GET " + setPath + "/virtualMachines?%24expand=instanceView&api-version=2022-09-01"},
		{"vmss get-instance-view -g RG -n S --instance-id 3", `{}`, "GET " + setPath + "/virtualMachines/3/instanceView" + q},
		{"vmss scale -g RG -n S --new-capacity 3", `{}`, "PATCH " + setPath + q + ` {"sku":{"capacity":3}}`},
		{"vmss update-instances -g RG -n S --instance-ids 1 2", "202 ", "POST " + setPath + "/manualupgrade" + q + ` {"instanceIds":["1","2"]}`},
		{"vmss update-instances -g RG -n S --instance-ids *", "202 ", "POST " + setPath + "/manualupgrade" + q + ` {"instanceIds":["*"]}`},
		{"vmss delete-instances -g RG -n S --instance-ids 1", "202 ", "POST " + setPath + "/delete" + q + ` {"instanceIds":["1"]}`},
		{"vmss start -g RG -n S", "202 ", "POST " + setPath + "/start" + q},
		{"vmss stop -g RG -n S --instance-ids 1", "202 ", "POST " + setPath + "/powerOff" + q + ` {"instanceIds":["1"]}`},
		{"vmss delete -g RG -n S", "202 ", "DELETE " + setPath + q},
		{"vmss identity show -g RG -n S", `{"identity":{"type":"SystemAssigned"}}`, "GET " + setPath + q},
		{"vmss deallocate -g RG -n S --instance-ids 1", "202 ", "POST " + setPath + "/virtualMachines/1/deallocate" + q},
		{"vmss deallocate -g RG -n S --instance-ids 1 2", "202 ", "POST " + setPath + "/deallocate" + q + ` {"instanceIds":["1","2"]}`},
		{"vmss extension list -g RG --vmss-name S", `{"value":[]}`, "GET " + setPath + "/extensions" + q},
		{"vmss list-instance-connection-info -g RG -n S", `{"value":[]}`, "GET " + setPath + "/networkInterfaces" + q},
		{"session list -g RG -n S --instance-id 3", `{"value":[]}`, "GET /providers/Sallyport.Access/machineSessions" + q + "&machine=" + strings.ReplaceAll(setPath+"/virtualMachines/3", "/", "%2F")},
		{"access explain -g RG -n S --instance-id 3", `{}`, "GET " + setPath + "/virtualMachines/3/providers/Sallyport.Access/explain" + q},
	})
}

// What keeps people from an instance names what to run for it.
func TestVmss_SentencesBeforeSSH(t *testing.T) {
	const facts = `"machineId":"` + machineID + `","hostPrincipal":"` + machineID + `.machine.corp.example","loopbackAddress":"127.77.0.9","sshPort":22`
	for id, rest := range map[string]string{
		"LoginNotEnabled.old":     `"state":"running","snapshot":{"loginEnabled":false},"newModel":{"loginEnabled":true}`,
		"LoginNotEnabled.set":     `"state":"running","snapshot":{"loginEnabled":false}`,
		"MachineAbsent.instance":  `"state":"absent"`,
		"MachineStopped.instance": `"state":"stopped"`,
	} {
		f, p := signedIn(t)
		f.routes["GET "+setPath+"/virtualMachines/3"+accessMember] = `{"properties":{` + facts + "," + rest + `}}`
		r := p.run("ssh", "vm", "-g", "RG", "-n", "S", "--instance-id", "3")
		if r.code == 0 {
			t.Fatalf("%s: %v", id, r)
		}
		handbooktest.Said(t, r.err, id, "GROUP", "RG")
	}
}
