package types

import "strings"

// Versions are the API versions that catalogues show of a resource type, the newest
// first; nil for a namespace that nothing is registered in. They are those that
// clients have been seen to ask with, and tell a client that has no version of its
// own which one to take. The answer is the same in each, see docs/how-to/azure-cli.md.
func Versions(kind string) []string {
	namespace, _, _ := strings.Cut(kind, "/")
	switch strings.ToLower(namespace) {
	case "microsoft.authorization":
		return []string{"2022-04-01", "2020-10-01-preview", "2018-01-01-preview"}
	case "microsoft.compute":
		return []string{"2026-04-01", "2024-11-01", "2024-07-01", "2022-11-01", "2020-06-01", "2019-07-01"}
	case "microsoft.hybridcompute":
		return []string{"2024-07-10", "2022-12-27", "2021-05-20"}
	case "microsoft.managedidentity":
		return []string{"2023-01-31", "2018-11-30"}
	case "microsoft.management":
		return []string{"2021-04-01", "2020-05-01"}
	case "microsoft.network":
		return []string{"2024-05-01", "2022-01-01", "2018-11-01"}
	case "microsoft.resources":
		return []string{"2024-11-01", "2022-09-01", "2020-10-01", "2016-06-01"}
	case "sallyport.access":
		return []string{"2026-01-01"}
	}
	return nil
}
