package types

import (
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"sallyport/internal/fault"
	"sallyport/internal/resource"
	"sallyport/internal/shacrypt"
)

// The password of the administrator account (osProfile.adminPassword) goes through
// the server once: Check takes it out of the body, Store keeps its hash in the
// private part of the machine, the back end sets it when it makes the machine, and
// the hash goes when the machine has reported. A scale set keeps it, because it
// makes more instances later.

// Azure's limits for Linux, as its command line has them.
const (
	leastPassword, mostPassword = 12, 72
	passwordClasses             = 3
)

// passwords reports whether sshd shall take passwords.
func (o *osProfile) passwords() bool {
	return o != nil && o.LinuxConfiguration != nil && o.LinuxConfiguration.DisablePasswordAuthentication != nil && !*o.LinuxConfiguration.DisablePasswordAuthentication
}

// checkPassword holds a password, and what the body says of passwords, to each
// other; one that is good makes the machine one that takes passwords.
func (o *osProfile) checkPassword(password string, had bool) error {
	switch l := o.LinuxConfiguration; {
	case password == "" && o.passwords() && !had:
		return fault.New(fault.Invalid, "InvalidParameter", "Required parameter 'adminPassword' is missing (null): linuxConfiguration.disablePasswordAuthentication is false.").
			WithRemedy("Give --admin-password, or leave password sign-in off: --authentication-type ssh.").WithTarget("adminPassword")
	case password == "":
		return nil
	case o.AdminUsername == "":
		return fault.New(fault.Invalid, "InvalidParameter", "Required parameter 'adminUsername' is missing (null).").WithRemedy("Give --admin-username.").WithTarget("adminUsername")
	case l != nil && l.DisablePasswordAuthentication != nil && *l.DisablePasswordAuthentication:
		return fault.New(fault.Invalid, "InvalidParameter", "osProfile.adminPassword is given, and linuxConfiguration.disablePasswordAuthentication is true.").
			WithRemedy("Leave the password out, or ask for --authentication-type password or all.").WithTarget("adminPassword")
	}
	if err := goodPassword(password); err != nil {
		return err
	}
	if o.LinuxConfiguration == nil {
		o.LinuxConfiguration = &linuxConfiguration{}
	}
	o.LinuxConfiguration.DisablePasswordAuthentication = new(bool)
	return nil
}

// goodPassword holds a password to Azure's rules (Virtual Machines REST reference,
// OSProfile.adminPassword). What it says never has a part of it.
func goodPassword(password string) error {
	disallowed := []string{"abc@123", "P@$$w0rd", "P@ssw0rd", "P@ssword123", "Pa$$word", "pass@word1", "Password!", "Password1", "Password22", "iloveyou!"}
	if slices.ContainsFunc(disallowed, func(d string) bool { return strings.EqualFold(d, password) }) {
		return fault.New(fault.Invalid, "InvalidParameter", "The supplied password is one of those that are not allowed because everybody knows them.").WithRemedy("Choose another.").WithTarget("adminPassword")
	}
	var lower, upper, digit, special, control int
	for _, r := range password {
		switch {
		case unicode.IsControl(r):
			control = 1
		case unicode.IsLower(r):
			lower = 1
		case unicode.IsUpper(r):
			upper = 1
		case unicode.IsDigit(r):
			digit = 1
		default:
			special = 1
		}
	}
	if n := utf8.RuneCountInString(password); n < leastPassword || n > mostPassword || control > 0 || lower+upper+digit+special < passwordClasses {
		return fault.New(fault.Invalid, "InvalidParameter", "The supplied password must be between %d-%d characters long and must satisfy at least %d of password complexity requirements from the following: 1) Contains an uppercase character 2) Contains a lowercase character 3) Contains a numeric digit 4) Contains a special character 5) Control characters are not allowed", leastPassword, mostPassword, passwordClasses).
			WithRemedy("Choose another.").WithTarget("adminPassword")
	}
	return nil
}

// samePassword refuses a password that is not known to be the one that was set.
// None is fine: nobody can read it to send it back.
func samePassword(aside *resource.Aside, hash, password string) error {
	if password == "" {
		return nil
	}
	same, ready, err := aside.Work("is it "+hash+"\n"+password, func() (string, error) {
		return strconv.FormatBool(shacrypt.Verify(hash, password)), nil
	})
	if err != nil || !ready || same == "true" {
		return err
	}
	return fault.New(fault.Conflict, "PropertyChangeNotAllowed", "Changing property 'osProfile.adminPassword' is not allowed: it is set once, when the machine is made, and the server does not keep it.").
		WithRemedy("Leave it out. On the machine: sudo passwd.").WithTarget("osProfile.adminPassword")
}

// hashed is the hash of a new machine's password, "" of none.
func hashed(rand io.Reader, c *resource.Change) (string, error) {
	if c.Secret == "" {
		return "", nil
	}
	return c.Aside.Make("hash "+c.New.ID.Key()+"\n"+c.Secret, func() (string, error) { return shacrypt.New(rand, c.Secret) })
}
