package cli

import (
	"context"
	"net/http"

	"github.com/spf13/cobra"

	"sallyport/internal/cli/client"
	"sallyport/internal/cli/output"
)

// accessReview shows what a restored backup gives to whom.
func (a *app) accessReview() *cobra.Command {
	cmd := leafFor("review", "Show what a restored backup gives to whom, before it is confirmed.", nil, func(ctx context.Context, _ values) error {
		s, err := a.session(ctx)
		if err != nil {
			return err
		}
		var doc struct {
			Properties map[string]any `json:"properties"`
		}
		if err := do(ctx, s, client.Call{Method: http.MethodGet, Path: "/providers/Sallyport.Access/restore"}, &doc); err != nil {
			return err
		}
		p := doc.Properties
		if confirmed, _ := p["confirmed"].(bool); confirmed {
			a.warn("This restore was confirmed at " + text(p, "confirmedAt") + ".")
		} else {
			a.warn("Restored at " + text(p, "restoredAt") + " from a backup of " + text(p, "backupTaken") + " (" + text(p, "backupAge") + " before). What was changed in between is not in it.")
			a.warn("When all of this is right: sally access confirm-restore --restore-id " + text(p, "restoreId"))
		}
		if a.out.Format == output.Table && a.out.Query == nil {
			return a.print(p["entries"], columns("What=what", "Principal=principal", "Role=role", "Scope=scope", "Through=through", "Since=since")...)
		}
		return a.print(p)
	})
	cmd.Example = "  sally access review -o table"
	return cmd
}
