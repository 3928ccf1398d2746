package cli

import "net/http"

// revocationVerbs: what was taken away from people on machines, and which
// machines know.
func revocationVerbs() []verb {
	const path = "/providers/Sallyport.Access/revocations"
	table := columns("At=properties.at", "Type=properties.type", "Target=properties.target", "What=properties.what", "By=properties.byName || properties.by", "Acknowledged=properties.acknowledged", "MachinesWaiting=properties.machinesWaiting", "Id=name")
	return []verb{
		{path: "access revocation list", short: "List what was taken away from people on machines, and how many machines have not acknowledged it.", method: http.MethodGet, url: path, list: true, columns: table},
		{
			path: "access revocation show", short: "Show a revocation with the machines that have not acknowledged it.", method: http.MethodGet, url: path + "/{id}", columns: table,
			flags: []flag{{name: "id", required: true, usage: "Id of the revocation, as the list shows it"}},
		},
	}
}
