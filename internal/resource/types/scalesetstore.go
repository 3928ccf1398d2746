package types

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/guid"
	"sallyport/internal/resource"
	"sallyport/internal/scope"
)

// setPrivate is what the server knows of a scale set: its id, and the number of
// its next instance, for numbers are not used again.
type setPrivate struct {
	UniqueID string `json:"uniqueId"`
	Next     int    `json:"next"`
	// PasswordHash is of the administrator's password, for the next instance.
	PasswordHash string `json:"passwordHash,omitempty"`
}

// staleModel marks an instance whose set has a newer model than it.
type staleModel struct {
	Login bool `json:"login"` // the newer one has the login extension
}

func (m machines) scaleSet() resource.Type {
	return resource.Type{Name: ScaleSet, Title: "virtual machine scale set", Located: true, Identity: true, Entered: true, Shape: scaleSetProperties{}, Top: []string{"sku", "zones", "extendedLocation"},
		Check: checkScaleSet, Links: scaleSetLinks, Store: m.storeScaleSet, Reconcile: reconcileScaleSet, Show: showScaleSet,
		Actions: map[string]resource.Action{
			"manualupgrade": m.upgradeInstances, "delete": m.deleteInstances,
			"start": m.powerInstances("start"), "powerOff": m.powerInstances("powerOff"), "deallocate": m.powerInstances("deallocate"), "restart": m.powerInstances("restart"),
		},
	}
}

// instance is the type of a set's machines. Who may read virtual machines, as the
// roles that log people in may, reads them too.
func (m machines) instance() resource.Type {
	return resource.Type{Name: ScaleSetInstance, Title: "instance of a scale set", Located: true, Entered: true, Embed: ScaleSetExtension,
		ReadAs: VirtualMachine + "/read", Called: calledInstance,
		Check: func(*resource.Draft) error { return madeBySet() },
		Store: m.storeInstance, Reconcile: m.reconcileVM, Show: m.showInstance,
		Actions: map[string]resource.Action{"start": m.powerInstance("start"), "powerOff": m.powerInstance("powerOff"), "deallocate": m.powerInstance("deallocate"), "restart": m.powerInstance("restart")},
	}
}

func (m machines) instanceExtension() resource.Type {
	t := m.extensionOf(ScaleSetExtension, "extension of an instance of a scale set")
	t.ReadAs = Extension + "/read"
	t.Check = func(*resource.Draft) error { return madeBySet() }
	t.Store = func(resource.Tx, audit.By, *resource.Change) error { return madeBySet() }
	return t
}

// madeBySet refuses a write past the model.
func madeBySet() error {
	return fault.New(fault.Invalid, "OperationNotAllowed", "instances of a scale set, and their extensions, are made and changed by its model alone").
		WithRemedy("Change the scale set, then: sally vmss update-instances")
}

// set is a scale set in a transaction, with its instances in the order of their
// numbers; those that are going away are not among them.
type set struct {
	m         machines
	tx        resource.Tx
	by        audit.By
	row       *resource.Resource
	private   setPrivate
	sku       setSKU
	shape     scaleSetProperties
	instances []resource.Resource
}

func (m machines) openSet(tx resource.Tx, by audit.By, row *resource.Resource, old *setSKU) (*set, error) {
	s := &set{m: m, tx: tx, by: by, row: row}
	var err error
	if s.sku, err = readSKU(row, old); err != nil {
		return nil, err
	}
	if err := row.ReadPrivate(&s.private); err != nil {
		return nil, err
	}
	if err := row.ReadProperties(&s.shape); err != nil {
		return nil, err
	}
	s.instances, err = instancesOf(tx, row.ID)
	return s, err
}

func instancesOf(tx resource.Tx, set scope.ID) ([]resource.Resource, error) {
	list, err := tx.ListResources(resource.Range{Under: set, Type: ScaleSetInstance})
	if err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(list, func(r resource.Resource) bool { return r.State == resource.Deleting })
	slices.SortFunc(list, func(a, b resource.Resource) int { return number(a.ID) - number(b.ID) })
	return list, nil
}

func number(id scope.ID) int {
	n, err := strconv.Atoi(id.Name())
	if err != nil {
		return 0
	}
	return n
}

