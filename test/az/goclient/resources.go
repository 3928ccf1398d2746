package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/authorization/armauthorization/v2"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v6"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v6"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armresources"
)

var often = &runtime.PollUntilDoneOptions{Frequency: time.Second}

// names collects what a pager gives, page after page.
func names[T any](ctx context.Context, pager *runtime.Pager[T], of func(T) []*string) ([]string, error) {
	var all []string
	for pager.More() {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, name := range of(page) {
			all = append(all, *name)
		}
	}
	return all, nil
}

func has(what string, list []string, name string, err error) error {
	if err == nil {
		err = fmt.Errorf("%s is not among %q", name, list)
		for _, one := range list {
			if strings.EqualFold(one, name) {
				err = nil
			}
		}
	}
	return must(what, err)
}

func (c *client) resources(ctx context.Context, cred azcore.TokenCredential) error {
	groups, err := armresources.NewResourceGroupsClient(c.Subscription, cred, c.arm())
	if err != nil {
		return err
	}
	made, err := groups.CreateOrUpdate(ctx, c.Group, armresources.ResourceGroup{Location: &c.Location, Tags: map[string]*string{"made by": to.Ptr("sdk")}}, nil)
	if err := must("armresources: a group is made", err); err != nil {
		return err
	}
	if *made.Properties.ProvisioningState != "Succeeded" || *made.Tags["made by"] != "sdk" {
		return fmt.Errorf("the group is %q with the tag %q", *made.Properties.ProvisioningState, *made.Tags["made by"])
	}
	list, err := names(ctx, groups.NewListPager(&armresources.ResourceGroupsClientListOptions{Top: to.Ptr[int32](1)}), func(p armresources.ResourceGroupsClientListResponse) (n []*string) {
		for _, g := range p.Value {
			n = append(n, g.Name)
		}
		return n
	})
	if err := has("armresources: groups, a page for each", list, c.Group, err); err != nil {
		return err
	}
	_, err = groups.Get(ctx, "nowhere", nil)
	if err := refused("armresources: a group that is not there", err, http.StatusNotFound, "ResourceGroupNotFound"); err != nil {
		return err
	}
	_, err = groups.CreateOrUpdate(ctx, "bad name?", armresources.ResourceGroup{Location: &c.Location}, nil)
	var answer *azcore.ResponseError
	if !errors.As(err, &answer) || answer.StatusCode != http.StatusBadRequest {
		return fmt.Errorf("armresources: a bad name: 400 wanted, got %w", err)
	}
	return nil
}

func (c *client) id(words ...string) *string {
	id := "/subscriptions/" + c.Subscription + "/resourceGroups/" + c.Group
	for _, w := range words {
		id += "/" + w
	}
	return &id
}

func (c *client) network(ctx context.Context, cred azcore.TokenCredential) error {
	networks, err := armnetwork.NewVirtualNetworksClient(c.Subscription, cred, c.arm())
	if err != nil {
		return err
	}
	interfaces, err := armnetwork.NewInterfacesClient(c.Subscription, cred, c.arm())
	if err != nil {
		return err
	}
	making, err := networks.BeginCreateOrUpdate(ctx, c.Group, "net", armnetwork.VirtualNetwork{Location: &c.Location, Properties: &armnetwork.VirtualNetworkPropertiesFormat{
		AddressSpace: &armnetwork.AddressSpace{AddressPrefixes: []*string{to.Ptr("10.0.0.0/16")}},
		Subnets:      []*armnetwork.Subnet{{Name: to.Ptr("inner"), Properties: &armnetwork.SubnetPropertiesFormat{AddressPrefix: to.Ptr("10.0.0.0/24")}}},
	}}, nil)
	if err != nil {
		return must("armnetwork: a network", err)
	}
	made, err := making.PollUntilDone(ctx, often)
	if err := must("armnetwork: a network is made, poller", err); err != nil {
		return err
	}
	card, err := interfaces.BeginCreateOrUpdate(ctx, c.Group, "card", armnetwork.Interface{Location: &c.Location, Properties: &armnetwork.InterfacePropertiesFormat{
		IPConfigurations: []*armnetwork.InterfaceIPConfiguration{{Name: to.Ptr("ip"), Properties: &armnetwork.InterfaceIPConfigurationPropertiesFormat{
			Subnet: &armnetwork.Subnet{ID: made.Properties.Subnets[0].ID}, PrivateIPAllocationMethod: to.Ptr(armnetwork.IPAllocationMethodDynamic)}}},
	}}, nil)
	if err != nil {
		return must("armnetwork: an interface", err)
	}
	if _, err := card.PollUntilDone(ctx, often); must("armnetwork: an interface is made, poller", err) != nil {
		return err
	}
	list, err := names(ctx, interfaces.NewListPager(c.Group, nil), func(p armnetwork.InterfacesClientListResponse) (n []*string) {
		for _, i := range p.Value {
			n = append(n, i.Name)
		}
		return n
	})
	return has("armnetwork: interfaces, pager", list, "card", err)
}

