// Package machine is the edge of the machine protocol: HTTP in, the machine
// domain behind it. The doors are httpd's; a bearer token opens nothing here.
//
// It refuses: decisions. It decodes, calls, encodes.
package machine