// close stores what the set is now.
func (s *set) close() error {
	if err := s.row.WritePrivate(s.private); err != nil {
		return err
	}
	return writeTop(s.row, "sku", s.sku)
}

// storeScaleSet makes the instances follow a write of their set, in its own
// transaction: as many as are wanted, the identity taken from all when it is
// taken away, and, where the policy says so, the new model in all.
func (m machines) storeScaleSet(tx resource.Tx, by audit.By, c *resource.Change) error {
	if c.New == nil {
		list, err := instancesOf(tx, c.Old.ID)
		for i := range list {
			if err := removeInstance(tx, by, &list[i]); err != nil {
				return err
			}
		}
		return err
	}
	var was *setSKU
	if c.Old != nil {
		old, err := readSKU(c.Old, nil)
		if err != nil {
			return err
		}
		was = &old
	} else {
		id, err := guid.New(m.cfg.Rand)
		if err != nil {
			return fmt.Errorf("scale set id: %w", err)
		}
		hash, err := hashed(m.cfg.Rand, c)
		if err != nil {
			return err
		}
		if err := c.New.WritePrivate(setPrivate{UniqueID: id, PasswordHash: hash}); err != nil {
			return err
		}
	}
	s, err := m.openSet(tx, by, c.New, was)
	if err != nil {
		return err
	}
	if c.Old == nil || !resource.Same(c.Old.Properties, c.New.Properties) || *s.sku.Capacity > len(s.instances) {
		if err := s.allowed(); err != nil {
			return err
		}
	}
	if c.Old != nil {
		if err := s.remodel(c.Old, *was); err != nil {
			return err
		}
	}
	if s.shape.UpgradePolicy.Mode == automaticUpgrade {
		for i := range s.instances {
			if err := s.automatic(&s.instances[i]); err != nil {
				return err
			}
		}
	}
	if err := s.scale(); err != nil {
		return err
	}
	return s.close()
}

// allowed refuses a model with the preview extension where that is switched off.
func (s *set) allowed() error {
	for _, x := range s.extensions() {
		if err := s.m.allowed(handlerOf(resource.Resource{Properties: x.Properties})); err != nil {
			return err
		}
	}
	return nil
}

func (s *set) extensions() []setExtension {
	if p := s.shape.Profile; p != nil && p.ExtensionProfile != nil {
		return p.ExtensionProfile.Extensions
	}
	return nil
}

// keep refuses to change what exists once, inside each instance.
func (p *setProfile) keep(d *resource.Draft, old *setProfile, v *vmProperties, password string) error {
	var private setPrivate
	if err := d.Old.ReadPrivate(&private); err != nil {
		return err
	}
	was := vmProperties{StorageProfile: old.StorageProfile}
	if was.system() != v.system() {
		return fault.New(fault.Conflict, "PropertyChangeNotAllowed", "Changing property 'imageReference' is not allowed: an upgrade does not make an instance anew.").
			WithRemedy("Create another scale set.").WithTarget("imageReference")
	}
	a, errA := json.Marshal(old.OSProfile)
	b, errB := json.Marshal(p.OSProfile)
	if errA != nil || errB != nil || !bytes.Equal(a, b) {
		return fault.New(fault.Conflict, "PropertyChangeNotAllowed", "Changing property 'osProfile' is not allowed.").
			WithRemedy("The administrator account is made once, with each instance.").WithTarget("osProfile")
	}
	return samePassword(d.Aside, private.PasswordHash, password)
}

