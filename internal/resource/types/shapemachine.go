package types

// The shapes of what is kept of machines and read by nobody. Source: the models of
// Azure's REST references for Microsoft.Compute and Microsoft.HybridCompute.

// osDisk is the disk of a machine, or of the instances of a scale set. What would
// promise that it is encrypted, or is another one than the image's, is refused.
type osDisk struct {
	OSType       string       `json:"osType,omitempty"`
	Name         string       `json:"name,omitempty"`
	Caching      string       `json:"caching,omitempty" one:"None ReadOnly ReadWrite"`
	CreateOption string       `json:"createOption,omitempty" one:"FromImage"`
	DeleteOption string       `json:"deleteOption,omitempty" one:"Delete Detach"`
	Size         *int         `json:"diskSizeGB,omitempty"`
	Accelerator  *bool        `json:"writeAcceleratorEnabled,omitempty"`
	Managed      *managedDisk `json:"managedDisk,omitempty"`
	Ephemeral    *struct {
		Option    string `json:"option,omitempty" one:"Local"`
		Placement string `json:"placement,omitempty" one:"CacheDisk ResourceDisk NvmeDisk"`
	} `json:"diffDiskSettings,omitempty"`

	Encryption any `json:"encryptionSettings,omitempty" kind:"none"`
	VHD        any `json:"vhd,omitempty" kind:"none"`
	Image      any `json:"image,omitempty" kind:"none"`
	Containers any `json:"vhdContainers,omitempty" kind:"none"`
}

type managedDisk struct {
	Storage string `json:"storageAccountType,omitempty" one:"Standard_LRS StandardSSD_LRS Premium_LRS UltraSSD_LRS Premium_ZRS StandardSSD_ZRS PremiumV2_LRS"`

	ID         any `json:"id,omitempty" kind:"none"`
	Encryption any `json:"diskEncryptionSet,omitempty" kind:"none"`
	Security   any `json:"securityProfile,omitempty" kind:"none"`
}

// patches says how a machine gets updates of its system: it is its own affair here.
type patches struct {
	Mode       string `json:"patchMode,omitempty" one:"ImageDefault AutomaticByPlatform"`
	Assessment string `json:"assessmentMode,omitempty" one:"ImageDefault AutomaticByPlatform"`
	Platform   *struct {
		Reboot string `json:"rebootSetting,omitempty" one:"Unknown IfRequired Never Always"`
		Bypass *bool  `json:"bypassPlatformSafetyChecksOnUserSchedule,omitempty"`
	} `json:"automaticByPlatformSettings,omitempty"`
}

// interfaceUse is how a machine uses its network interface.
type interfaceUse struct {
	Primary any    `json:"primary,omitempty" kind:"flag"`
	Delete  string `json:"deleteOption,omitempty" one:"Delete Detach"`
}

type sizeProperties struct {
	CPUs    *int `json:"vCPUsAvailable,omitempty"`
	PerCore *int `json:"vCPUsPerCore,omitempty"`
}

// setHardware is the hardware profile of a scale set's instances.
type setHardware struct {
	Size *sizeProperties `json:"vmSizeProperties,omitempty"`
}

type diagnostics struct {
	Boot *struct {
		Enabled *bool  `json:"enabled,omitempty"`
		Storage string `json:"storageUri,omitempty"`
	} `json:"bootDiagnostics,omitempty"`
}

type capabilities struct {
	UltraSSD    *bool `json:"ultraSSDEnabled,omitempty"`
	Hibernation *bool `json:"hibernationEnabled,omitempty"`
	FIPS        any   `json:"enableFips1403Encryption,omitempty" kind:"none"`
}

// applications: nothing installs them.
type applications struct {
	Gallery any `json:"galleryApplications,omitempty" kind:"none"`
}

type billing struct {
	Maximum *float64 `json:"maxPrice,omitempty"`
}

type scheduledEvents struct {
	Terminate *notification `json:"terminateNotificationProfile,omitempty"`
	Image     *notification `json:"osImageNotificationProfile,omitempty"`
}

type notification struct {
	Before string `json:"notBeforeTimeout,omitempty"`
	Enable any    `json:"enable,omitempty" kind:"flag"`
}

// rollingUpgrade is told to a scale set whose instances take a new model at once, or
// when they are told.
type rollingUpgrade struct {
	Batch     *int   `json:"maxBatchInstancePercent,omitempty"`
	Unhealthy *int   `json:"maxUnhealthyInstancePercent,omitempty"`
	Upgraded  *int   `json:"maxUnhealthyUpgradedInstancePercent,omitempty"`
	Pause     string `json:"pauseTimeBetweenBatches,omitempty"`
	CrossZone *bool  `json:"enableCrossZoneUpgrade,omitempty"`
	First     *bool  `json:"prioritizeUnhealthyInstances,omitempty"`
	Rollback  *bool  `json:"rollbackFailedInstancesOnPolicyBreach,omitempty"`
	Surge     *bool  `json:"maxSurge,omitempty"`
}

// setNames are the DNS settings of a scale set's interface.
type setNames struct {
	Servers []string `json:"dnsServers,omitempty"`
}

func (n *setNames) form(path string) error { return addresses(path+".dnsServers", n.Servers) }

// place is where a machine from elsewhere stands.
type place struct {
	Name     string `json:"name,omitempty"`
	City     string `json:"city,omitempty"`
	District string `json:"district,omitempty"`
	Country  string `json:"countryOrRegion,omitempty"`
}

// hybridOS is what is wanted of the system of a machine from elsewhere.
type hybridOS struct {
	Computer any              `json:"computerName,omitempty" kind:"read"`
	Windows  *hybridOSPatches `json:"windowsConfiguration,omitempty"`
	Linux    *hybridOSPatches `json:"linuxConfiguration,omitempty"`
}

type hybridOSPatches struct {
	Patches *struct {
		Mode       string `json:"patchMode,omitempty" one:"ImageDefault AutomaticByPlatform AutomaticByOS Manual"`
		Assessment string `json:"assessmentMode,omitempty" one:"ImageDefault AutomaticByPlatform"`
		Hot        *bool  `json:"enableHotpatching,omitempty"`
		Status     any    `json:"status,omitempty" kind:"read"`
	} `json:"patchSettings,omitempty"`
}
