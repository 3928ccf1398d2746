package labwire

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"sallyport/internal/fault"
	"sallyport/internal/guid"
	"sallyport/internal/shacrypt"
)

// MaxMessage bounds one message in bytes, the newline included.
const MaxMessage = 64 << 10

// Op names an operation.
type Op string

// The operations. Proxy answers and then carries the bytes of one TCP
// connection to the machine's sshd.
const (
	OpCreate  Op = "create"
	OpStart   Op = "start"
	OpStop    Op = "stop"
	OpRestart Op = "restart"
	OpDelete  Op = "delete"
	OpStatus  Op = "status"
	OpList    Op = "list"
	OpProxy   Op = "proxy"
)

// Backend names what runs a machine.
type Backend string

// The back ends.
const (
	BackendNetns  Backend = "netns"
	BackendNspawn Backend = "nspawn"
)

// System names what a machine is: the root filesystem that it is made on.
type System string

// The systems.
const (
	SystemDebian11 System = "debian11"
	SystemDebian12 System = "debian12"
	SystemDebian13 System = "debian13"
)

// Systems returns every system, oldest first.
func Systems() []System { return []System{SystemDebian11, SystemDebian12, SystemDebian13} }

// State is what a machine is doing.
type State string

// The states. Absent is an answer, not an error: the caller compares it with
// what it wants.
const (
	StateRunning State = "running"
	StateStopped State = "stopped"
	StateAbsent  State = "absent"
)

// Request is one message to the lab. Fields that the operation does not take
// are empty, or the request is refused.
type Request struct {
	Op Op `json:"op"`
	// MachineID is a lower-case GUID. All operations but list take it.
	MachineID string `json:"machineId,omitempty"`
	// Name is the machine's host name; create takes it.
	Name string `json:"name,omitempty"`
	// JoinToken is handed to the machine at its first start; create takes it,
	// and it may be empty.
	JoinToken string `json:"joinToken,omitempty"`
	// Backend is what shall run the machine; create takes it.
	Backend Backend `json:"backend,omitempty"`
	// System is what the machine shall be; create takes it, and empty is Debian 12,
	// which is all that labs had before the word.
	System System `json:"system,omitempty"`
	// PasswordHash is what the administrator account that the machine's agent makes
	// gets in /etc/shadow; create takes it. With it the machine's sshd takes
	// passwords, and without it none.
	PasswordHash string `json:"passwordHash,omitempty"`
}

// Machine is what the lab knows about one machine.
type Machine struct {
	MachineID string  `json:"machineId"`
	Name      string  `json:"name,omitempty"`
	Backend   Backend `json:"backend,omitempty"`
	System    System  `json:"system,omitempty"`
	State     State   `json:"state"`
	// Address is the machine's own address inside the lab's network.
	Address string `json:"address,omitempty"`
	// Loopback and SSHPort are where this computer reaches the machine's sshd.
	// They are empty while the machine is stopped.
	Loopback string `json:"loopback,omitempty"`
	SSHPort  int    `json:"sshPort,omitempty"`
}

// Response is the answer to one Request: an error or machines.
type Response struct {
	Error    *ErrorBody `json:"error,omitempty"`
	Machines []Machine  `json:"machines,omitempty"`
}

// ErrorBody is the public half of a fault.Error.
type ErrorBody struct {
	Kind   string `json:"kind"`
	Code   string `json:"code"`
	Text   string `json:"text"`
	Remedy string `json:"remedy,omitempty"`
	Target string `json:"target,omitempty"`
}

// ErrorOf returns the public half of err; an error nobody classified shows
// nothing of its text.
func ErrorOf(err error) *ErrorBody {
	e := fault.As(err)
	if e.Kind == fault.Internal {
		return &ErrorBody{Kind: e.Kind.String(), Code: "InternalError", Text: "the lab failed; its own output says why"}
	}
	return &ErrorBody{Kind: e.Kind.String(), Code: e.Code, Text: e.Text, Remedy: e.Remedy, Target: e.Target}
}

// Err returns the error that the lab meant. A kind unknown to this build is
// Internal.
func (b *ErrorBody) Err() error {
	kind := fault.Internal
	for k := fault.Internal; k <= fault.Precondition; k++ {
		if k.String() == b.Kind {
			kind = k
		}
	}
	return &fault.Error{Kind: kind, Code: b.Code, Text: b.Text, Remedy: b.Remedy, Target: b.Target}
}

// Validate checks every field against its alphabet, and that the operation
// takes exactly the fields that are set.
func (r Request) Validate() error {
	switch r.Op {
	case OpList:
		if r.MachineID != "" {
			return invalid("machineId", "list takes no machine id")
		}
	case OpCreate:
		if err := r.validateCreate(); err != nil {
			return err
		}
	case OpStart, OpStop, OpRestart, OpDelete, OpStatus, OpProxy:
	default:
		return invalid("op", "the lab has no operation %s", quote(string(r.Op)))
	}
	if r.Op != OpList && !ValidMachineID(r.MachineID) {
		return invalid("machineId", "a machine id is a lower-case GUID, got %s", quote(r.MachineID))
	}
	if r.Op != OpCreate && (r.Name != "" || r.JoinToken != "" || r.Backend != "" || r.System != "" || r.PasswordHash != "") {
		return invalid("op", "name, join token, back end, system and password hash belong to create alone")
	}
	return nil
}