func (c *client) machine() armcompute.VirtualMachine {
	return armcompute.VirtualMachine{Location: &c.Location, Identity: &armcompute.VirtualMachineIdentity{Type: to.Ptr(armcompute.ResourceIdentityTypeSystemAssigned)}, Properties: &armcompute.VirtualMachineProperties{
		HardwareProfile: &armcompute.HardwareProfile{VMSize: to.Ptr(armcompute.VirtualMachineSizeTypesStandardD2SV3)},
		OSProfile: &armcompute.OSProfile{ComputerName: to.Ptr("sdk-vm"), AdminUsername: to.Ptr("azureuser"), LinuxConfiguration: &armcompute.LinuxConfiguration{DisablePasswordAuthentication: to.Ptr(true),
			SSH: &armcompute.SSHConfiguration{PublicKeys: []*armcompute.SSHPublicKey{{Path: to.Ptr("/home/azureuser/.ssh/authorized_keys"), KeyData: &c.PublicKey}}}}},
		StorageProfile: &armcompute.StorageProfile{ImageReference: &armcompute.ImageReference{Publisher: to.Ptr("Canonical"), Offer: to.Ptr("UbuntuServer"), SKU: to.Ptr("18.04-LTS"), Version: to.Ptr("latest")},
			OSDisk: &armcompute.OSDisk{CreateOption: to.Ptr(armcompute.DiskCreateOptionTypesFromImage)}},
		NetworkProfile: &armcompute.NetworkProfile{NetworkInterfaces: []*armcompute.NetworkInterfaceReference{{ID: c.id("providers/Microsoft.Network/networkInterfaces/card"), Properties: &armcompute.NetworkInterfaceReferenceProperties{Primary: to.Ptr(true)}}}},
	}}
}

func (c *client) compute(ctx context.Context, cred azcore.TokenCredential) error {
	machines, err := armcompute.NewVirtualMachinesClient(c.Subscription, cred, c.arm())
	if err != nil {
		return err
	}
	making, err := machines.BeginCreateOrUpdate(ctx, c.Group, "sdkVM", c.machine(), nil)
	if err != nil {
		return must("armcompute: a machine", err)
	}
	// A poller survives its process.
	kept, err := making.ResumeToken()
	if err != nil {
		return must("armcompute: a token to resume by", err)
	}
	again, err := machines.BeginCreateOrUpdate(ctx, c.Group, "sdkVM", armcompute.VirtualMachine{}, &armcompute.VirtualMachinesClientBeginCreateOrUpdateOptions{ResumeToken: kept})
	if err != nil {
		return must("armcompute: a poller that is resumed", err)
	}
	made, err := again.PollUntilDone(ctx, often)
	if err := must("armcompute: a machine is made, poller resumed", err); err != nil {
		return err
	}
	if *made.Properties.ProvisioningState != "Succeeded" || *made.Identity.PrincipalID == "" || *made.ID == "" {
		return fmt.Errorf("the machine is %+v", made.VirtualMachine)
	}
	if err := c.extended(ctx, cred); err != nil {
		return err
	}
	off, err := machines.BeginPowerOff(ctx, c.Group, "sdkVM", nil)
	if err != nil {
		return must("armcompute: power off", err)
	}
	if _, err := off.PollUntilDone(ctx, often); must("armcompute: power off, poller", err) != nil {
		return err
	}
	view, err := machines.InstanceView(ctx, c.Group, "sdkVM", nil)
	if err != nil {
		return must("armcompute: the instance view", err)
	}
	state := ""
	for _, s := range view.Statuses {
		if strings.HasPrefix(*s.Code, "PowerState/") {
			state = *s.Code
		}
	}
	if state != "PowerState/stopped" {
		return fmt.Errorf("after power off: %s", state)
	}
	list, err := names(ctx, machines.NewListAllPager(nil), func(p armcompute.VirtualMachinesClientListAllResponse) (n []*string) {
		for _, m := range p.Value {
			n = append(n, m.Name)
		}
		return n
	})
	if err := has("armcompute: all machines, pager", list, "sdkVM", err); err != nil {
		return err
	}
	_, err = machines.Get(ctx, c.Group, "nobody", nil)
	if err := refused("armcompute: a machine that is not there", err, http.StatusNotFound, "ResourceNotFound"); err != nil {
		return err
	}
	wrong := c.machine()
	wrong.Properties.StorageProfile.ImageReference.Offer = to.Ptr("NoSuchOffer")
	_, err = machines.BeginCreateOrUpdate(ctx, c.Group, "other", wrong, nil)
	return refused("armcompute: an image that is not there", err, http.StatusNotFound, "PlatformImageNotFound")
}

