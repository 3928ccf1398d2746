package grants

import (
	"fmt"
	"strings"
	"time"

	"sallyport/internal/machine/protocol"
)

// CodeAlphabet and CodeLength are what a code that a person types is made of. What
// is not, is not shown: no text of others stands in a prompt.
const (
	CodeAlphabet = "BCDFGHJKLMNPQRSTVWXZ23456789"
	CodeLength   = 8
)

// Prompt is what somebody reads who is to approve a login on a web page. machine is
// the resource's name, address the server's.
func Prompt(machine, login, address, code string, left time.Duration) string {
	return fmt.Sprintf("To log in to %s as %s, open %s/device in a web browser\nand type the code %s-%s. The page must name this machine and this login name.\nYou have %d seconds. Press Enter here when you have approved it: ",
		machine, login, address, code[:CodeLength/2], code[CodeLength/2:], int(left/time.Second))
}

// Approval is the sentence for a login that was not approved: why, and the way out.
// state is one of the protocol's.
func Approval(state, login, correlation string) string {
	text := ""
	switch state {
	case protocol.DeviceDeclined:
		text = "the login was declined on the web page. Connect again to get another code."
	case protocol.DeviceOther:
		text = fmt.Sprintf("somebody else than %s answered on the web page, and nobody else can approve this login. Connect again, and sign in there as %s.", login, login)
	case protocol.DevicePolicy:
		text = "a Conditional Access policy does not allow this login. The web page says which one; ask an administrator of the directory."
	case protocol.DeviceExpired:
		text = "nobody approved this login in time. sshd waits no longer; connect again to get another code."
	case protocol.DeviceNoTime:
		text = "sshd waits for less than it takes to approve a login, so no code was made. Connect again; if this goes on, ask an administrator of the machine to raise LoginGraceTime in sshd's configuration."
	case protocol.DeviceNotAllowed:
		text = "logging in with a code is switched off. Ask an owner of the machine to install AADSSHLoginForLinux, or an Owner of the root management group to run: sally tenant update --allow-preview-login true"
	case protocol.DeviceAccount:
		text = fmt.Sprintf("%s cannot sign in: the account is disabled, deleted or renamed. Ask an administrator of the directory.", login)
	case protocol.DeviceTooMany:
		text = "too many logins on this machine wait for an approval. Connect again in a minute."
	case protocol.DeviceRefused:
		text = "this machine does not accept the approval that the server sent. Connect again; if this goes on, ask an administrator of the machine to run: sally agent doctor"
	default:
		text = "the server does not answer, so no login can be approved. Connect again; if this goes on, ask an administrator of the machine to run: sally agent status"
	}
	text = "Sallyport: " + text
	if correlation == "" {
		return text
	}
	return fmt.Sprintf("%s (correlation id %s)", text, correlation)
}

// ValidCode reports whether a text can be a code.
func ValidCode(code string) bool {
	return len(code) == CodeLength && strings.Trim(code, CodeAlphabet) == ""
}
