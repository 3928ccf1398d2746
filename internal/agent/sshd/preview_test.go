package sshd

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

func previewed() Wanted {
	w := wanted()
	w.Preview = true
	return w
}

// TestPreview_OnlyOursTalk: PAM's conversation is for the names of our Match alone,
// also where an old OpenSSH has one switch for everybody, and a removal restores
// every byte.
func TestPreview_OnlyOursTalk(t *testing.T) {
	closedBehind := strings.Replace(mainConfig, "UsePAM yes\n", "ChallengeResponseAuthentication no\nUsePAM yes\n", 1)
	for _, c := range []struct {
		name, config string
		manner       manner
		want         []string
		not          string
		dropIn       string // another one of the machine's
	}{
		{"OpenSSH 8.7 and later", mainConfig, manner{preview: true}, nil, "ChallengeResponseAuthentication", ""},
		{"older, closed", "ChallengeResponseAuthentication no\n" + mainConfig, manner{preview: true, old: true, closed: true},
			[]string{"ChallengeResponseAuthentication yes\nMatch User", "Match all\n  KbdInteractiveAuthentication no\n"}, "", ""},
		{"older, open", "ChallengeResponseAuthentication yes\n" + mainConfig, manner{preview: true, old: true}, []string{"ChallengeResponseAuthentication yes\nMatch User"}, "Match all", ""},
		{"older, closed inside a Match alone", mainConfig + "  KbdInteractiveAuthentication no\n", manner{preview: true, old: true}, nil, "Match all", ""},
		// Debian 11 says no behind its Include, so that a drop-in has the word: local
		// people who log in so would be locked out.
		{"older, a drop-in opens it", closedBehind, manner{preview: true, old: true}, nil, "Match all", "ChallengeResponseAuthentication yes\n"},
		{"older, a drop-in closes it", strings.Replace(closedBehind, "tion no", "tion yes", 1), manner{preview: true, old: true},
			[]string{"Match all\n  KbdInteractiveAuthentication no\n"}, "", "ChallengeResponseAuthentication no\n"},
		{"older, the other keyword says nothing", "KbdInteractiveAuthentication no\n" + mainConfig, manner{preview: true, old: true}, nil, "Match all", ""},
		{"older, the other keyword opens nothing", "KbdInteractiveAuthentication yes\nChallengeResponseAuthentication no\n" + mainConfig, manner{preview: true, old: true},
			[]string{"Match all\n  KbdInteractiveAuthentication no\n"}, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			root, f, w := machineRoot(t)
			put(t, root, mainPath, c.config)
			put(t, root, dropInFolder+"/50-own.conf", c.dropIn)
			f.manner = c.manner
			before := picture(t, root)
			if err := w.Apply(context.Background(), previewed()); err != nil {
				t.Fatal(err)
			}
			text := read(t, root, dropInPath)
			for _, x := range append(c.want, "  AuthenticationMethods keyboard-interactive:pam\n  PubkeyAuthentication no\n  KbdInteractiveAuthentication yes\n") {
				if !strings.Contains(strings.ReplaceAll(text, "HostCertificate "+HostCertificatePath+"\n", ""), x) {
					t.Errorf("lacks %q:\n%s", x, text)
				}
			}
			if c.not != "" && strings.Contains(text, c.not) {
				t.Errorf("has %q:\n%s", c.not, text)
			}
			if pam := read(t, root, pamFolder+"/sshd"); !strings.HasPrefix(pam, begin+"\nauth  [success=done ignore=ignore module_unknown=ignore default=die]  pam_sallyport.so domains=corp.example,b.example\n"+end+"\n@include common-auth\n") {
				t.Errorf("sshd: %s", pam)
			}
			if sudo := read(t, root, pamFolder+"/sudo"); strings.Contains(sudo, "auth  [success=done") {
				t.Errorf("sudo asks for an approval: %s", sudo)
			}
			// The other version of the extension takes the place of this one, and back.
			f.manner = manner{}
			if err := w.Apply(context.Background(), wanted()); err != nil || strings.Contains(read(t, root, dropInPath), "keyboard") || strings.Contains(read(t, root, pamFolder+"/sshd"), "auth  [") {
				t.Errorf("%v", err)
			}
			f.manner = c.manner
			if err := w.Apply(context.Background(), previewed()); err != nil {
				t.Fatal(err)
			}
			if err := w.Remove(context.Background()); err != nil || picture(t, root) != before {
				t.Errorf("not restored: %v\n%s", err, picture(t, root))
			}
		})
	}
}

// TestPreview_DriftIsSeen: each value of ours that another line sets is told.
func TestPreview_DriftIsSeen(t *testing.T) {
	for key, value := range map[string]string{"kbdinteractiveauthentication": "no", "authenticationmethods": "any", "pubkeyauthentication": "yes", "passwordauthentication": "yes"} {
		_, f, w := machineRoot(t)
		f.manner = manner{preview: true}
		if err := w.Apply(context.Background(), previewed()); err != nil {
			t.Fatal(err)
		}
		f.refuse = map[string]string{key: value}
		if err := w.Check(context.Background(), previewed()); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s %s: %v", key, value, err)
		}
	}
}

func TestPreview_AuthLinesComeFirst(t *testing.T) {
	own := pamAuth([]string{"a.example"})
	for name, c := range map[string][2]string{
		"Debian":     {"# c\n@include common-auth\naccount required x.so\n", "# c\n" + own + "@include common-auth\naccount required x.so\n"},
		"Red Hat":    {"#%PAM-1.0\nauth substack password-auth\n", "#%PAM-1.0\n" + own + "auth substack password-auth\n"},
		"with minus": {"account required x.so\n-auth optional y.so\n", "account required x.so\n" + own + "-auth optional y.so\n"},
		"no auth":    {"@include common-account\n", own + "@include common-account\n"},
		"any phase":  {"@include everything\n", own + "@include everything\n"},
	} {
		if got := placeAuth(c[0], []string{"a.example"}); got != c[1] {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestPreview_Grace(t *testing.T) {
	_, f, w := machineRoot(t)
	for value, want := range map[string]time.Duration{"120": 2 * time.Minute, "20": 20 * time.Second, "0": longestGrace, "x": usualGrace, "99999": longestGrace, "-1": usualGrace} {
		w.cfg.Run = func(ctx context.Context, argv ...string) ([]byte, error) {
			out, err := f.run(ctx, argv...)
			return append(out, fmt.Appendf(nil, "logingracetime %s\n", value)...), err
		}
		if got := w.Grace(context.Background()); got != want {
			t.Errorf("%s: %s", value, got)
		}
	}
}
