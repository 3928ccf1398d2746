package audit

import "slices"

const (
	principalTarget   = "object id of the principal"
	userTarget        = "object id of the user"
	applicationTarget = "object id of the application"
	servicesTarget    = "object id of the service principal"
	groupTarget       = "object id of the group"
	policyTarget      = "id of the policy; empty for one that was refused before it had an id"
	resourceTarget    = "resource id"
	scopeTarget       = "scope"
	machineTarget     = "resource id of the machine"
)

func signInKinds() []Kind {
	grant, scope, code := Key{"grant", "OAuth grant"}, Key{"scope", "scopes asked for"}, Key{"code", "Entra's number of the refusal"}
	session, reason := Key{"session", "id of the sign-in session"}, Key{"reason", "why not"}
	factors, family := Key{"factors", "factors with their times"}, Key{"family", "id of the refresh family"}
	report := Key{"reportOnly", "report-only policies that would have refused"}
	caller := Key{"caller", "account that asked for a managed identity, as its machine says"}
	return []Kind{
		{"signin.password", "A password was shown.", SurfaceSignIn, didOrDenied(), userTarget + "; empty for an unknown name", []Key{reason, {"mustChange", "the password is right and must be changed first"}}},
		{"signin.client", "A client could not prove itself.", SurfaceSignIn, refused(), "client id", []Key{{"code", "the refusal in Entra's words"}}},
		{"signin.session", "A sign-in session began.", SurfaceSignIn, did(), userTarget, []Key{session, {"factors", "factors that were shown"}}},
		{"signin.end", "Somebody signed out.", SurfaceSignIn, did(), userTarget, []Key{session}},
		{"signin.revoke", "One sign-in of a user was ended.", SurfaceSignIn, didOrDenied(), userTarget, []Key{{"session", "id of the sign-in session or refresh family"}}},
		{"certificate.revoke", "A user certificate was revoked before its end.", SurfaceSignIn, did(), principalTarget, []Key{{"serial", "serial number"}, reason}},
		{"authorize.code", "An authorization code was given, or one was used a second time.", SurfaceSignIn, didOrDenied(), "client id; " + userTarget + " for a second use", []Key{scope, reason}},
		{"device.code", "A device code was confirmed or refused on the page, or an unknown one was typed.", SurfaceSignIn, didOrDenied(), userTarget, []Key{{"device", "address that asked for the code"}, scope, reason, {"machine", "id of the machine that asked for a login"}, {"login", "login name that it asked for"}}},
		{"token.issue", "A token was issued or refused.", SurfaceSignIn, didOrDenied(), principalTarget, []Key{grant, scope, factors, family, code, caller, report}},
		{"token.reuse", "A refresh token was used again after its successor: its family has ended.", SurfaceSignIn, refused(), principalTarget, []Key{family}},
		{"certificate.issue", "A user certificate was issued or refused. The record is the certificate's only one.", SurfaceSignIn, didOrDenied(), principalTarget, []Key{
			{"serial", "serial number"}, {"keyId", "key id, which is the correlation id"}, {"principals", "principals"}, {"fingerprint", "of the person's key"}, {"authority", "fingerprint of the CA key"},
			{"validAfter", "begin"}, {"validBefore", "end"}, grant, factors, {"policy", "revision of the policies"}, {"machine", "the one machine it is good for"},
			report, code, scope, family, session, caller,
		}},
	}
}