func (r Request) validateCreate() error {
	if !ValidName(r.Name) {
		return invalid("name", "a machine's name is 1 to 63 of a-z, 0-9 and hyphen, with no hyphen at either end, got %s", quote(r.Name))
	}
	if r.JoinToken != "" && !validToken(r.JoinToken) {
		return invalid("joinToken", "a join token is 1 to 2048 of A-Z a-z 0-9 . _ ~ : / # -")
	}
	if r.PasswordHash != "" && !shacrypt.Valid(r.PasswordHash) {
		return invalid("passwordHash", "a password hash is one of SHA-512 crypt, $6$rounds=")
	}
	if r.System != "" && !slices.Contains(Systems(), r.System) {
		return invalid("system", "the lab has no system %s", quote(string(r.System))).WithRemedy("choose one of %v", Systems())
	}
	if r.Backend != BackendNetns && r.Backend != BackendNspawn {
		return invalid("backend", "the lab has no back end %s", quote(string(r.Backend))).WithRemedy("choose %s or %s", BackendNetns, BackendNspawn)
	}
	return nil
}

// ValidMachineID reports whether s is a GUID in lower case.
func ValidMachineID(s string) bool { return guid.Valid(s) }

// ValidName reports whether s is a host name of one label (RFC 1123, lower case).
func ValidName(s string) bool {
	return within(s, 63, "abcdefghijklmnopqrstuvwxyz0123456789-") && s[0] != '-' && s[len(s)-1] != '-'
}

func validToken(s string) bool {
	return within(s, 2048, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~:/#-")
}

func within(s string, most int, alphabet string) bool {
	if s == "" || len(s) > most {
		return false
	}
	return strings.Trim(s, alphabet) == ""
}

// Decode reads one request from r. It takes the canonical encoding only, the
// one that Encode writes: a repeated, unknown or differently spelt member, a
// space or trailing bytes are refused, so that no two readers can understand
// one message differently.
func Decode(r *bufio.Reader) (Request, error) {
	var req Request
	line, err := readLine(r)
	if err != nil {
		return Request{}, err
	}
	if err := json.Unmarshal(line, &req); err != nil {
		return Request{}, fault.Wrap(err, fault.Invalid, "InvalidRequest", "the request is not a JSON object of the lab's protocol")
	}
	again, err := json.Marshal(req)
	if err != nil || !bytes.Equal(again, line) {
		return Request{}, fault.New(fault.Invalid, "InvalidRequest", "the request is not in the lab's canonical encoding")
	}
	if err := req.Validate(); err != nil {
		return Request{}, err
	}
	return req, nil
}

// decodeResponse reads one response from r.
func decodeResponse(r *bufio.Reader) (Response, error) {
	var resp Response
	line, err := readLine(r)
	if err != nil {
		return Response{}, err
	}
	if err := json.Unmarshal(line, &resp); err != nil {
		return Response{}, fault.Wrap(err, fault.Internal, "LabProtocol", "the lab's answer cannot be read")
	}
	for _, m := range resp.Machines {
		if err := m.validate(); err != nil {
			return Response{}, err
		}
	}
	return resp, nil
}

func (m Machine) validate() error {
	bad := !ValidMachineID(m.MachineID) || (m.Name != "" && !ValidName(m.Name)) || m.SSHPort < 0 || m.SSHPort > 65535
	for _, a := range []string{m.Address, m.Loopback} {
		if ip, err := netip.ParseAddr(a); a != "" && (err != nil || ip.Zone() != "") {
			bad = true
		}
	}
	switch m.State {
	case StateRunning, StateStopped, StateAbsent:
	default:
		bad = true
	}
	if bad {
		return fault.New(fault.Internal, "LabProtocol", "the lab's answer describes an impossible machine")
	}
	return nil
}

// Encode writes a Request or Response as one line.
func Encode[T Request | Response](w io.Writer, message T) error {
	line, err := json.Marshal(message)
	if err != nil {
		return fmt.Errorf("labwire: %w", err)
	}
	if len(line) >= MaxMessage {
		return fault.New(fault.Invalid, "InvalidRequest", "the message is longer than %d bytes", MaxMessage)
	}
	if _, err = w.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("labwire: %w", err)
	}
	return nil
}

func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > MaxMessage {
			return nil, fault.New(fault.Invalid, "InvalidRequest", "the message is longer than %d bytes", MaxMessage)
		}
		switch {
		case err == nil:
			return line[:len(line)-1], nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, fault.Wrap(err, fault.Unavailable, "LabUnavailable", "the other side of the lab's socket closed it within a message")
		}
	}
}

func invalid(target, format string, args ...any) *fault.Error {
	return fault.New(fault.Invalid, "InvalidRequest", format, args...).WithTarget(target)
}

// quote shows a foreign value safely and briefly.
func quote(s string) string {
	if len(s) > 80 {
		s = s[:80] + "..."
	}
	return fmt.Sprintf("%q", s)
}
