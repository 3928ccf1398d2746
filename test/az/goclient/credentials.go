package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v6"
	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

// credentials signs in with the secret and with the certificate, and is refused
// with a wrong secret and in a tenant that is not there.
func (c *client) credentials(ctx context.Context) (azcore.TokenCredential, error) {
	scope := policy.TokenRequestOptions{Scopes: []string{c.URL + "/arm/.default"}}
	secret, err := azidentity.NewClientSecretCredential(c.Tenant, c.Application, c.Secret, &azidentity.ClientSecretCredentialOptions{ClientOptions: c.options(), DisableInstanceDiscovery: true})
	if err != nil {
		return nil, err
	}
	if _, err = secret.GetToken(ctx, scope); must("azidentity: client secret", err) != nil {
		return nil, err
	}
	pem, err := os.ReadFile(c.Certificate)
	if err != nil {
		return nil, err
	}
	certs, key, err := azidentity.ParseCertificates(pem, nil)
	if err != nil {
		return nil, err
	}
	certificate, err := azidentity.NewClientCertificateCredential(c.Tenant, c.Application, certs, key, &azidentity.ClientCertificateCredentialOptions{ClientOptions: c.options(), DisableInstanceDiscovery: true})
	if err != nil {
		return nil, err
	}
	if _, err = certificate.GetToken(ctx, scope); must("azidentity: client certificate", err) != nil {
		return nil, err
	}
	return certificate, errors.Join(c.wrongSecret(ctx, scope), c.wrongTenant(ctx, scope))
}

func (c *client) wrongSecret(ctx context.Context, scope policy.TokenRequestOptions) error {
	wrong, err := azidentity.NewClientSecretCredential(c.Tenant, c.Application, c.Secret+"x", &azidentity.ClientSecretCredentialOptions{ClientOptions: c.options(), DisableInstanceDiscovery: true})
	if err != nil {
		return err
	}
	_, err = wrong.GetToken(ctx, scope)
	var failed *azidentity.AuthenticationFailedError
	if !errors.As(err, &failed) || failed.RawResponse == nil || failed.RawResponse.StatusCode != 401 || !strings.Contains(err.Error(), "AADSTS7000215") {
		return fmt.Errorf("azidentity: a wrong secret: %w", errors.Join(err, errors.New("401 with AADSTS7000215 wanted")))
	}
	fmt.Println("ok azidentity: a wrong secret is refused with AADSTS7000215")
	return nil
}

func (c *client) wrongTenant(ctx context.Context, scope policy.TokenRequestOptions) error {
	away, err := azidentity.NewClientSecretCredential("11111111-2222-4333-8444-555555555555", c.Application, c.Secret, &azidentity.ClientSecretCredentialOptions{ClientOptions: c.options(), DisableInstanceDiscovery: true})
	if err != nil {
		return err
	}
	if _, err = away.GetToken(ctx, scope); err == nil || !strings.Contains(err.Error(), "AADSTS90002") {
		return fmt.Errorf("azidentity: another tenant: AADSTS90002 wanted, got %w", err)
	}
	fmt.Println("ok azidentity: another tenant is refused with AADSTS90002")
	return nil
}

// device is somebody's sign-in with a code that he enters elsewhere.
func (c *client) device(ctx context.Context) error {
	credential, err := azidentity.NewDeviceCodeCredential(&azidentity.DeviceCodeCredentialOptions{ClientOptions: c.options(), TenantID: c.Tenant, DisableInstanceDiscovery: true,
		UserPrompt: func(_ context.Context, m azidentity.DeviceCodeMessage) error {
			_, err := fmt.Println("code", m.VerificationURL, m.UserCode)
			return err
		}})
	if err != nil {
		return err
	}
	who, err := credential.Authenticate(ctx, &policy.TokenRequestOptions{Scopes: []string{c.URL + "/arm/.default"}})
	if err := must("azidentity: device code", err); err != nil {
		return err
	}
	if who.Username != c.Username || who.TenantID != c.Tenant {
		return fmt.Errorf("azidentity: signed in as %q of %q", who.Username, who.TenantID)
	}
	_, err = credential.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{c.URL + "/.default"}})
	return must("azidentity: a token for Graph from the same sign-in, silently", err)
}

// identity is that of the machine that this runs on.
func (c *client) identity(ctx context.Context) error {
	credential, err := azidentity.NewManagedIdentityCredential(nil)
	if err != nil {
		return err
	}
	machines, err := armcompute.NewVirtualMachinesClient(c.Subscription, credential, c.arm())
	if err != nil {
		return err
	}
	shown, err := machines.Get(ctx, c.MachineGroup, c.Machine, nil)
	if err := must("azidentity: managed identity, and a machine that it may read", err); err != nil {
		return err
	}
	if *shown.Name != c.Machine {
		return fmt.Errorf("armcompute: %q", *shown.Name)
	}
	other, err := azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{ID: azidentity.ClientID("11111111-2222-4333-8444-555555555555")})
	if err != nil {
		return err
	}
	if _, err := other.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{c.URL + "/arm/.default"}}); err == nil {
		return errors.New("azidentity: an identity that the machine does not have was given a token")
	}
	fmt.Println("ok azidentity: an identity that the machine does not have")
	return nil
}

// openID is a client that knows nothing of Azure: discovery, keys, and a token
// whose signature, issuer and audience its library checks.
func (c *client) openID(ctx context.Context) error {
	ctx = oidc.ClientContext(ctx, c.http)
	issuer := c.URL + "/" + c.Tenant + "/v2.0"
	provider, err := oidc.NewProvider(ctx, issuer)
	if err := must("go-oidc: discovery", err); err != nil {
		return err
	}
	config := clientcredentials.Config{ClientID: c.Application, ClientSecret: c.Secret, TokenURL: provider.Endpoint().TokenURL, Scopes: []string{c.URL + "/arm/.default"}}
	for _, style := range []oauth2.AuthStyle{oauth2.AuthStyleInHeader, oauth2.AuthStyleInParams} {
		config.AuthStyle = style
		token, err := config.Token(ctx)
		if err := must(fmt.Sprintf("x/oauth2: client credentials, style %d", style), err); err != nil {
			return err
		}
		verifier := provider.Verifier(&oidc.Config{SkipClientIDCheck: true})
		checked, err := verifier.Verify(ctx, token.AccessToken)
		if err := must("go-oidc: the signature, issuer and times of the access token", err); err != nil {
			return err
		}
		if checked.Subject == "" || len(checked.Audience) != 1 {
			return fmt.Errorf("subject %q, audience %q", checked.Subject, checked.Audience)
		}
		if _, err := verifier.Verify(ctx, token.AccessToken[:len(token.AccessToken)-4]+"AAAA"); err == nil {
			return errors.New("a changed signature was accepted")
		}
	}
	return nil
}
