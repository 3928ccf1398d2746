// Package graph serves the directory as Microsoft Graph v1.0 does: users,
// groups, applications, service principals, directory objects, directory roles
// and the organization, in the shapes that the Azure CLI and the Graph SDKs
// read. Source: Microsoft Graph REST API v1.0 reference.
//
// It refuses: decisions (the services behind it authorize), query options and
// filters that it does not understand (ignoring one would answer another
// question than was asked), and properties that it cannot honour.
package graph
