// Package az drives the real Azure CLI, unmodified, against the real server over
// TLS: azure-cli 2.91.0 at pinned versions in a virtual environment of the cache
// (venv.sh), and Debian's own 2.45.0; and programs that use official SDKs (sdk.sh). It runs as root, with the build tag e2e,
// and asserts what az prints and does, never what our own client says of it.
package az
