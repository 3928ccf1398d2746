package arm

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"sallyport/internal/cloud"
	"sallyport/internal/fault"
	"sallyport/internal/httpd"
	"sallyport/internal/resource"
	"sallyport/internal/resource/types"
)

// mountCatalog: what is the same for everybody.
func (h *Handler) mountCatalog(m *httpd.Mux) {
	m.Handle("arm.metadata.endpoints", h.metadata)
	m.Handle("arm.aliases", aliases)
	m.Handle("arm.providers.list", h.providers)
	m.Handle("arm.providers.get", h.provider)
	m.Handle("arm.providers.register", h.provider)
	m.Handle("arm.publishers.list", somewhere(publishers))
	m.Handle("arm.extensionTypes.list", somewhere(extensionTypes))
	m.Handle("arm.extensionVersions.list", somewhere(extensionVersions))
	m.Handle("arm.extensionVersions.get", somewhere(extensionVersion))
	m.Handle("arm.imageOffers.list", somewhere(imageOffers))
	m.Handle("arm.imageSKUs.list", somewhere(imageSKUs))
	m.Handle("arm.imageVersions.list", somewhere(imageVersions))
	m.Handle("arm.imageVersions.get", somewhere(imageVersion))
}

// metadata answers autodetection: an object in the 2015-01-01 shape, an array of
// clouds from 2019-05-01 on, and from 2022-09-01 on one cloud, as Azure does. The
// last is what newer clients read; they find the directory at the root of the
// host, as the Azure SDKs do, and older ones in the form that needs no discovery
// of Microsoft's own instances.
func (h *Handler) metadata(c *httpd.Call) error {
	url, version, name := h.cfg.URL, c.R.URL.Query().Get("api-version"), h.cfg.Cloud.Name
	authentication := map[string]any{"loginEndpoint": url + "/adfs", "audiences": []string{url + "/arm"}}
	if version < "2019" {
		return c.JSON(http.StatusOK, map[string]any{"galleryEndpoint": url + "/", "graphEndpoint": url + "/", "portalEndpoint": url + "/", "authentication": authentication})
	}
	listed := name
	if name == cloud.Global {
		listed = "AzureUSGovernment" // az 2.45.0 sends whoever it reads of as AzureCloud to Microsoft's own directory
	}
	shown := map[string]any{
		"name": listed, "authentication": authentication, "resourceManager": url, "graphAudience": url + "/", "graph": url + "/",
		"microsoftGraphResourceId": url + "/", "vmImageAliasDoc": url + "/aliases.json", "portal": url, "gallery": url + "/", "suffixes": map[string]any{},
	}
	if version < "2022-09-01" {
		return c.JSON(http.StatusOK, []any{shown})
	}
	shown["name"] = name
	authentication["loginEndpoint"], authentication["identityProvider"], authentication["tenant"] = url, "AAD", "common"
	authentication["audiences"] = append([]string{url + "/arm"}, h.cfg.Cloud.Management...)
	return c.JSON(http.StatusOK, shown)
}

// aliases is the document that az vm create reads image names from. Every entry
// needs an architecture.
func aliases(c *httpd.Call) error {
	linux := map[string]any{}
	for _, im := range types.Images() {
		linux[im.Alias] = map[string]any{"publisher": im.Publisher, "offer": im.Offer, "sku": im.SKU, "version": "latest", "architecture": "x64"}
	}
	return c.JSON(http.StatusOK, map[string]any{"outputs": map[string]any{"aliases": map[string]any{"type": "object", "value": map[string]any{"Linux": linux, "Windows": map[string]any{}}}}})
}

// somewhere refuses a catalogue of a location that does not exist.
func somewhere(next httpd.HandlerFunc) httpd.HandlerFunc {
	return func(c *httpd.Call) error {
		if at := c.Var("location"); !resource.Located(strings.ReplaceAll(at, " ", "")) {
			return fault.New(fault.Invalid, "NoRegisteredProviderFound", "No registered resource provider found for location '%.80s'.", at).WithRemedy("See: az account list-locations").WithTarget("location")
		}
		return next(c)
	}
}

// listing is how Azure's catalogues show a name.
func listing(c *httpd.Call, path, name string) map[string]any {
	return map[string]any{"id": "/Subscriptions/" + c.Var("subscription") + "/Providers/Microsoft.Compute/Locations/" + c.Var("location") + path, "location": c.Var("location"), "name": name}
}

func publishers(c *httpd.Call) error {
	seen := map[string]bool{}
	out := []map[string]any{}
	add := func(name string) {
		if !seen[name] {
			seen[name] = true
			out = append(out, listing(c, "/Publishers/"+name, name))
		}
	}
	for _, x := range types.Handlers() {
		add(x.Publisher)
	}
	for _, im := range types.Images() {
		add(im.Publisher)
	}
	return c.JSON(http.StatusOK, sortedBy(out, "name"))
}

func extensionTypes(c *httpd.Call) error {
	out := []map[string]any{}
	for _, x := range types.Handlers() {
		if strings.EqualFold(c.Var("publisher"), x.Publisher) {
			out = append(out, listing(c, extensionPath(x), x.Type))
		}
	}
	return c.JSON(http.StatusOK, out)
}

func extensionPath(x types.Handler) string {
	return "/Publishers/" + x.Publisher + "/ArtifactTypes/VMExtension/Types/" + x.Type
}

func extensionOf(c *httpd.Call) (types.Handler, error) {
	x, ok := types.FindHandler(c.Var("publisher"), c.Var("type"))
	if !ok {
		return x, noArtifact(c)
	}
	return x, nil
}

