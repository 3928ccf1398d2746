// Package imds answers as the instance metadata service of Azure, for the machine
// that it runs on: tokens of the managed identity, facts about the instance, and,
// which Azure lacks, SSH certificates of the identity
// (https://learn.microsoft.com/azure/virtual-machines/instance-metadata-service,
// https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token).
//
// It refuses: callers whom the root part has not allowed, and requests that
// somebody forwarded. Each connection comes with the verdict about its owner and
// carries one request.
package imds
