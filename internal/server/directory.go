package server

import (
	"context"

	"sallyport/internal/directory"
	"sallyport/internal/rbac"
	"sallyport/internal/resource"
	"sallyport/internal/store"
)

// completeDirectory gives a directory that an older version made the built-in
// applications that have come since. It runs before the indexes are loaded.
func (d *deployment) completeDirectory(ctx context.Context) error {
	var complete bool
	if err := d.store.Read(ctx, func(t *store.Tx) error {
		var err error
		complete, err = directory.Complete(t)
		return err
	}); err != nil || complete {
		return err
	}
	x := directory.NewIndex()
	people := directory.NewService(directory.Config{Index: x, Authority: rbac.NewDirectoryAuthority(rbac.NewIndex(resource.NewTree()), x), Rand: d.cfg.Rand,
		Write: func(ctx context.Context, f func(directory.Tx) error) error {
			return d.store.Write(ctx, func(t *store.Tx) error { return f(t) })
		}})
	return d.store.Write(ctx, func(t *store.Tx) error { return people.CompleteIn(t) })
}
