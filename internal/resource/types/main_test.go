package types_test

import (
	"os"
	"testing"

	"sallyport/internal/handbooktest"
)

// heard are the refusals that docs/troubleshooting.md explains: the tests of this
// package bring each of them about.
var heard = handbooktest.Expect(
	"arm.AuthorizationFailed.move", "arm.AuthorizationChanged", "arm.RoleAssignmentExists", "arm.RoleAssignmentNotFound", "arm.RoleAssignmentUpdateNotPermitted", "arm.RoleAssignmentLimitExceeded",
	"arm.PrincipalNotFound", "arm.UnmatchedPrincipalType", "arm.ScopeNotFound", "arm.Condition", "arm.Condition.role", "arm.RoleDefinitionDoesNotExist",
	"arm.RoleDefinitionWithSameNameExists", "arm.RoleDefinitionLimitExceeded", "arm.RoleDefinitionHasAssignments", "arm.RoleDefinitionHasAssignments.scope", "arm.RoleDefinitionHasAssignments.move", "arm.RoleDefinitionIsBuiltIn",
	"arm.RoleAssignmentScopeNotAssignable", "arm.InvalidAssignableScope", "arm.InvalidAssignableScope.root", "arm.InvalidActionOrNotAction", "arm.ResourceGroupNotFound", "arm.ResourceNotFound",
	"arm.ResourceGroupBeingDeleted", "arm.BeingDeleted", "arm.BeingDeleted.action", "arm.InvalidResourceLocation", "arm.InvalidResourceReference",
	"arm.InvalidResourceReference.type", "arm.ManagementGroupNotEmpty", "arm.NotMember", "arm.TagNameNotFound", "arm.TagNameHasValues", "arm.TagInUse", "arm.InvalidManagementGroup.tree", "arm.InvalidManagementGroup.root",
	"arm.InvalidManagementGroup.move", "arm.InvalidManagementGroup.name", "arm.OperationNotAllowed.made", "arm.OperationNotAllowed.deleted", "arm.MoveNotSucceeded", "arm.ResourceAlreadyExists",
	"arm.ResourceGroupBeingDeleted.move", "arm.ResourceNotTopLevel", "arm.PlatformImageNotFound", "arm.VMSize", "arm.AdminPassword", "arm.AdminPassword.known", "arm.AdminPassword.ssh", "arm.AdminPassword.missing", "arm.PropertyChangeNotAllowed.password",
	"arm.AdminUsername", "arm.InvalidIdentityType.user", "arm.AuthorizationFailed.identity", "arm.InvalidIdentityType", "arm.NicInUse", "arm.InUse", "arm.OperationNotAllowed.restart", "arm.PropertyChangeNotAllowed.account",
	"arm.PropertyChangeNotAllowed.image", "arm.PropertyChangeNotAllowed.size", "arm.PropertyChangeNotAllowed.interface", "arm.ResourceNotFound.token", "arm.ArtifactNotFound",
	"arm.ExtensionVersionNotFound", "arm.ExtensionTwice", "arm.OperationNotAllowed.extension", "arm.ExtensionTwice.set", "arm.NoInstance", "arm.OperationNotAllowed.model", "arm.ExtensionBeingRemoved",
	"arm.OperationNotAllowed.instance", "arm.Capacity", "arm.PropertyChangeNotAllowed.set-image", "arm.PropertyChangeNotAllowed.set-account", "arm.PropertyChangeNotAllowed.set-size", "arm.Deployment",
	"arm.DeploymentActive", "arm.InvalidDeploymentMode.complete", "arm.InvalidDeploymentMode",
)

func TestMain(m *testing.M) { os.Exit(heard.Main(m)) }
