package cli

import (
	"strings"

	"github.com/spf13/cobra"
)

// addGroups builds the tree of commands: the groups, the rows of verbs.go, and
// the commands that have a file of their own.
func (a *app) addGroups(root *cobra.Command) {
	root.AddCommand(
		group("access", "Who gets in where, and why.", group("revocation", "What was taken away, and which machines know.")),
		group("account", "Subscriptions and the signed-in account.", group("session", "Where a user is signed in.")),
		group("tenant", "How people may sign in."),
		group("ad", "Users, groups, applications and service principals.",
			group("user", "Users."), group("app", "Applications.", group("permission", "What an application may do for people."), group("owner", "Owners of an application.")), group("signed-in-user", "The signed-in user."),
			group("group", "Groups.", group("member", "Members of a group."), group("owner", "Owners of a group, who have no right by it.")),
			group("sp", "Service principals.", group("credential", "Secrets of a service principal."), group("owner", "Owners of a service principal's application."))),
		group("audit", "The audit log.", group("retention", "How long audit records are kept.")),
		group("ca", "The keys that the deployment signs with."),
		group("cert", "Certificates of people and services."),
		group("cloud", "The server."),
		group("extension", "Extensions of this command line."),
		group("group", "Resource groups."),
		group("machine", "Machines and their agents.", group("token", "Tokens with which machines join."), group("identity", "The managed identity of a machine that joined."),
			group("extension", "Extensions of a machine that joined."), group("upgrade", "Upgrades of machines' agents, ring by ring.")),
		group("repository", "Packages that the server hands out."),
		group("resource", "Resources of any type."),
		group("role", "Roles.", group("assignment", "Role assignments."), group("definition", "Role definitions.")),
		group("session", "Sessions that are open on machines."),
		group("ssh", "SSH with certificates."),
		group("vm", "Virtual machines.", group("identity", "The managed identity of a VM."), group("image", "Images of VMs."),
			group("extension", "Extensions of a VM.", group("image", "Extensions that can be installed."))),
		group("vmss", "Scale sets of virtual machines.", group("identity", "The managed identity of a scale set."), group("extension", "Extensions in a scale set's model."),
			group("nic", "Network interfaces of instances.")),
	)
	for _, v := range verbs() {
		place(root, v.path, v.command(a))
	}
	for path, cmd := range a.special() {
		place(root, path, cmd)
	}
	for path, cmd := range a.ownerCommands() {
		place(root, path, cmd)
	}
	for path, cmd := range a.caCommands() {
		place(root, path, cmd)
	}
	for path, cmd := range a.setCommands() {
		place(root, path, cmd)
	}
	for path, cmd := range a.joinCommands() {
		place(root, path, cmd)
	}
}

// special returns the commands that make several calls or none, by path.
func (a *app) special() map[string]*cobra.Command {
	return map[string]*cobra.Command{
		"login": a.loginCommand(), "logout": a.logoutCommand(), "version": a.versionCommand(), "rest": a.restCommand(),
		"account show": a.accountShow(), "account list": a.accountList(), "account set": a.accountSet(), "account clear": a.accountClear(),
		"account get-access-token": a.accountToken(), "account password": group("password", "The password of an account.", a.passwordChange()),
		"account session revoke": a.sessionRevoke(), "access explain": a.accessExplain(), "access who": a.accessWho(), "access review": a.accessReview(), "cloud show": a.cloudShow(), "cloud print-az-setup": a.printAzSetup(),
		"audit list": a.auditList(), "audit tail": a.auditTail(), "audit export": a.auditExport(), "audit verify": a.auditVerify(),
		"extension add": a.extensionAdd(), "extension show": a.extensionShow(), "extension list": a.extensionList(),
		"repository script": a.repositoryScript(), "group exists": a.groupExists(), "resource move": a.resourceMove(),
		"vm create": a.vmCreate(), "vm show": a.vmShow(), "vm list": a.vmList(), "vm list-ip-addresses": a.vmAddresses(),
		"vm image list": a.imageList(), "vm identity assign": a.identityAssign(identityOfMachine()), "vm identity remove": a.identityRemove(identityOfMachine()),
		"vm extension set": a.extensionSet(), "vm extension image list": a.extensionImages(),
		"role assignment create": a.assignmentCreate(), "role assignment list": a.assignmentList(), "role assignment delete": a.assignmentDelete(),
		"role definition list": a.definitionList(), "role definition create": a.definitionCreate(), "role definition update": a.definitionUpdate(), "role definition delete": a.definitionDelete(),
		"ad group create": a.groupCreate(), "ad group show": a.adGroupShow(), "ad group delete": a.adGroupDelete(), "ad group member add": a.memberAdd(),
		"ad group member remove": a.memberRemove(), "ad group member list": a.memberList(), "ad group member check": a.memberCheck(),
		"ad app create": a.appCreate(), "ad app show": a.appShow(), "ad app delete": a.appDelete(),
		"ad app permission grant": a.permissionGrant(), "ad app permission list-grants": a.permissionGrants(),
		"ad sp show": a.spShow(), "ad sp delete": a.spDelete(), "ad sp create-for-rbac": a.spCreateForRBAC(), "ad sp credential reset": a.credentialReset(),
		"cert show": a.certShow(), "cert revoke": a.certRevoke(),
		"session list": a.machineSessionList(), "session show": a.machineSessionShow(), "session end": a.machineSessionEnd(),
		"ssh vm": a.sshVM(), "ssh config": a.sshConfig(), "ssh cert": a.sshCert(), "ssh renew": a.sshRenew(), "ssh agent": a.sshAgent(),
	}
}

// Attach puts a command of another package under a group of root.
func Attach(root *cobra.Command, path string, cmd *cobra.Command) { place(root, path, cmd) }

// place puts a command under the group that its path names.
func place(root *cobra.Command, path string, cmd *cobra.Command) {
	words := strings.Fields(path)
	parent := root
	for _, w := range words[:len(words)-1] {
		for _, c := range parent.Commands() {
			if c.Name() == w {
				parent = c
				break
			}
		}
	}
	parent.AddCommand(cmd)
}