func directoryKinds() []Kind {
	policy := []Key{{"displayName", "display name"}, {"state", "enabled, disabled or enabledForReportingButNotEnforced"}, {"policy", "the whole policy, JSON"}}
	name, upn := Key{"displayName", "display name"}, Key{"userPrincipalName", "sign-in name"}
	owner := Key{"owner", "object id of the owner"}
	app, member, role, key := Key{"appId", "application (client) id"}, Key{"member", "object id of the member"}, Key{"role", "directory role"}, Key{"keyId", "id of the credential"}
	return []Kind{
		{"tenant.create", "The deployment was made.", SurfaceDirectory, did(), "tenant id", []Key{{"domain", "initial domain"}}},
		{"tenant.update", "The tenant's settings were changed: the ways to sign in, and how long that lasts.", SurfaceDirectory, did(), "tenant id", []Key{{"allowPasswordGrant", "true or false"}, {"allowDeviceCode", "true or false"}, {"allowPreviewLogin", "true or false"},
			{"longestSessionMinutes", "after how many minutes machines end sessions; 0: never"}, {"offlineUserSeconds", "how long logins hold without the server"}, {"offlineAdministratorSeconds", "how long sudo does"}}},
		{"user.create", "A user was created.", SurfaceDirectory, didOrDenied(), userTarget, []Key{upn}},
		{"user.update", "A user was changed.", SurfaceDirectory, didOrDenied(), userTarget, []Key{{"properties", "names of the changed properties"}}},
		{"user.delete", "A user was deleted.", SurfaceDirectory, didOrDenied(), userTarget, []Key{upn}},
		{"user.revokeSessions", "A user's sessions and certificates were revoked.", SurfaceDirectory, didOrDenied(), userTarget, nil},
		{"user.resetPassword", "Somebody set another's password.", SurfaceDirectory, didOrDenied(), userTarget, nil},
		{"user.changePassword", "A user changed the own password.", SurfaceDirectory, did(), userTarget, nil},
		{"user.oneTimePassword", "A one-time password was made.", SurfaceDirectory, did(), userTarget, nil},
		{"group.create", "A group was created.", SurfaceDirectory, didOrDenied(), groupTarget, []Key{name}},
		{"group.update", "A group was changed.", SurfaceDirectory, didOrDenied(), groupTarget, nil},
		{"group.delete", "A group was deleted.", SurfaceDirectory, didOrDenied(), groupTarget, []Key{name}},
		{"group.addMember", "A member was added to a group.", SurfaceDirectory, didOrDenied(), groupTarget, []Key{member}},
		{"group.removeMember", "A member was removed from a group.", SurfaceDirectory, didOrDenied(), groupTarget, []Key{member}},
		{"group.addOwner", "A group got an owner, which gives the owner no right.", SurfaceDirectory, didOrDenied(), groupTarget, []Key{owner}},
		{"group.removeOwner", "A group lost an owner.", SurfaceDirectory, didOrDenied(), groupTarget, []Key{owner}},
		{"application.create", "An application was registered.", SurfaceDirectory, didOrDenied(), applicationTarget, []Key{app, name}},
		{"application.update", "An application was changed.", SurfaceDirectory, didOrDenied(), applicationTarget, nil},
		{"application.delete", "An application was deleted.", SurfaceDirectory, didOrDenied(), applicationTarget, nil},
		{"application.addOwner", "An application got an owner.", SurfaceDirectory, didOrDenied(), applicationTarget, []Key{owner}},
		{"application.removeOwner", "An application lost an owner.", SurfaceDirectory, didOrDenied(), applicationTarget, []Key{owner}},
		{"servicePrincipal.create", "A service principal was created.", SurfaceDirectory, didOrDenied(), servicesTarget + "; the application's client id when refused", []Key{app}},
		{"servicePrincipal.update", "A service principal was enabled or disabled.", SurfaceDirectory, didOrDenied(), servicesTarget, []Key{{"accountEnabled", "true or false"}}},
		{"servicePrincipal.revokeSessions", "The tokens and certificates of a service principal or managed identity were revoked.", SurfaceDirectory, did(), servicesTarget, nil},
		{"servicePrincipal.delete", "A service principal was deleted.", SurfaceDirectory, didOrDenied(), servicesTarget, nil},
		{"credential.addSecret", "A client secret was added.", SurfaceDirectory, didOrDenied(), "object id of the owner", []Key{key, {"end", "when it expires"}}},
		{"credential.addCertificate", "A client certificate was added.", SurfaceDirectory, didOrDenied(), "object id of the owner", []Key{key, {"sha256", "of the certificate"}}},
		{"credential.remove", "A client secret or certificate was removed.", SurfaceDirectory, didOrDenied(), "object id of the owner", []Key{key}},
		{"consent.grant", "An application was given delegated permissions, by an administrator or on the consent page.", SurfaceDirectory, didOrDenied(),
			"client id, object id of the client's service principal, or id of the grant that was changed", []Key{{"scope", "permissions"}, {"resource", "the resource they are for"}, {"principal", "the person; empty for everybody"}, {"consentType", "Principal or AllPrincipals"}}},
		{"consent.revoke", "Delegated permissions were taken back.", SurfaceDirectory, didOrDenied(), "object id of the client's service principal", []Key{{"grant", "id of the grant"}}},
		{"consent.policy", "Who may consent was changed.", SurfaceDirectory, didOrDenied(), "tenant id", []Key{{"users", "true when people may consent for themselves"}}},
		{"conditionalAccessPolicy.create", "A Conditional Access policy was made.", SurfaceDirectory, didOrDenied(), policyTarget, policy},
		{"conditionalAccessPolicy.update", "A Conditional Access policy was changed.", SurfaceDirectory, didOrDenied(), policyTarget, policy},
		{"conditionalAccessPolicy.delete", "A Conditional Access policy was removed.", SurfaceDirectory, didOrDenied(), policyTarget, policy},
		{"appRole.assign", "An application was given a permission of its own.", SurfaceDirectory, didOrDenied(), servicesTarget, []Key{{"role", "id of the permission"}, {"resource", "object id of the resource's service principal"}}},
		{"appRole.remove", "An application's own permission was taken away.", SurfaceDirectory, didOrDenied(), servicesTarget, []Key{{"role", "id of the permission"}}},
		{"directoryRole.assign", "A directory role was given.", SurfaceDirectory, didOrDenied(), principalTarget, []Key{role}},
		{"directoryRole.remove", "A directory role was taken away.", SurfaceDirectory, didOrDenied(), principalTarget + "; the assignment's id when refused", []Key{role}},
	}
}

