package types

import (
	"context"
	"encoding/json"
	"fmt"

	"sallyport/internal/resource"
	"sallyport/internal/scope"
)

// showScaleSet adds to the stored properties what the server knows. All of it may
// be written back: az changes a set by writing what it has read.
func showScaleSet(_ context.Context, v resource.View) (map[string]any, error) {
	var private setPrivate
	if err := v.Resource.ReadPrivate(&private); err != nil {
		return nil, err
	}
	p := map[string]any{}
	if err := v.Resource.ReadProperties(&p); err != nil {
		return nil, err
	}
	p["uniqueId"], p["timeCreated"] = private.UniqueID, v.Resource.CreatedAt
	if profile, ok := p["virtualMachineProfile"].(map[string]any); ok {
		linuxDisk(profile)
	}
	return p, nil
}

// linuxDisk says what every disk here is: az ssh asks before it connects.
func linuxDisk(p map[string]any) {
	s, ok := p["storageProfile"].(map[string]any)
	if !ok {
		return
	}
	disk, _ := s["osDisk"].(map[string]any)
	if disk == nil {
		disk = map[string]any{}
	}
	disk["osType"] = "Linux"
	s["osDisk"] = disk
}

// showInstance is an instance as Azure shows it.
func (m machines) showInstance(ctx context.Context, v resource.View) (map[string]any, error) {
	p, err := m.showVM(ctx, v)
	if err != nil {
		return nil, err
	}
	nics, err := instanceInterfaces(v.Resource)
	if err != nil {
		return nil, err
	}
	ids := make([]reference, 0, len(nics))
	for _, n := range nics {
		ids = append(ids, reference{ID: n.id.String()})
	}
	if was, ok := p["networkProfile"].(map[string]any); ok {
		p["networkProfileConfiguration"] = was
	}
	p["networkProfile"] = map[string]any{"networkInterfaces": ids}
	var private vmPrivate
	if err := v.Resource.ReadPrivate(&private); err != nil {
		return nil, err
	}
	p["modelDefinitionApplied"], p["latestModelApplied"] = "VirtualMachineScaleSet", private.Stale == nil
	return p, nil
}

type instanceInterface struct {
	id     scope.ID
	config setInterface
}

// instanceInterfaces are the network interfaces of an instance, which have no rows
// of their own.
func instanceInterfaces(r resource.Resource) (out []instanceInterface, err error) {
	var v vmProperties
	if err := r.ReadProperties(&v); err != nil || v.NetworkProfile == nil {
		return nil, err
	}
	var configs []setInterface
	if err := json.Unmarshal(v.NetworkProfile.InterfaceConfigurations, &configs); err != nil {
		return nil, fmt.Errorf("interfaces of %s: %w", r.ID, err)
	}
	for _, c := range configs {
		id, err := scope.Parse(r.ID.String() + "/networkInterfaces/" + c.Name)
		if err != nil {
			return nil, err
		}
		out = append(out, instanceInterface{id, c})
	}
	return out, nil
}

// InstanceInterfaces shows the network interfaces of an instance, with its
// address, in the shape of Azure's Microsoft.Network.
func InstanceInterfaces(r resource.Resource) ([]map[string]any, error) {
	list, err := instanceInterfaces(r)
	if err != nil {
		return nil, err
	}
	f, _ := FactsOf(r)
	out := []map[string]any{}
	for _, n := range list {
		configs := []map[string]any{}
		for _, c := range n.config.Properties.IPConfigurations {
			inner := map[string]any{"provisioningState": resource.Succeeded, "privateIPAllocationMethod": "Dynamic", "privateIPAddressVersion": "IPv4", "primary": true}
			if c.Properties.Subnet != nil {
				inner["subnet"] = c.Properties.Subnet
			}
			if f.PrivateAddress != "" {
				inner["privateIPAddress"] = f.PrivateAddress
			}
			configs = append(configs, map[string]any{"id": n.id.String() + "/ipConfigurations/" + c.Name, "name": c.Name, "properties": inner})
		}
		properties := map[string]any{"provisioningState": resource.Succeeded, "ipConfigurations": configs, "primary": true, "macAddress": macAddress(n.id),
			"virtualMachine": reference{ID: r.ID.String()}}
		if g := n.config.Properties.SecurityGroup; g != nil {
			properties["networkSecurityGroup"] = g
		}
		out = append(out, map[string]any{"id": n.id.String(), "name": n.config.Name, "etag": r.ETag, "location": r.Location, "properties": properties})
	}
	return out, nil
}