// remodel marks the instances when the model is a new one, and takes an identity
// that is gone from all of them: nobody would be it any more.
func (s *set) remodel(old *resource.Resource, was setSKU) error {
	var before scaleSetProperties
	if err := old.ReadProperties(&before); err != nil {
		return err
	}
	_ = ofKind(reflect.ValueOf(&before), "") // as checkScaleSet: another spelling is no other model
	size := func(name string) Runner {
		return (&vmProperties{HardwareProfile: &hardwareProfile{VMSize: name}}).runner()
	}
	if size(was.Name) != size(s.sku.Name) {
		return fault.New(fault.Conflict, "PropertyChangeNotAllowed", "Changing the size between those of one back end and those of another is not allowed.").
			WithRemedy("Create another scale set.").WithTarget("sku.name")
	}
	a, errA := json.Marshal(before.Profile)
	b, errB := json.Marshal(s.shape.Profile)
	if errA != nil || errB != nil {
		return fmt.Errorf("model of %s: %w", s.row.ID, firstError(errA, errB))
	}
	other := principalOf(old.Identity) != principalOf(s.row.Identity)
	if resource.Same(a, b) && was.Name == s.sku.Name && !other {
		return nil
	}
	for i := range s.instances {
		r := &s.instances[i]
		gone := other && old.Identity != nil
		err := editVM(r, func(p *vmPrivate) error {
			p.Stale = &staleModel{Login: s.login()}
			if gone {
				p.Principal = ""
			}
			return nil
		})
		if err != nil {
			return err
		}
		r.Touch(s.tx.Now())
		if gone {
			if err := writeTop(r, "identity", nil); err != nil {
				return err
			}
			r.Want(s.tx.Now())
		}
		if err := s.tx.PutResource(*r); err != nil {
			return err
		}
	}
	return nil
}

// login reports whether the model has the login extension with certificates.
func (s *set) login() bool {
	return slices.ContainsFunc(s.extensions(), func(x setExtension) bool { return !handlerOf(resource.Resource{Properties: x.Properties}).preview() })
}