func resourceKinds() []Kind {
	kind := Key{"type", "resource type"}
	role := []Key{{"id", "name of the assignment"}, {"role", "role definition"}, {"principal", "object id that holds it"}, {"principalType", "User, Group or ServicePrincipal"}}
	definition := []Key{{"name", "name of the role"}, {"assignableScopes", "where it may be assigned"}, {"permissions", "what it allows, JSON"}}
	parent := []Key{{"parent", "the management group above"}}
	return []Kind{
		{"resource.authorize", "A caller may not do what it asked for (writes and actions; a refused read is not recorded).", SurfaceResources, refused(), scopeTarget, []Key{{"action", "the missing action"}}},
		{"resource.write", "A resource was created or changed.", SurfaceResources, did(), resourceTarget, []Key{kind, {"created", "true for a new one"}}},
		{"resource.delete", "The deletion of a resource was asked for.", SurfaceResources, did(), resourceTarget, []Key{kind}},
		{"resource.deleted", "A resource is gone.", SurfaceResources, did(), resourceTarget, nil},
		{"resource.move", "A resource was moved to another resource group; role assignments made at it were deleted.", SurfaceResources, did(), "the resource's new id", []Key{kind, {"from", "its old id"}}},
		{"resource.action", "An action on a resource was begun: start, stop, restart.", SurfaceResources, did(), resourceTarget, []Key{{"action", "the action"}}},
		{"resource.reconcile", "A resource could not be brought to its wanted state.", SurfaceResources, []Outcome{Failure}, resourceTarget, []Key{{"code", "error code"}}},
		{"roleAssignment.write", "A role was given.", SurfaceResources, did(), scopeTarget, role},
		{"roleAssignment.delete", "A role was taken away.", SurfaceResources, did(), scopeTarget, role},
		{"roleDefinition.write", "A custom role was created or changed.", SurfaceResources, did(), "id of the definition", definition},
		{"roleDefinition.delete", "A custom role was deleted.", SurfaceResources, did(), "id of the definition", definition},
		{"managementGroup.write", "A management group was created or changed.", SurfaceResources, did(), resourceTarget, parent},
		{"managementGroup.delete", "A management group was deleted.", SurfaceResources, did(), resourceTarget, nil},
		{"subscription.move", "A subscription was moved to another management group.", SurfaceResources, did(), "id of the subscription", parent},
	}
}