func noArtifact(c *httpd.Call) error {
	return fault.New(fault.NotFound, "ArtifactNotFound", "The VM extension with publisher '%.80s' and type '%.80s' could not be found in location '%.80s'.", c.Var("publisher"), c.Var("type"), c.Var("location")).
		WithRemedy("The extension here is %s of publisher %s.", types.LoginExtension, types.LoginPublisher)
}

func extensionProperties() map[string]any {
	return map[string]any{"operatingSystem": "Linux", "computeRole": "IaaS", "handlerSchema": "", "vmScaleSetEnabled": true, "supportsMultipleExtensions": false}
}

func imageProperties() map[string]any {
	return map[string]any{"osDiskImage": map[string]any{"operatingSystem": "Linux", "sizeInGb": 30}, "dataDiskImages": []any{}, "plan": nil, "hyperVGeneration": "V1", "architecture": "x64", "features": []any{}}
}

// oneVersion is the list of versions, of which there is one: it is the first of them in
// any order. az asks to have its properties shown, or a part of them; expands are
// what may be asked for.
func oneVersion(c *httpd.Call, path, version string, expands map[string]map[string]any) error {
	values, shown := c.R.URL.Query(), listing(c, path+"/Versions/"+version, version)
	if given := values.Get("$expand"); given != "" {
		properties, ok := expands[strings.ToLower(given)]
		if !ok {
			return notExpanded(given, strings.Join(slices.Sorted(maps.Keys(expands)), ", "))
		}
		shown["properties"] = properties
	}
	if _, err := readTop(values); err != nil {
		return err
	}
	switch by := strings.ToLower(values.Get("$orderby")); by {
	case "", "name", "name asc", "name desc":
	default:
		return fault.New(fault.Invalid, "InvalidParameter", "$orderby=%.80s is not supported here", by).WithRemedy("Versions are ordered by name.").WithTarget("$orderby")
	}
	return c.JSON(http.StatusOK, []map[string]any{shown})
}

func extensionVersions(c *httpd.Call) error {
	x, err := extensionOf(c)
	if err != nil {
		return err
	}
	return oneVersion(c, extensionPath(x), types.ExtensionVersion, map[string]map[string]any{"properties": extensionProperties()})
}

func extensionVersion(c *httpd.Call) error {
	x, err := extensionOf(c)
	if err != nil || c.Var("version") != types.ExtensionVersion {
		return noArtifact(c)
	}
	out := listing(c, extensionPath(x)+"/Versions/"+types.ExtensionVersion, types.ExtensionVersion)
	out["properties"] = extensionProperties()
	return c.JSON(http.StatusOK, out)
}

func image(c *httpd.Call) (types.Image, string, error) {
	im, ok := types.FindImage(c.Var("publisher"), c.Var("offer"), c.Var("sku"))
	if !ok {
		return im, "", fault.New(fault.NotFound, "NotFound", "Artifact: VMImage was not found.").WithRemedy("Use one of the aliases that are listed by: sally vm image list")
	}
	return im, "/Publishers/" + im.Publisher + "/ArtifactTypes/VMImage/Offers/" + im.Offer + "/Skus/" + im.SKU + "/Versions/" + im.Version, nil
}

func imageOffers(c *httpd.Call) error {
	out := []map[string]any{}
	for _, im := range types.Images() {
		if strings.EqualFold(im.Publisher, c.Var("publisher")) && !lists(out, im.Offer) {
			out = append(out, listing(c, "/Publishers/"+im.Publisher+"/ArtifactTypes/VMImage/Offers/"+im.Offer, im.Offer))
		}
	}
	return c.JSON(http.StatusOK, sortedBy(out, "name"))
}

func imageSKUs(c *httpd.Call) error {
	out := []map[string]any{}
	for _, im := range types.Images() {
		if strings.EqualFold(im.Publisher, c.Var("publisher")) && strings.EqualFold(im.Offer, c.Var("offer")) && !lists(out, im.SKU) {
			out = append(out, listing(c, "/Publishers/"+im.Publisher+"/ArtifactTypes/VMImage/Offers/"+im.Offer+"/Skus/"+im.SKU, im.SKU))
		}
	}
	return c.JSON(http.StatusOK, sortedBy(out, "name"))
}

func lists(list []map[string]any, name string) bool {
	return slices.ContainsFunc(list, func(m map[string]any) bool { return m["name"] == name })
}

func imageVersions(c *httpd.Call) error {
	im, path, err := image(c)
	if err != nil {
		return err
	}
	return oneVersion(c, strings.TrimSuffix(path, "/Versions/"+im.Version), im.Version, map[string]map[string]any{"properties": imageProperties(), "properties/imagedeprecationstatus": {"imageDeprecationStatus": map[string]any{"imageState": "Active"}}})
}

func imageVersion(c *httpd.Call) error {
	im, path, err := image(c)
	if err != nil {
		return err
	}
	if v := c.Var("version"); v != im.Version && !strings.EqualFold(v, "latest") {
		return fault.New(fault.NotFound, "NotFound", "Artifact: VMImage was not found.").WithRemedy("The version is %s.", im.Version)
	}
	out := listing(c, path, im.Version)
	out["properties"] = imageProperties()
	return c.JSON(http.StatusOK, out)
}

// sortedBy orders maps by a text field.
func sortedBy(list []map[string]any, field string) []map[string]any {
	slices.SortFunc(list, func(a, b map[string]any) int {
		x, _ := a[field].(string)
		y, _ := b[field].(string)
		return strings.Compare(x, y)
	})
	return list
}
