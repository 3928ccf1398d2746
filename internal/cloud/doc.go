// Package cloud owns the names that tell Azure's clouds apart: those by which
// clients ask for Resource Manager, Graph and SSH certificates, and by which they
// call the cloud itself. It refuses names that no client knows, and knows no
// server's address.
package cloud
