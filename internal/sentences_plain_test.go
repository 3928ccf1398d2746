package internal_test

import "strings"

// plain are refusals of the packages of met that say all that there is to say, by
// package and code, with the number of their sentences where it is not one: they stand in the last part of the page.
func plain() map[string]int {
	known := map[string]int{}
	for _, list := range [][]string{
		// What is wrong with a file, folder or program of the person's own computer.
		{"cli CannotRead 2", "cli Command", "cli ConfigFile", "cli FileExists", "cli KeyFile 2", "cli KeysFolder", "cli TemporaryFolder 3", "cli Socket", "cli SSHClient", "cli/client ConfigFolder",
			"cli NotAnExport", "cli NoHostName"},
		// A command that finds nothing, too much, or is taken back.
		{"cli Ambiguous", "cli AuditBroken 2", "cli Cancelled", "cli ExtensionNotFound", "cli MachineNotFound", "cli NoAssignment", "cli PrincipalNotFound", "cli RoleNotFound 2", "cli SessionNotEndedYet", "cli UserNotFound",
			"cli/client SubscriptionAmbiguous", "credential Request_ResourceNotFound", "credential PasswordChanged", "machine PrincipalNotFound", "machine SessionAmbiguous", "machine TooManyEnded",
			"oauth SignInNotFound", "oauth TooManyRevoked"},
		// An answer that no Sallyport gives: something else is there, or it is broken.
		{"agent AnswerUnreadable", "agent NoServerTime", "cli BadAnswer 3", "cli BadCertificate", "cli OtherTenant", "cli/client BadAnswer 2", "cli/client BadCallback", "cli/client BadDeviceCode", "cli/client BadDiscovery 2",
			"cli/client BadIDToken", "cli/client BadOperation", "cli/client BadToken 3", "cli/client NoDeviceFlow", "cli/client NoMetadataService", "cli/client NotSallyport"},
		// How a machine was set up, or a build made: for who does that.
		{"agent AgentRuns", "agent AlreadyJoined", "agent DoctorFound", "agent Late", "agent NoManifest", "agent NoSnapshot", "agent NoSuchPackage", "agent NotTheNetworkUser", "agent RootRequired", "agent SandboxFailed",
			"agent ServerNotTrusted", "agent ServerUnreachable", "agent SnapshotOld", "agent SocketMissing", "agent SystemUserMissing", "agent SystemctlFailed", "agent/linklocal MetadataAddressFailed 3",
			"agent/linklocal MetadataListenFailed", "agent/pin NotJoined", "cli NoAgent", "cli NotAMachine", "machine MachineKeyMissing"},
		// A path or condition that only a program's author has wrong, a door that is not
		// for people, a second server of which both lose nothing, and data that no
		// request makes.
		{"httpd Closed", "httpd/arm CertificateNotFound", "httpd InvalidResourcePath", "httpd MachineKeyMissing", "resource InvalidAction", "resource InvalidResourceType", "resource OperationNotFound",
			"resource PreconditionFailed 2", "httpd PreconditionFailed", "resource SubscriptionNotFound", "resource ResourceMoveNotSupported", "resource/types Conflict", "resource/types NotFound", "directory TenantExists", "resource/types DeploymentExists"},
		// Of a running server, to programs, machines and its log; and what only a tool
		// that writes keys or packages could have done.
		{"keystore KeyElsewhere", "keystore KeyInvalid 5", "keystore ManifestKeyOffline", "keystore RepositoryKeyMissing", "keystore/sshagent SignerKeyOther", "keystore/sshagent SignerKeyUnfit", "repository Packages 4",
			"server \x00", "server AADSTS90033", "server CannotWrite 2", "server InvalidAuthenticationToken", "server InvalidDeviceRequest", "server KeyNotListed 2", "server KeyWithdrawn",
			"server MachineBackEndElsewhere", "server MachineGone", "server MachineNotKnown", "server MachineUnknown", "server NoPackages", "server NoSuchPackage 2", "server StateFolder", "server invalid_request 3",
			"store DatabaseWentBack", "store FeedTrimmed", "store InvalidCharacter", "store MachineKeyInUse", "store SchemaMismatch", "store SchemaMissing", "store StoreNotCreated", "store StoreReadOnly"},
		// A mistake of the program that asks, which its author reads.
		{"oauth AADSTS50027 4", "oauth AADSTS50058", "oauth AADSTS500112", "oauth AADSTS501481 3", "oauth AADSTS65001 2", "oauth AADSTS65004", "oauth AADSTS700005", "oauth AADSTS7000112", "oauth AADSTS700016", "oauth AADSTS700021",
			"oauth AADSTS7000216 2", "oauth AADSTS7000218 4", "oauth AADSTS700023", "oauth AADSTS700024 3", "oauth AADSTS700025", "oauth AADSTS700027 2", "oauth AADSTS70008", "oauth AADSTS70019", "oauth AADSTS700232",
			"oauth AADSTS900144", "oauth AADSTS9002313", "oauth AADSTS50173", "oauth ExpiredAuthenticationToken", "oauth InvalidAuthenticationToken 5", "oauth TooManyCodes", "oauth TooManyDeviceCodes", "machine InventoryTooOften"},
	} {
		for _, line := range list {
			f := strings.Fields(line)
			known[f[0]+" "+f[1]] = 1
			if len(f) > 2 {
				known[f[0]+" "+f[1]] = int(f[2][0] - '0')
			}
		}
	}
	return known
}
