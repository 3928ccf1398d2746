package cli

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/internal/cli/client"
	"sallyport/internal/fault"
)

// locationOf is --location, or the first one of the subscription.
func locationOf(ctx context.Context, s *client.Session, subscription string, in values) (string, error) {
	if location := in.text("location"); location != "" {
		return location, nil
	}
	all, err := s.List(ctx, call(http.MethodGet, "/subscriptions/"+subscription+"/locations"))
	var first struct {
		Name string `json:"name"`
	}
	if err != nil || len(all) == 0 || json.Unmarshal(all[0], &first) != nil {
		return "", usageError{"the following arguments are required: --location/-l"}
	}
	return first.Name, nil
}

// listAllImages asks the server, level by level, as az vm image list --all does.
func (a *app) listAllImages(ctx context.Context, s *client.Session, in values) error {
	subscription, err := subscriptionOf(s)
	if err != nil {
		return err
	}
	location, err := locationOf(ctx, s, subscription, in)
	if err != nil {
		return err
	}
	list := []any{}
	base := "/subscriptions/" + subscription + "/providers/Microsoft.Compute/locations/" + url.PathEscape(location) + "/publishers"
	err = eachName(ctx, s, base, in.text("publisher"), func(publisher, at string) error {
		return eachName(ctx, s, at+"/artifacttypes/vmimage/offers", in.text("offer"), func(offer, at string) error {
			return eachName(ctx, s, at+"/skus", in.text("sku"), func(sku, at string) error {
				versions, err := imageVersions(ctx, s, at)
				for _, v := range versions {
					list = append(list, map[string]any{"publisher": publisher, "offer": offer, "sku": sku, "version": v.Name, "architecture": v.Machine,
						"imageDeprecationStatus": v.Status, "urn": strings.Join([]string{publisher, offer, sku, v.Name}, ":")})
				}
				return err
			})
		})
	})
	if err != nil {
		return err
	}
	return a.print(list)
}

// eachName visits what is at a path and has part in its name.
func eachName(ctx context.Context, s *client.Session, path, part string, visit func(name, at string) error) error {
	all, err := names(ctx, s, path)
	if client.IsNotFound(err) {
		return nil
	}
	for _, name := range matching(all, part) {
		if err := visit(name, path+"/"+url.PathEscape(name)); err != nil {
			return err
		}
	}
	return err
}

// imageVersion is a version of an image, as its list shows it.
type imageVersion struct {
	Name    string `json:"name"`
	Machine string `json:"architecture"`
	Status  any    `json:"imageDeprecationStatus"`
}

func imageVersions(ctx context.Context, s *client.Session, sku string) ([]imageVersion, error) {
	c := call(http.MethodGet, sku+"/versions")
	c.Query = url.Values{"$expand": {"properties/imageDeprecationStatus"}}
	answer, err := s.Send(ctx, c)
	if err != nil {
		return nil, err
	}
	var list []struct {
		imageVersion
		Properties imageVersion `json:"properties"`
	}
	if err := json.Unmarshal(answer.Body, &list); err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "BadAnswer", "the server's answer cannot be read")
	}
	out := make([]imageVersion, 0, len(list))
	for _, v := range list {
		one := v.imageVersion
		if v.Properties.Status != nil {
			one.Status = v.Properties.Status
		}
		if one.Status == nil {
			one.Status = ""
		}
		out = append(out, one)
	}
	return out, nil
}

func (a *app) extensionImages() *cobra.Command {
	return leafFor("list", "List the extensions that can be installed.", []flag{
		{name: "location", short: "l", usage: "Location"}, {name: "publisher", short: "p", usage: "Publisher"}, {name: "name", short: "n", usage: "Name"},
		{name: "latest", kind: 'b', usage: "Only the newest version of each"},
	}, a.listExtensionImages)
}

func (a *app) listExtensionImages(ctx context.Context, in values) error {
	s, err := a.session(ctx)
	if err != nil {
		return err
	}
	subscription, err := subscriptionOf(s)
	if err != nil {
		return err
	}
	location, err := locationOf(ctx, s, subscription, in)
	if err != nil {
		return err
	}
	base := "/subscriptions/" + subscription + "/providers/Microsoft.Compute/locations/" + url.PathEscape(location) + "/publishers"
	publishers, err := names(ctx, s, base)
	if err != nil {
		return err
	}
	list := []any{}
	for _, p := range matching(publishers, in.text("publisher")) {
		types, err := names(ctx, s, base+"/"+url.PathEscape(p)+"/artifacttypes/vmextension/types")
		if err != nil {
			return err
		}
		for _, t := range matching(types, in.text("name")) {
			versions, err := names(ctx, s, base+"/"+url.PathEscape(p)+"/artifacttypes/vmextension/types/"+url.PathEscape(t)+"/versions")
			if err != nil {
				return err
			}
			for _, v := range wantedVersions(versions, in.on("latest")) {
				list = append(list, map[string]any{"publisher": p, "name": t, "version": v})
			}
		}
	}
	return a.print(list, columns("Name=name", "Publisher=publisher", "Version=version")...)
}

func matching(all []string, part string) []string {
	var out []string
	for _, s := range all {
		if strings.Contains(strings.ToLower(s), strings.ToLower(part)) {
			out = append(out, s)
		}
	}
	return out
}

func wantedVersions(versions []string, latest bool) []string {
	if !latest || len(versions) == 0 {
		return versions
	}
	best := versions[0]
	for _, v := range versions[1:] {
		if newer(v, best) {
			best = v
		}
	}
	return []string{best}
}
