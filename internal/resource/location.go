package resource

import (
	"slices"
	"strings"

	"sallyport/internal/fault"
)

// Location is a region of Azure's, as clients name it. Here it is a label: it says
// nothing about where anything runs.
type Location struct{ Name, DisplayName string }

// Locations are those that a resource can be made in, by name: the regions of all of
// Azure's clouds, so that a template or a script names what it is used to.
// https://learn.microsoft.com/azure/reliability/regions-list
func Locations() []Location {
	var out []Location
	for _, display := range []string{
		"Australia Central", "Australia Central 2", "Australia East", "Australia Southeast", "Austria East", "Brazil South", "Brazil Southeast", "Canada Central", "Canada East",
		"Central India", "Central US", "Chile Central", "China East", "China East 2", "China North", "China North 2", "China North 3", "East Asia", "East US", "East US 2",
		"France Central", "France South", "Germany North", "Germany West Central", "Indonesia Central", "Israel Central", "Italy North", "Japan East", "Japan West",
		"Jio India Central", "Jio India West", "Korea Central", "Korea South", "Malaysia West", "Mexico Central", "New Zealand North", "North Central US", "North Europe",
		"Norway East", "Norway West", "Poland Central", "Qatar Central", "South Africa North", "South Africa West", "South Central US", "South India", "Southeast Asia",
		"Spain Central", "Sweden Central", "Switzerland North", "Switzerland West", "UAE Central", "UAE North", "UK South", "UK West", "USDoD Central", "USDoD East",
		"USGov Arizona", "USGov Texas", "USGov Virginia", "West Central US", "West Europe", "West India", "West US", "West US 2", "West US 3",
	} {
		out = append(out, Location{strings.ToLower(strings.ReplaceAll(display, " ", "")), display})
	}
	slices.SortFunc(out, func(a, b Location) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Located reports whether a name, in Azure's short form and any case, is a location.
func Located(name string) bool {
	return slices.ContainsFunc(Locations(), func(l Location) bool { return strings.EqualFold(l.Name, name) })
}

// available refuses to make something where nothing is. What exists stays where it is.
func available(t *Type, location string) error {
	if Located(location) {
		return nil
	}
	var names []string
	for _, l := range Locations() {
		names = append(names, l.Name)
	}
	if t.Name == TypeGroup {
		return fault.New(fault.Invalid, "LocationNotAvailableForResourceGroup", "The provided location '%s' is not available for resource group. List of available regions is '%s'.", clip(location), strings.Join(names, ",")).
			WithRemedy("See: az account list-locations").WithTarget("location")
	}
	return fault.New(fault.Invalid, "LocationNotAvailableForResourceType", "The provided location '%s' is not available for resource type '%s'. List of available regions for the resource type is '%s'.", clip(location), t.Name, strings.Join(names, ",")).
		WithRemedy("See: az account list-locations").WithTarget("location")
}
