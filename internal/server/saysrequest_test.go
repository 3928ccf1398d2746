package server

import (
	"bufio"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/httpd/arm"
	"sallyport/internal/keystore"
	"sallyport/internal/labwire"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/resource"
	"sallyport/internal/resource/types"
	"sallyport/internal/route"
	"sallyport/internal/scope"
	"sallyport/internal/store"
	"sallyport/internal/store/postgrestest"
)

func rotationOf(p protocol.Purpose) arm.Rotation {
	return arm.Rotation{Purpose: string(p), Force: true}
}

func writeDocument(t *testing.T, path string, v any) {
	t.Helper()
	b, err := json.Marshal(v)
	if err == nil {
		err = os.WriteFile(path, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestDeployment_WhoIsNotKnown: a token where none is taken, and a key of no machine.
func TestDeployment_WhoIsNotKnown(t *testing.T) {
	d := rig(t, time.Now)
	_, err := d.Bearer(t.Context(), "x", route.Agent, time.Now())
	saysTo(t, err, "no access token is accepted here")
	_, err = d.Machine(t.Context(), "nobody's key")
	saysTo(t, err, "Join it again with a new join token.")
	empty, err := store.Create(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "s.db"), Now: time.Now, Writer: "w"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = empty.Close() }()
	saysTo(t, empty.Read(t.Context(), func(tx *store.Tx) error { _, _, err := storedManifest(tx); return err }), "the store holds no deployment. Make one with: sally server init")
	if err := os.WriteFile(filepath.Join(d.cfg.State, databaseFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Database{}.found(d.cfg.State)
	saysTo(t, err, "in the state folder cannot be read")
}

// TestLabBackend_BeforeTheMachineIsKnown: nothing is made for a machine without a
// resource, and nothing is done that has no name.
func TestLabBackend_BeforeTheMachineIsKnown(t *testing.T) {
	const id = "0aaaaaaa-0000-4000-8000-0000000000b1"
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = labwire.Decode(bufio.NewReader(conn))
			_ = labwire.Encode(conn, labwire.Response{Machines: []labwire.Machine{{MachineID: id, State: labwire.StateAbsent}}})
			_ = conn.Close()
		}
	}()
	b := labBackend{lab: labwire.New(labwire.Config{Socket: socket}), located: func(string) (scope.ID, bool) { return scope.ID{}, false }, now: time.Now}
	_, err = b.Ensure(t.Context(), types.NewMachine{ID: id, Name: "vm"})
	saysTo(t, err, "the machine's resource is not known yet")
	saysTo(t, b.Power(t.Context(), id, "fly"), `a machine cannot "fly"`)
}

// TestDevice_WhatAMachineMayNotAsk: a machine without the preview gets no code, and
// one with it none for a malformed login.
func TestDevice_WhatAMachineMayNotAsk(t *testing.T) {
	r := newRobot(t)
	ask := func(q protocol.DeviceRequest) error {
		_, err := devices{r.d}.Device(t.Context(), r.by, q)
		return err
	}
	fine := protocol.DeviceRequest{LoginName: "alice@corp.example", ObjectID: r.ids["admin"], From: "192.0.2.1"}
	saysTo(t, ask(fine), "no code was made for this login: "+protocol.DeviceNotAllowed)
	r.previewed(t)
	for _, change := range []func(*protocol.DeviceRequest){
		func(q *protocol.DeviceRequest) { q.LoginName = "" }, func(q *protocol.DeviceRequest) { q.ObjectID = "x" }, func(q *protocol.DeviceRequest) { q.From = "fe80::1%eth0" },
	} {
		q := fine
		change(&q)
		saysTo(t, ask(q), "login, object id or address is malformed")
	}
}

// TestEnroll_WhatATokenDoesNotTake: a token of the server's own takes nothing else,
// one for a machine that exists no tags, and none takes too many.
func TestEnroll_WhatATokenDoesNotTake(t *testing.T) {
	y := newYard(t)
	at, err := scope.Parse(y.machine("own"))
	y.must(err)
	own, err := y.d.machines.MintJoinToken(t.Context(), audit.By{Type: audit.Task, Name: "test", CorrelationID: zeroID, At: time.Now()}, "0aaaaaaa-0000-4000-8000-0000000000b2", at)
	y.must(err)
	_, err = y.join(protocol.JoinRequest{Token: own, Name: "other"}, "key")
	saysTo(t, err, "this token is for a machine that the server made")
	tags := map[string]string{}
	for i := range 51 {
		tags["t"+strconv.Itoa(i)] = ""
	}
	_, err = y.join(protocol.JoinRequest{Token: y.joinToken("admin", y.rg), Name: "db", Tags: tags}, "key")
	saysTo(t, err, "a machine has at most 50 tags")
	_, err = y.join(protocol.JoinRequest{Token: y.joinToken("admin", y.rg), Name: "db"}, "key")
	y.must(err)
	_, err = y.join(protocol.JoinRequest{Token: y.joinToken("admin", y.machine("db")), Tags: map[string]string{"a": "b"}}, "key2")
	saysTo(t, err, "joining changes none of its tags. Leave --tags out; use: sally machine update --tags")
}

// TestPackages_WhatIsNotThere: a path of nothing, and a package that was taken away
// before the folder was looked at again.
func TestPackages_WhatIsNotThere(t *testing.T) {
	c := newCastle(t)
	c.packages("1.0")
	files := c.d.packagesAt()
	_, _, _, err := files("deb/nothing")
	saysTo(t, err, "the repositories have nothing at deb/nothing")
	const path = "deb/pool/sallyport_1.0-1_amd64.deb"
	if _, ok := c.d.packages.File(path); !ok {
		t.Fatal("no package")
	}
	c.must(os.RemoveAll(c.d.cfg.Packages))
	_, _, _, err = files(path)
	saysTo(t, err, "the package at "+path+" is not there any more")
}

// TestReplicas_HaveOneKeyForPackages: a server with another key for packages lists none.
func TestReplicas_HaveOneKeyForPackages(t *testing.T) {
	cfg := moved(t, postgrestest.New(t))
	d := replicaOf(t, cfg, "one")
	again := func() {
		t.Helper()
		dir := filepath.Join(d.cfg.State, keysDir)
		_ = os.Remove(filepath.Join(dir, "repository.pem"))
		keys, err := keystore.Open(keystore.Config{Dir: dir, Rand: d.cfg.Rand})
		if err == nil {
			err = keys.AddRepository()
		}
		if err != nil {
			t.Fatal(err)
		}
		d.keys = keys
	}
	again()
	if err := d.enlistRepository(t.Context()); err != nil {
		t.Fatal(err)
	}
	again()
	saysTo(t, d.enlistRepository(t.Context()), "Copy its keys/repository.pem to this server.")
}

// previewed stores the preview of the login extension on the machine.
func (r *robot) previewed(t *testing.T) {
	t.Helper()
	id, err := scope.Parse(r.vm + "/extensions/" + types.PreviewExtension)
	r.must(err)
	r.must(r.d.follow.Write(t.Context(), func(tx *store.Tx) error {
		return tx.PutResource(resource.Resource{ID: id, Location: "westeurope", State: resource.Succeeded, Revision: 1, Observed: 1, ETag: "1",
			Properties: json.RawMessage(`{"publisher":"` + types.PreviewPublisher + `","type":"` + types.PreviewExtension + `"}`), Private: json.RawMessage(`{"machine":"` + robotMachine + `","enabled":true,"preview":true,"revision":1}`)})
	}))
	if w, ok := r.d.wanted.Want(robotMachine); !ok || !w.Preview {
		t.Fatalf("%+v", w)
	}
}