func machineKinds() []Kind {
	id, key := Key{"machineId", "id of the machine"}, Key{"key", "thumbprint of its key"}
	stream := []Key{id, {"last", "number of the last event before"}, {"next", "number of the event that came"}, {"missing", "how many did not come"}, {"proof", "hostKey when the host key signed the numbers, else none"}}
	stand := []Key{{"id", "of the upgrade"}, {"version", "of the agent"}, {"ring", "whose turn it is"}, {"number", "of that ring"}, {"rings", "how many there are"}, {"reason", "why it stopped"}}
	upgrade := func(kind, text string, outcomes []Outcome) Kind {
		return Kind{kind, text, SurfaceMachines, outcomes, "name of the upgrade", stand}
	}
	return append([]Kind{
		upgrade("agentUpgrade.create", "Somebody began to upgrade machines' agents, ring by ring.", did()),
		upgrade("agentUpgrade.pause", "Somebody paused an upgrade.", did()),
		upgrade("agentUpgrade.resume", "Somebody let a paused or stopped upgrade go on.", did()),
		upgrade("agentUpgrade.cancel", "Somebody cancelled an upgrade.", did()),
		upgrade("agentUpgrade.delete", "Somebody deleted an upgrade that was over.", did()),
		upgrade("agentUpgrade.ring", "A ring got through and was watched; the next one's turn has come.", did()),
		upgrade("agentUpgrade.stop", "An upgrade stopped by itself: too many machines went back or came to no end.", []Outcome{Failure}),
		upgrade("agentUpgrade.finish", "The last ring got through.", did()),
		{"machine.joinToken", "A join token was made, or refused to who may not make one.", SurfaceMachines, didOrDenied(), machineTarget, []Key{id, {"expires", "when it expires"}, {"reason", "why not"}}},
		{"machine.join", "A machine joined, or showed a token that was used, is expired, or is of somebody who may not make it any more.", SurfaceMachines, didOrDenied(), machineTarget, []Key{id, key, {"reason", "why not"}}},
		{"machine.rejoin", "A machine joined again with another key; the old one is dead.", SurfaceMachines, did(), machineTarget, []Key{id, key, {"replacedKey", "thumbprint of the key that died"}}},
		{"machine.remove", "A machine was removed.", SurfaceMachines, did(), machineTarget, []Key{id, key}},
		{"machine.eventGap", "A machine's events lack numbers: it gave some up because its queue was full, or what carries them withheld them.", SurfaceMachines, []Outcome{Failure}, machineTarget, stream},
		{"machine.eventRewind", "The numbers of a machine's events went back: it was restored or copied, or its disk was full when its agent died.", SurfaceMachines, []Outcome{Failure}, machineTarget, stream},
		{"machineSession.end", "Somebody ended a session on a machine.", SurfaceMachines, did(), machineTarget, []Key{id, {"session", "id of the session"}, {"objectId", "whose it is"}, {"login", "login name"}}},
		{"hostCertificate.issue", "A host certificate was issued.", SurfaceMachines, did(), machineTarget, []Key{{"principal", "the one principal"}, {"serial", "serial number"}, {"hostKey", "the host key"}, {"validBefore", "end"}}},
	}, reportedKinds()...)
}

