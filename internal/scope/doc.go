// Package scope owns Azure Resource Manager ids: parsing, canonical case,
// parents, and the tree along which role assignments are inherited
// (management group -> subscription -> resource group -> resource -> child).
//
// It refuses: names outside ARM's alphabet, and any knowledge of what a
// resource is. Source: Azure Resource Manager "Resource ID" reference.
package scope