func firstError(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

func principalOf(i *resource.Identity) string {
	if i == nil {
		return ""
	}
	return i.PrincipalID
}

// scale makes instances or removes the newest, until there are as many as wanted.
func (s *set) scale() error {
	for len(s.instances) > *s.sku.Capacity {
		last := len(s.instances) - 1
		if err := removeInstance(s.tx, s.by, &s.instances[last]); err != nil {
			return err
		}
		s.instances = s.instances[:last]
	}
	for len(s.instances) < *s.sku.Capacity {
		r, err := s.add()
		if err != nil {
			return err
		}
		s.instances = append(s.instances, r)
	}
	return nil
}

// add makes an instance of the model.
func (s *set) add() (resource.Resource, error) {
	id, err := scope.Parse(s.row.ID.String() + "/virtualMachines/" + strconv.Itoa(s.private.Next))
	if err != nil {
		return resource.Resource{}, err
	}
	machineID, err := guid.New(s.m.cfg.Rand)
	if err != nil {
		return resource.Resource{}, fmt.Errorf("machine id: %w", err)
	}
	s.private.Next++
	r := resource.Resource{ID: id, CreatedAt: s.tx.Now(), State: resource.Creating}
	if err := r.WritePrivate(vmPrivate{MachineID: machineID, Power: Running, PasswordHash: s.private.PasswordHash}); err != nil {
		return r, err
	}
	return r, s.apply(&r, true)
}

// anonymous takes the set's identity from an instance on its way out, as a machine
// loses its own then: it may be removed because it was taken over, and its back end
// may be away.
func anonymous(r *resource.Resource) error {
	return firstError(editVM(r, func(p *vmPrivate) error { p.Principal = ""; return nil }), writeTop(r, "identity", nil))
}

// removeInstance begins the end of an instance.
func removeInstance(tx resource.Tx, by audit.By, r *resource.Resource) error {
	if err := anonymous(r); err != nil {
		return err
	}
	r.State = resource.Deleting
	r.Want(tx.Now())
	if err := tx.PutResource(*r); err != nil {
		return err
	}
	return tx.Audit(by, audit.Event{Type: "resource.delete", Outcome: audit.Success, Target: r.ID.String(), Detail: map[string]string{"type": ScaleSetInstance}})
}

// automatic gives the model to an instance that has an older one, unless it is
// switched off: that one takes it when it starts.
func (s *set) automatic(r *resource.Resource) error {
	var p vmPrivate
	if err := r.ReadPrivate(&p); err != nil || p.Stale == nil || p.Power != Running {
		return err
	}
	return s.apply(r, false)
}

// apply gives an instance the set's model: its properties, its identity and its
// extensions.
func (s *set) apply(r *resource.Resource, created bool) error {
	profile := s.shape.Profile
	var p vmPrivate
	if err := r.ReadPrivate(&p); err != nil {
		return err
	}
	v := vmProperties{HardwareProfile: &hardwareProfile{VMSize: s.sku.Name}, StorageProfile: profile.StorageProfile}
	os := profile.OSProfile.osProfile
	os.ComputerName = computerName(profile.OSProfile.Prefix, number(r.ID))
	v.OSProfile = &os
	nics, err := json.Marshal(profile.NetworkProfile.Interfaces)
	if err != nil {
		return err
	}
	v.NetworkProfile = &networkProfile{InterfaceConfigurations: nics}
	p.Stale, p.Principal = nil, principalOf(s.row.Identity)
	r.Location, r.Tags = s.row.Location, s.row.Tags
	for name, value := range map[string]any{"sku": setSKU{Name: s.sku.Name, Tier: s.sku.Tier}, "instanceId": r.ID.Name(), "identity": s.row.Identity} {
		if err := writeTop(r, name, value); err != nil {
			return err
		}
	}
	if err := firstError(r.WriteProperties(v), r.WritePrivate(p)); err != nil {
		return err
	}
	r.Want(s.tx.Now())
	if err := s.tx.PutResource(*r); err != nil {
		return err
	}
	word := "false"
	if created {
		word = "true"
	}
	if err := s.tx.Audit(s.by, audit.Event{Type: "resource.write", Outcome: audit.Success, Target: r.ID.String(), Detail: map[string]string{"type": ScaleSetInstance, "created": word}}); err != nil {
		return err
	}
	return s.extend(r, p.MachineID)
}

// extend makes an instance's extensions those of the model. One that is not in it
// any more goes first, as from any machine, when nobody is logged in.
func (s *set) extend(r *resource.Resource, machineID string) error {
	have, err := s.tx.ListResources(resource.Range{Under: r.ID, Type: ScaleSetExtension})
	if err != nil {
		return err
	}
	wanted := s.extensions()
	for i := range have {
		x := &have[i]
		if slices.ContainsFunc(wanted, func(w setExtension) bool { return strings.EqualFold(w.Name, x.ID.Name()) }) {
			if x.State == resource.Deleting {
				return fault.New(fault.Conflict, "Conflict", "extension '%s' is being removed from '%s'.", x.ID.Name(), calledInstance(r.ID)).WithRemedy("Wait until it is gone and try again.")
			}
			continue
		}
		x.State = resource.Deleting
		x.Want(s.tx.Now())
		if err := s.tx.PutResource(*x); err != nil {
			return err
		}
	}
	for _, w := range wanted {
		if err := s.extension(r, machineID, w); err != nil {
			return err
		}
	}
	return nil
}

func (s *set) extension(r *resource.Resource, machineID string, w setExtension) error {
	id, err := scope.Parse(r.ID.String() + "/extensions/" + w.Name)
	if err != nil {
		return err
	}
	x, ok, err := s.tx.ResourceByID(id.Key())
	if err != nil {
		return err
	}
	if !ok {
		x = resource.Resource{ID: id, CreatedAt: s.tx.Now(), State: resource.Creating}
	}
	var p extensionPrivate
	if err := x.ReadPrivate(&p); err != nil {
		return err
	}
	if p.Enabled && x.State != resource.Failed && resource.Same(x.Properties, w.Properties) {
		return nil // it is there already
	}
	x.Location, x.Properties = r.Location, w.Properties
	x.Want(s.tx.Now())
	h := handlerOf(x)
	other, err := siblings(s.tx, r.ID, id, h)
	if err != nil {
		return err
	}
	if err := enable(s.tx, &x, r, machineID, h, other); err != nil {
		return err
	}
	return s.tx.PutResource(x)
}

// reconcileScaleSet waits for the instances, and fails with the first that failed
// since the write.
func reconcileScaleSet(_ context.Context, w resource.Work) (resource.Progress, error) {
	var failed *resource.Resource
	for i := range w.Children {
		c := &w.Children[i]
		if c.Behind() || w.Resource.State == resource.Deleting {
			return resource.Progress{After: 4 * pollWait}, nil
		}
		if failed == nil && c.State == resource.Failed && c.Error != nil && !c.WantedAt.Before(w.Resource.WantedAt) {
			failed = c
		}
	}
	if failed == nil {
		return resource.Progress{Done: true}, nil
	}
	at := failed.ID
	if !isInstance(at) {
		at, _ = at.Parent()
	}
	return resource.Progress{Failure: &resource.Failure{Code: failed.Error.Code, Message: fault.Sentence("Instance '%s': %s", calledInstance(at), failed.Error.Message)}}, nil
}