// reportedKinds are the decisions of machines: the machine's word, under its
// principal. docs/machine-protocol.md has the reports that carry them.
func reportedKinds() []Kind {
	said := func(more ...Key) []Key {
		return append([]Key{{"objectId", "whom it concerns"}, {"login", "login name"}, {"machineTime", "the machine's time"},
			{"sequence", "number of the event"}, {"proof", "hostKey when the host key signed it, else none"}}, more...)
	}
	decision := said(Key{"service", "PAM service"}, Key{"from", "remote host, as PAM says"}, Key{"tty", "terminal"}, Key{"by", "user who asked"}, Key{"reason", "what decided"},
		Key{"serial", "of the certificate"}, Key{"keyId", "of the certificate"})
	built := []Key{{"from", "the build before"}, {"to", "the new one"}, {"reason", "why it went back"}}
	opened := append(slices.Clone(decision), Key{"session", "id of the session"})
	return []Kind{
		{"machine.login.allow", "A login was let in.", SurfaceMachines, did(), machineTarget, decision},
		{"machine.login.deny", "A login was refused.", SurfaceMachines, refused(), machineTarget, decision},
		{"machine.sudo.allow", "sudo or su was allowed.", SurfaceMachines, did(), machineTarget, decision},
		{"machine.sudo.deny", "sudo or su was refused.", SurfaceMachines, refused(), machineTarget, decision},
		{"machine.local.allow", "A service of the machine itself (cron, at, systemd) ran for a person.", SurfaceMachines, did(), machineTarget, decision},
		{"machine.local.deny", "A service of the machine itself was refused.", SurfaceMachines, refused(), machineTarget, decision},
		{"machine.session.open", "A session began.", SurfaceMachines, did(), machineTarget, opened},
		{"machine.session.close", "A session ended.", SurfaceMachines, did(), machineTarget, opened},
		{"machine.session.end", "A machine ended a session, or everything of a person.", SurfaceMachines, did(), machineTarget, said(Key{"session", "id of the session, where it was one"},
			Key{"cause", "access, elevation, certificate, ended, age, key or machine"}, Key{"processes", "how many were ended"}, Key{"left", "what goes on running although the person began it"}, Key{"uid", "of the person"}, Key{"message", "what the person read"})},
		{"machine.drift.fail", "Somebody changed a machine so that it no longer protects directory accounts; they are refused there until that is undone.", SurfaceMachines, []Outcome{Failure}, machineTarget, said(Key{"reason", "what was changed, and where"})},
		{"machine.drift.heal", "What weakened a machine is undone.", SurfaceMachines, did(), machineTarget, said(Key{"reason", "what it was"})},
		{"machine.state.fail", "A file that a machine's agent keeps is damaged; people of the directory are refused there until it is mended.", SurfaceMachines, []Outcome{Failure}, machineTarget, said(Key{"part", "held, manifest or names"}, Key{"reason", "what is wrong, and how it is mended"})},
		{"machine.state.heal", "What was damaged is whole again.", SurfaceMachines, did(), machineTarget, said(Key{"part", "held, manifest or names"}, Key{"reason", "what it was"})},
		{"machine.identity.deny", "Somebody on the machine asked for its managed identity and may not. One user's refusals within ten minutes are one event.", SurfaceMachines, refused(), machineTarget,
			said(Key{"uid", "of the process"}, Key{"reason", "what decided"})},
		{"machine.identity.member", "Root of the machine decided who may use its managed identity.", SurfaceMachines, did(), machineTarget, said(Key{"change", "allow or deny"})},
		{"machine.auditHead.fail", "A signed head of the audit log contradicts what the machine has seen before.", SurfaceMachines, []Outcome{Failure}, machineTarget, said(Key{"reason", "what is wrong"}, Key{"writer", "of the chain"},
			Key{"headSequence", "of the head"}, Key{"hash", "of the head"}, Key{"heldSequence", "of the head that the machine holds"}, Key{"heldHash", "its hash"})},
		{"machine.document.deny", "The network part of the machine's agent brought a document that the root part refused: forged, foreign, or older than one that was seen. One a minute of each kind.", SurfaceMachines, refused(), machineTarget,
			said(Key{"document", "manifest, accounts, snapshot or host certificate"}, Key{"reason", "why it was refused"}, Key{"repeats", "how many more were refused since the last such event"})},
		{"machine.eventQueue.fail", "Events were given up because the queue was full, or could not be written to the machine's disk.", SurfaceMachines, []Outcome{Failure}, machineTarget,
			said(Key{"reason", "what happened"}, Key{"dropped", "how many were given up"}, Key{"kinds", "of which types"})},
		{"machine.upgrade.begin", "A machine begins to install another build of its agent.", SurfaceMachines, did(), machineTarget, said(built...)},
		{"machine.upgrade.try", "The new build of a machine's agent runs and has to prove itself.", SurfaceMachines, did(), machineTarget, said(built...)},
		{"machine.upgrade.done", "A machine runs the new build: a login was made with it, and the server has heard it.", SurfaceMachines, did(), machineTarget, said(built...)},
		{"machine.upgrade.fail", "The new build of a machine's agent did not prove itself, and the one before is back.", SurfaceMachines, []Outcome{Failure}, machineTarget, said(built...)},
		{"machine.other", "The machine reported an event that this server does not know.", SurfaceMachines, []Outcome{Success, Denied, Failure}, machineTarget, said(Key{"event", "its type"}, Key{"facts", "its facts, JSON"})},
	}
}

func serverKinds() []Kind {
	const tenantTarget = "tenant id"
	restore := Key{"restore", "id of the restore"}
	taken := Key{"backupTime", "when the backup was taken"}
	return []Kind{
		{Restored, "A backup was restored; written to every chain that it held. Sequence numbers go on higher: those left out were lost with the restore.", SurfaceServer, did(), tenantTarget, []Key{
			restore, {"backup", "id of the backup"}, taken, {"build", "that wrote the backup"}, {"position", "of the change feed in it"}, {"epoch", "from now on"},
			{LastSequence, "of this chain in the backup"}, {"lastHash", "of that record"}, {"localUid", "uid that restored it"},
		}},
		{"administrator.recover", "Somebody with the server's own uid made an administrator, with no server running.", SurfaceServer, did(), userTarget, []Key{
			{"userPrincipalName", "sign-in name"}, {"created", "whether the account is new"}, {"localUid", "uid that did it"}}},
		{"restore.confirm", "An administrator confirmed the role assignments of a restored backup: the server issues again.", SurfaceServer, did(), tenantTarget, []Key{restore, taken}},
		{"audit.retention", "Somebody changed how long audit records are kept.", SurfaceServer, did(), "empty", []Key{{"days", "kept from now on; 0: for ever"}, {"before", "kept until now"}}},
		{"audit.checkpoint", "Records whose time is over are about to be deleted; a signed checkpoint accounts for them.", SurfaceServer, did(), "the writer of the chain", []Key{
			{"sequence", "of the last record that may go"}, {"hash", "of that record"}, {"before", "everything older may go"}}},
	}
}
