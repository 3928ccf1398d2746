package labwire

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"sallyport/internal/fault"
)

const id = "01234567-89ab-4cde-8f01-23456789abcd"

// hash is of "Meadow-Quartz-83-Lamp".
const hash = "$6$rounds=50000$./0123456789ABCD$67dW3DKA1O.UqApLQpz.FO/ZA5xgxP1Ob.lJq2aVMqsv0gtnTSLo61qJ3LIepUBjC6oekYRT6ThCkMIglOY/m0"

func decode(s string) (Request, error) { return Decode(bufio.NewReader(strings.NewReader(s))) }

func TestDecode_TakesWhatEncodeWrites(t *testing.T) {
	for _, want := range []Request{
		{Op: OpList},
		{Op: OpStatus, MachineID: id},
		{Op: OpCreate, MachineID: id, Name: "web-1", JoinToken: "https://sally.example:8443/#sha256:ab_c~.-", Backend: BackendNetns},
		{Op: OpCreate, MachineID: id, Name: "a", Backend: BackendNetns, System: SystemDebian11},
		{Op: OpCreate, MachineID: id, Name: "a", Backend: BackendNspawn, System: SystemDebian13},
		{Op: OpCreate, MachineID: id, Name: "a", Backend: BackendNetns, PasswordHash: hash},
	} {
		var line bytes.Buffer
		if err := Encode(&line, want); err != nil {
			t.Fatal(err)
		}
		if got, err := decode(line.String()); err != nil || got != want {
			t.Errorf("%s: %v %v", line.String(), got, err)
		}
	}
}

func TestDecode_RefusesEverythingElse(t *testing.T) {
	create := func(member string) string {
		return `{"op":"create","machineId":"` + id + `",` + member + `}` + "\n"
	}
	for name, text := range map[string]string{
		"empty line":            "\n",
		"no object":             "[]\n",
		"no operation":          "{}\n",
		"unknown operation":     `{"op":"exec"}` + "\n",
		"unknown member":        `{"op":"list","path":"/etc"}` + "\n",
		"repeated member":       `{"op":"stop","op":"list"}` + "\n",
		"other spelling":        `{"Op":"list"}` + "\n",
		"space":                 `{"op": "list"}` + "\n",
		"escape":                `{"op":"li\u0073t"}` + "\n",
		"two objects":           `{"op":"list"}{"op":"list"}` + "\n",
		"list with id":          `{"op":"list","machineId":"` + id + `"}` + "\n",
		"status with name":      `{"op":"status","machineId":"` + id + `","name":"a"}` + "\n",
		"no machine id":         `{"op":"start"}` + "\n",
		"upper-case id":         `{"op":"start","machineId":"` + strings.ToUpper(id) + `"}` + "\n",
		"path as id":            `{"op":"start","machineId":"../../../../../../../../../../etc/shadow"}` + "\n",
		"name with dot":         create(`"name":"a.b","backend":"netns","system":"debian12"`),
		"name with slash":       create(`"name":"../a","backend":"netns","system":"debian12"`),
		"name begins with dash": create(`"name":"-o","backend":"netns","system":"debian12"`),
		"name ends with dash":   create(`"name":"a-","backend":"netns","system":"debian12"`),
		"long name":             create(`"name":"` + strings.Repeat("a", 64) + `","backend":"netns","system":"debian12"`),
		"token with newline":    create(`"name":"a","joinToken":"a\nb","backend":"netns","system":"debian12"`),
		"token with space":      create(`"name":"a","joinToken":"a b","backend":"netns","system":"debian12"`),
		"long token":            create(`"name":"a","joinToken":"` + strings.Repeat("a", 2049) + `","backend":"netns","system":"debian12"`),
		"a password":            create(`"name":"a","backend":"netns","passwordHash":"Meadow-Quartz-83-Lamp"`),
		"two lines of a hash":   create(`"name":"a","backend":"netns","passwordHash":"` + hash + `\nroot:` + hash + `"`),
		"a field behind a hash": create(`"name":"a","backend":"netns","passwordHash":"` + hash + `:"`),
		"start with a hash":     `{"op":"start","machineId":"` + id + `","passwordHash":"` + hash + `"}` + "\n",
		"no back end":           create(`"name":"a","system":"debian12"`),
		"unknown system":        create(`"name":"a","backend":"netns","system":"debian10"`),
		"status with system":    `{"op":"status","machineId":"` + id + `","system":"debian12"}` + "\n",
		"unknown back end":      create(`"name":"a","backend":"qemu","system":"debian12"`),
		"too long":              strings.Repeat("x", MaxMessage+1),
	} {
		if _, err := decode(text); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := decode(`{"op":"list"}`); !fault.Is(err, fault.Unavailable) || !errors.Is(err, io.EOF) {
		t.Errorf("cut off: %v", err)
	}
}

func TestErrorBody_CarriesThePublicHalf(t *testing.T) {
	err := fault.Wrap(errors.New("secret"), fault.Conflict, "MachineExists", "there is one").WithRemedy("delete it")
	body := ErrorOf(err)
	back := fault.As(body.Err())
	if back.Kind != fault.Conflict || back.Public() != err.Public() || strings.Contains(back.Error(), "secret") {
		t.Errorf("got %v", back)
	}
	if body := ErrorOf(errors.New("open /root/x: secret")); strings.Contains(body.Text, "secret") || body.Kind != "internal" {
		t.Errorf("an unclassified error shows: %v", body)
	}
	if got := (&ErrorBody{Kind: "of-a-later-build"}).Err(); !fault.Is(got, fault.Internal) {
		t.Errorf("unknown kind: %v", got)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"op":"list"}` + "\n"))
	f.Add([]byte(`{"op":"create","machineId":"` + id + `","name":"web-1","joinToken":"a","backend":"netns","system":"debian12"}` + "\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		req, err := Decode(bufio.NewReader(bytes.NewReader(raw)))
		if err != nil {
			return
		}
		var line bytes.Buffer
		if err := Encode(&line, req); err != nil || !bytes.HasPrefix(raw, line.Bytes()) {
			t.Errorf("%q was read as %q (%v)", raw, line.String(), err)
		}
	})
}

func FuzzDecodeResponse(f *testing.F) {
	f.Add([]byte(`{"machines":[{"machineId":"` + id + `","state":"running","address":"10.77.0.2","loopback":"127.77.0.2","sshPort":22}]}` + "\n"))
	f.Add([]byte(`{"error":{"kind":"conflict","code":"a","text":"b"}}` + "\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		resp, err := decodeResponse(bufio.NewReader(bytes.NewReader(raw)))
		for _, m := range resp.Machines {
			if err == nil && !ValidMachineID(m.MachineID) {
				t.Errorf("machine id %q came through", m.MachineID)
			}
		}
	})
}
