// Command goclient drives a server with the Azure SDK for Go, unmodified, and
// with plain OpenID Connect and OAuth libraries. It is a module of its own so
// that none of them comes into Sallyport's. It reads a JSON document from
// standard input, prints a line for each thing that it has proved, and exits 1
// with the first that is not as the SDK's documentation says.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// task is what the test tells.
type task struct {
	Mode         string `json:"mode"` // what to prove: "resources", "device" or "identity"
	URL          string `json:"url"`
	Address      string `json:"address"` // where the URL's host is
	CA           string `json:"ca"`      // PEM file
	Tenant       string `json:"tenant"`
	Subscription string `json:"subscription"`
	Group        string `json:"group"` // to be made
	Location     string `json:"location"`
	Application  string `json:"application"`
	Secret       string `json:"secret"`
	Certificate  string `json:"certificate"` // PEM file with key and certificate
	Person       string `json:"person"`      // object id of somebody who gets a role
	Username     string `json:"username"`    // of who enters a device code
	Machine      string `json:"machine"`     // where this runs, in MachineGroup
	MachineGroup string `json:"machineGroup"`
	PublicKey    string `json:"publicKey"` // of the machine's administrator
}

// client is how all of the SDK reaches the server.
type client struct {
	task
	http  *http.Client
	cloud cloud.Configuration
}

func (c *client) options() policy.ClientOptions {
	return policy.ClientOptions{Cloud: c.cloud, Transport: c.http, Retry: policy.RetryOptions{MaxRetries: 1}}
}

func (c *client) arm() *arm.ClientOptions { return &arm.ClientOptions{ClientOptions: c.options()} }

func read() (*client, error) {
	c := &client{}
	if err := json.NewDecoder(os.Stdin).Decode(&c.task); err != nil {
		return nil, err
	}
	pem, err := os.ReadFile(c.CA)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New("no certificate in " + c.CA)
	}
	// The name is in no directory of names; nothing else is asked for, either.
	there := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, c.Address)
	}
	c.http = &http.Client{Timeout: time.Minute, Transport: &http.Transport{DialContext: there, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}}
	c.cloud = cloud.Configuration{ActiveDirectoryAuthorityHost: c.URL + "/", Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
		cloud.ResourceManager: {Endpoint: c.URL, Audience: c.URL + "/arm"},
	}}
	return c, nil
}

// must is the SDK's error with the code that the server sent.
func must(what string, err error) error {
	if err == nil {
		fmt.Println("ok", what)
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// refused wants this status and code from the server.
func refused(what string, err error, status int, code string) error {
	var answer *azcore.ResponseError
	if !errors.As(err, &answer) || answer.StatusCode != status || answer.ErrorCode != code {
		return fmt.Errorf("%s: %d %s wanted, got: %v", what, status, code, err)
	}
	fmt.Println("ok", what)
	return nil
}

func run() error {
	c, err := read()
	if err != nil {
		return err
	}
	ctx, stop := context.WithTimeout(context.Background(), 4*time.Minute)
	defer stop()
	switch c.Mode {
	case "device":
		return c.device(ctx)
	case "identity":
		return c.identity(ctx)
	}
	robot, err := c.credentials(ctx)
	if err != nil {
		return err
	}
	for _, step := range []func(context.Context, azcore.TokenCredential) error{c.resources, c.network, c.compute, c.authorization, c.groupDeleted} {
		if err := step(ctx, robot); err != nil {
			return err
		}
	}
	return c.openID(ctx)
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
