package cli

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/internal/cli/client"
)

// repositoryScript prints what makes a machine trust the server's packages. It
// asks only for what everybody may have, so that a sign-in is not needed.
func (a *app) repositoryScript() *cobra.Command {
	flags := []flag{
		{name: "type", usage: "Package manager of the machine: apt or dnf (yum, zypper)", required: true},
		{name: "server", usage: "Server, https://HOST#THUMBPRINT; without it the one that is signed in to"},
	}
	cmd := leafFor("script", "Print a shell script that lets a machine install packages from the server.", flags, func(ctx context.Context, in values) error {
		write := map[string]func(client.Repository) (string, error){"apt": aptScript, "dnf": dnfScript}[in.text("type")]
		if write == nil {
			return usageError{"--type is apt or dnf, not '" + in.text("type") + "'"}
		}
		s, err := a.serverOf(ctx, in.text("server"))
		if err != nil {
			return err
		}
		r, err := s.Repository(ctx)
		if err != nil {
			return err
		}
		text, err := write(r)
		if err != nil {
			return err
		}
		_, err = fmt.Fprint(a.cfg.Stdout, text)
		return err
	})
	cmd.Example = "  sally repository script --type apt | ssh root@web-1 sh"
	return cmd
}

// serverOf connects to a server, or resumes the one of the profile.
func (a *app) serverOf(ctx context.Context, address string) (*client.Server, error) {
	cfg, err := a.clientConfig()
	if err != nil {
		return nil, err
	}
	if address != "" {
		return client.Connect(ctx, cfg, address)
	}
	p, err := a.readProfile()
	if err != nil {
		return nil, err
	}
	r, ok := p.Record(p.Server)
	if !ok {
		return nil, client.ErrNoToken()
	}
	return client.Resume(cfg, r)
}

// here is a file of the script. No line of the contents is the end mark: they are
// armor, PEM and lines of ours.
func here(path, text string) string {
	return "cat >" + path + " <<'SALLYPORT_END'\n" + strings.TrimSuffix(text, "\n") + "\nSALLYPORT_END\n"
}

const scriptHead = "#!/bin/sh\n# Lets this machine install packages of %s. Run it as root.\nset -eu\numask 022\n"

func aptScript(r client.Repository) (string, error) {
	u, err := url.Parse(r.URL)
	if err != nil {
		return "", err
	}
	text := fmt.Sprintf(scriptHead, u.Host) + "mkdir -p /etc/apt/keyrings /etc/apt/sources.list.d /etc/apt/apt.conf.d\n" + here("/etc/apt/keyrings/sallyport.asc", r.Key)
	if r.Root != nil {
		text += here("/etc/apt/keyrings/sallyport-tls.pem", string(r.Root)) +
			here("/etc/apt/apt.conf.d/80sallyport", fmt.Sprintf("Acquire::https::%s::CaInfo \"/etc/apt/keyrings/sallyport-tls.pem\";", u.Hostname()))
	}
	return text + here("/etc/apt/sources.list.d/sallyport.sources",
		"Types: deb\nURIs: "+r.URL+"deb\nSuites: stable\nComponents: main\nSigned-By: /etc/apt/keyrings/sallyport.asc"), nil
}

func dnfScript(r client.Repository) (string, error) {
	u, err := url.Parse(r.URL)
	if err != nil {
		return "", err
	}
	// The signature of repomd.xml covers every package by its hash, as InRelease
	// does for apt; packages bear none of their own.
	repo := "[sallyport]\nname=Sallyport packages of " + u.Host + "\nbaseurl=" + r.URL + "rpm\nenabled=1\nrepo_gpgcheck=1\ngpgcheck=0\ngpgkey=file:///etc/pki/rpm-gpg/RPM-GPG-KEY-sallyport\n"
	text := fmt.Sprintf(scriptHead, u.Host) + "mkdir -p /etc/pki/rpm-gpg /etc/yum.repos.d\n" + here("/etc/pki/rpm-gpg/RPM-GPG-KEY-sallyport", r.Key)
	if r.Root != nil {
		text += here("/etc/pki/rpm-gpg/sallyport-tls.pem", string(r.Root))
		repo += "sslverify=1\nsslcacert=/etc/pki/rpm-gpg/sallyport-tls.pem\n"
	}
	return text + here("/etc/yum.repos.d/sallyport.repo", repo), nil
}
