package cli

import (
	"context"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/internal/cli/client"
	"sallyport/internal/scope"
)

func (a *app) resourceMove() *cobra.Command {
	cmd := leafFor("move", "Move resources to another resource group.", []flag{
		{name: "ids", kind: 'l', required: true, usage: "Space-separated resource IDs, all of one resource group"},
		{name: "destination-group", required: true, usage: "Name of the resource group to move to"},
		{name: "destination-subscription-id", usage: "Id of its subscription; else the current one"},
	}, a.moveResources)
	cmd.Long = "What is inside a resource goes along, and what refers to it is changed. Role assignments made at it do not go along:\nthey are deleted. On a machine those may log in who may in the new group; sessions of others end."
	return cmd
}

func (a *app) moveResources(ctx context.Context, in values) error {
	var ids []string
	var from scope.ID
	for _, text := range in.list("ids") {
		id, err := scope.Parse(strings.TrimSpace(text))
		if err != nil {
			return err
		}
		if id.ResourceGroupName() == "" {
			return usageError{"argument --ids: '" + text + "' is no resource of a resource group"}
		}
		group := scope.ResourceGroup(id.SubscriptionID(), id.ResourceGroupName())
		if !from.IsZero() && from.Key() != group.Key() {
			return usageError{"argument --ids: all resources should be under the same group"}
		}
		from, ids = group, append(ids, id.String())
	}
	s, err := a.session(ctx)
	if err != nil {
		return err
	}
	subscription := in.text("destination-subscription-id")
	if subscription == "" {
		subscription = s.Account().ID
	}
	target := scope.ResourceGroup(subscription, in.text("destination-group")).String()
	c := client.Call{Method: http.MethodPost, Path: from.String() + "/moveResources", Body: map[string]any{"resources": ids, "targetResourceGroup": target}}
	defer a.progress("Moving")()
	first, err := s.Send(ctx, c)
	if err != nil {
		return err
	}
	_, err = s.Await(ctx, c, first)
	return err
}