func (c *client) extended(ctx context.Context, cred azcore.TokenCredential) error {
	extensions, err := armcompute.NewVirtualMachineExtensionsClient(c.Subscription, cred, c.arm())
	if err != nil {
		return err
	}
	setting, err := extensions.BeginCreateOrUpdate(ctx, c.Group, "sdkVM", "AADSSHLoginForLinux", armcompute.VirtualMachineExtension{Location: &c.Location, Properties: &armcompute.VirtualMachineExtensionProperties{
		Publisher: to.Ptr("Microsoft.Azure.ActiveDirectory"), Type: to.Ptr("AADSSHLoginForLinux"), TypeHandlerVersion: to.Ptr("1.0"), AutoUpgradeMinorVersion: to.Ptr(true)}}, nil)
	if err != nil {
		return must("armcompute: the extension", err)
	}
	set, err := setting.PollUntilDone(ctx, often)
	if err := must("armcompute: the extension is set, poller", err); err != nil {
		return err
	}
	if *set.Properties.ProvisioningState != "Succeeded" {
		return fmt.Errorf("the extension is %s", *set.Properties.ProvisioningState)
	}
	return nil
}

func (c *client) authorization(ctx context.Context, cred azcore.TokenCredential) error {
	definitions, err := armauthorization.NewRoleDefinitionsClient(cred, c.arm())
	if err != nil {
		return err
	}
	assignments, err := armauthorization.NewRoleAssignmentsClient(c.Subscription, cred, c.arm())
	if err != nil {
		return err
	}
	scope := *c.id("providers/Microsoft.Compute/virtualMachines/sdkVM")
	roles, err := names(ctx, definitions.NewListPager(scope, &armauthorization.RoleDefinitionsClientListOptions{Filter: to.Ptr("roleName eq 'Virtual Machine User Login'")}), func(p armauthorization.RoleDefinitionsClientListResponse) (n []*string) {
		for _, r := range p.Value {
			n = append(n, r.ID)
		}
		return n
	})
	if err != nil || len(roles) != 1 {
		return fmt.Errorf("armauthorization: one role wanted, got %q: %w", roles, err)
	}
	name := "0f8fad5b-d9cb-469f-a165-70867728950e"
	made, err := assignments.Create(ctx, scope, name, armauthorization.RoleAssignmentCreateParameters{Properties: &armauthorization.RoleAssignmentProperties{
		PrincipalID: &c.Person, RoleDefinitionID: &roles[0], PrincipalType: to.Ptr(armauthorization.PrincipalTypeUser)}}, nil)
	if err := must("armauthorization: an assignment is made", err); err != nil {
		return err
	}
	_, err = assignments.Create(ctx, scope, "1f8fad5b-d9cb-469f-a165-70867728950e", armauthorization.RoleAssignmentCreateParameters{Properties: made.Properties}, nil)
	if err := refused("armauthorization: the same again", err, http.StatusConflict, "RoleAssignmentExists"); err != nil {
		return err
	}
	list, err := names(ctx, assignments.NewListForScopePager(scope, &armauthorization.RoleAssignmentsClientListForScopeOptions{Filter: to.Ptr("atScope()")}), func(p armauthorization.RoleAssignmentsClientListForScopeResponse) (n []*string) {
		for _, a := range p.Value {
			n = append(n, a.Name)
		}
		return n
	})
	if err := has("armauthorization: assignments at the scope, pager", list, name, err); err != nil {
		return err
	}
	_, err = assignments.Delete(ctx, scope, name, nil)
	return must("armauthorization: the assignment is deleted", err)
}

// groupDeleted takes everything with it.
func (c *client) groupDeleted(ctx context.Context, cred azcore.TokenCredential) error {
	groups, err := armresources.NewResourceGroupsClient(c.Subscription, cred, c.arm())
	if err != nil {
		return err
	}
	deleting, err := groups.BeginDelete(ctx, c.Group, nil)
	if err != nil {
		return must("armresources: delete", err)
	}
	if _, err := deleting.PollUntilDone(ctx, often); must("armresources: the group is deleted with its machine, poller", err) != nil {
		return err
	}
	gone, err := groups.CheckExistence(ctx, c.Group, nil)
	if err == nil && gone.Success {
		err = errors.New("it is still there")
	}
	return must("armresources: the group is gone", err)
}
